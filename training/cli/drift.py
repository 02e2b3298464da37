"""``python -m training drift``: a day compared with the reference of the version that answered."""

import datetime
from typing import TYPE_CHECKING, Literal

from features.cli import SkippedError, Summary
from features.datasets.catalog import schema_of
from features.options import OfDay, folder, from_flags, option
from features.places import Place
from features.schema import Schema
from training.requests import ReadsLake, Reports, Tracks

if TYPE_CHECKING:
    from training.data.dataset import ExampleTable
    from training.data.profile import Profile
    from training.monitoring.drift_days import Profiles, Source
    from training.monitoring.drift_job import Compared

SOURCES = ("log", "examples")
"""What is compared."""


@from_flags
class DriftRequest(OfDay, Reports, Tracks, ReadsLake):
    """Compare a day's features, scores, labels and slices with those that were learnt.

    The reference is in the artifact of the version that answered. What is beyond the noise of the
    last weeks is an alert; docs/drift.md says how that is decided.
    """

    artifacts: Place = folder("artifacts", "the exported rankers")
    log: Place | None = option(
        "the log of answers (else RANKING_LOG_FOLDER)", metavar="DIR", default=None
    )
    source: Literal["log", "examples"] | None = option(
        "what is compared: the log of answers, or, where none is kept, the day's examples (else "
        "the log where there is one)",
        default=None,
    )
    version: str | None = option(
        "whose reference (else of the version that answered most; of examples, the champion's)",
        metavar="VERSION",
        default=None,
    )
    due: bool = option(
        "instead of --date the oldest day of the week before it that has rows and no result, or "
        "none of labels that have come since; nothing to do where there is none",
        default=False,
    )
    evidently: bool = option("write a report of Evidently, too", default=False)


def drift(request: DriftRequest) -> Summary:
    """Compare the day, and write what was found."""
    from features.pages import site
    from training.monitoring import drift_job
    from training.monitoring.drift_page import drift_page, page_path

    schema, day = schema_of(request.dataset), request.date
    examples = _examples(request, schema)
    source = _source(request, schema, examples)
    path = page_path(schema.name, source.name, day)
    of_source = (request.reports / path).parent.parent
    compared = _compared(request, schema, _profiles(of_source, schema, source, examples))
    since = drift_job.drifted_before(of_source, day, is_second_look=request.due)
    found = drift_job.summary(compared, since=since)
    links = []
    if request.evidently:
        from training.monitoring.drift_evidently import write_report

        links.append(
            write_report(
                of_source / day.isoformat(),
                schema,
                reference=compared.reference,
                day=compared.profile,
            )
        )
    page = drift_page(f"{schema.name}: drift of {day}", compared, found, links=links)
    found["report"] = site.write(page, request.reports, path)
    drift_job.write(of_source, compared, found)
    return {**found, "markdown": site.text(page)}


def is_looked_at(request: DriftRequest, day: datetime.date) -> bool:
    """Whether a day has its result, with the labels that are there."""
    from training.monitoring.drift_job import waits
    from training.monitoring.drift_page import page_path

    examples = _examples(request, schema_of(request.dataset))
    pages = (request.reports / page_path(request.dataset, one, day) for one in SOURCES)
    return not all(waits(page.parent.parent, day, examples) for page in pages)


def _examples(request: DriftRequest, schema: Schema) -> "ExampleTable | None":
    """The examples; None where there are none, and the log is compared."""
    from training.data.dataset import ExampleTable

    try:
        return ExampleTable(request.lake, schema)
    except ValueError:
        if request.source == "examples":
            raise
        return None


def _source(request: DriftRequest, schema: Schema, examples: "ExampleTable | None") -> "Source":
    from features.prediction_log.settings import Logging
    from training.monitoring.drift_days import LandedExamples, LoggedAnswers

    settings = Logging.from_environment()
    log = request.log or (settings.folder if settings.has_folder else None)
    if request.source != "examples" and log is not None:
        return LoggedAnswers(log, schema)
    if request.source == "log":
        raise ValueError("--source log: no --log and no RANKING_LOG_FOLDER; the folder of the log")
    if examples is None:
        raise ValueError(f"{request.lake}: no examples of {schema.name}, and no log of answers")
    from training.artifact.artifact import load

    version = request.version or _champion(request, schema)
    score = load(request.artifacts / schema.name / version, schema).score
    return LandedExamples(examples, schema, version=version, score=score)


def _champion(request: DriftRequest, schema: Schema) -> str:
    from training.registry.aliases import CHAMPION
    from training.registry.mlflow_registry import Registry

    found = Registry(request.tracking, schema.name).alias(CHAMPION)
    if found is None:
        raise SkippedError("nothing has been promoted yet: there is no champion to compare with")
    return found


def _profiles(
    folder_of_days: Place, schema: Schema, source: "Source", examples: "ExampleTable | None"
) -> "Profiles":
    from training.monitoring.drift_days import Profiles

    return Profiles(folder_of_days, schema, source, examples=examples)


def _compared(request: DriftRequest, schema: Schema, profiles: "Profiles") -> "Compared":
    """The day and the weeks before it, compared with the reference.

    Raises:
        SkippedError: The day has no rows, or the version no reference that fits the schema.
    """
    from training.monitoring.drift_job import compare, measure
    from training.monitoring.drift_judge import HISTORY_DAYS

    day = request.date
    today = profiles.of_day(day, anew=True)
    if today is None:
        raise SkippedError(f"{day}: no rows to compare; {_why_none(schema, day)}")
    reference = _reference(request, schema, request.version or str(today.about["version"]))
    measured = {day: measure(reference, today)}
    for back in range(1, HISTORY_DAYS + 1):
        before = day - datetime.timedelta(days=back)
        found = profiles.of_day(before)
        if found is not None:
            measured[before] = measure(reference, found)
    return compare(reference, today, measured, day)


def _why_none(schema: Schema, day: datetime.date) -> str:
    if not schema.maturity_days:
        return "nothing was answered, or the day has not landed"
    final = day + datetime.timedelta(days=schema.maturity_days)
    return f"nothing was answered; examples are there from the run of {final} on"


def _reference(request: DriftRequest, schema: Schema, version: str) -> "Profile":
    from training.artifact.reference import read_reference

    reference = read_reference(request.artifacts / schema.name / version)
    if reference is None:
        raise SkippedError(
            f"artifact {version}: has no reference: it was exported before there were any; the "
            "next version has one"
        )
    if reference.about["schema_fingerprint"] != schema.fingerprint():
        raise SkippedError(
            f"artifact {version}: its reference is of schema "
            f"{reference.about['schema_fingerprint']}; {schema.name} has {schema.fingerprint()}"
        )
    reference.about["version"] = version
    return reference
