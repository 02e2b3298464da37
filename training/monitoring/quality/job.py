"""The job: measures a day, and days before whose labels have become final; writes their pages."""

import datetime
import logging
from collections.abc import Sequence
from typing import NamedTuple

from features.cli import SkippedError
from features.pages import site
from features.pages.content import Page
from features.places import Place
from features.prediction_log.hashed_ids import IdHash
from features.prediction_log.settings import LogKey
from features.schema import Schema
from training.data.dataset import ExampleTable
from training.monitoring.logged_scores import log_folder, logged_rows
from training.monitoring.quality.age import AgeCurve, Seen, age_curve
from training.monitoring.quality.day import DayQuality, Outcome, final_labels, newest_shifts
from training.monitoring.quality.figures import Resampling
from training.monitoring.quality.mature_labels import LOG_COLUMNS, way_of
from training.monitoring.quality.page import quality_page
from training.monitoring.quality.results import (
    ESTIMATED,
    MEASURED,
    QualityDay,
    day_folder,
    read_days,
    write_day,
)
from training.monitoring.quality.scored_rows import COLUMNS, slice_columns
from training.monitoring.quality.versions import known_versions
from training.monitoring.quality_request import QualityRequest

ALERT = "quality-broken"
"""Page of infra/runbooks, without its ending."""
_SHADOW = "shadow"
_ORDER = ("answer_id", "role", "place")
"""Of the log's rows, whose files may have been joined since: equal rows have equal intervals."""

logger = logging.getLogger(__name__)


def measure_quality(schema: Schema, asked: QualityRequest) -> dict[str, object]:
    """Measure or estimate the quality of a day's answers, and of days that were open.

    Returns:
        The summary: what is said of each version of the day, alerts of versions that are broken on
        one of the measured days, and the curve of NE by age.

    Raises:
        SkippedError: The log has no answers of the day.
        ValueError: There is no log, or the ids of its rows were hashed by another key.
    """
    job = _Job(schema, asked)
    measured = [written for day in job.open_days() if (written := job.measured_by_now(day))]
    written = job.measure(asked.date)
    if written is None:
        raise SkippedError(f"{schema.name}: the log has no answers of {asked.date}")
    results = [one.result for one in (*measured, written)]
    return {
        **_said(written.result),
        "measured_days": [one["day"] for one in results if one["state"] == MEASURED],
        "alerts": alerts(results),
        "ne_by_age": written.curve.says,
        "retrain_after_days": written.curve.retrain_after_days,
        "report": written.report,
        "markdown": site.text(written.page),
    }


class _Written(NamedTuple):
    """What was written of a day."""

    result: QualityDay
    curve: AgeCurve
    """As it is with the day."""
    page: Page
    report: str
    """The page's path below the folder of reports."""


class _Job:
    """One run: the days that it may read, and what it writes of each."""

    def __init__(self, schema: Schema, asked: QualityRequest) -> None:
        self.schema, self.asked = schema, asked
        self.log = log_folder(asked.log)
        way_of(schema)  # an error, where nothing could ever be joined
        self.table = _examples(asked.lake, schema)
        secret = LogKey.from_environment().secret()
        self.hashed = None if secret is None else IdHash(secret)

    def history(self) -> list[QualityDay]:
        """Results as they are now of the days before, and of the day itself."""
        first = self.asked.date - datetime.timedelta(days=self.asked.curve_days)
        return list(read_days(self.asked.reports, self.schema.name, first, self.asked.date))

    def open_days(self) -> list[datetime.date]:
        """The days before that are estimated, the oldest first."""
        # No fewer than labels take to become final, and a week.
        num_days = max(self.asked.open_days, self.schema.maturity_days + 7)
        first = self.asked.date - datetime.timedelta(days=num_days)
        last = self.asked.date - datetime.timedelta(days=1)
        found = read_days(self.asked.reports, self.schema.name, first, last)
        return [
            datetime.date.fromisoformat(one["day"]) for one in found if one["state"] == ESTIMATED
        ]

    def measured_by_now(self, day: datetime.date) -> _Written | None:
        """As ``measure``, of a day before; None where it stays open, for whatever reason."""
        try:
            return self.measure(day, is_open=True)
        except ValueError as error:
            logger.warning("%s stays open: %s", day, error)
            return None

    def measure(self, day: datetime.date, *, is_open: bool = False) -> _Written | None:
        """Write a day's results and page; None where it has no rows, or labels as before."""
        schema = self.schema
        columns = [*COLUMNS, *LOG_COLUMNS, *_ORDER, *slice_columns(schema)]
        logged = logged_rows(self.log, schema, day, columns)
        if not len(logged):
            return None
        logged = logged.sort_by([(name, "ascending") for name in _ORDER])
        labels = final_labels(
            *(schema, self.table, logged),
            nearest=datetime.timedelta(minutes=self.asked.nearest_minutes),
            hashed=self.hashed,
        )
        if is_open and labels is None:
            return None
        before = [one for one in self.history() if one["day"] < str(day)]
        known = known_versions(
            *(schema, self.asked.artifacts, logged["model_version"].unique().to_pylist()),
            [version for one in before for version in one["versions"]],
        )
        quality = DayQuality(
            *(schema, day, logged, labels),
            known=known,
            shifts=newest_shifts(before, day, maturity_days=schema.maturity_days),
            limits=self.asked.limits(),
            how=Resampling(draws=self.asked.draws, seed=self.asked.seed),
        )
        outcome = quality.outcome(way_of(schema).value)
        write_day(self.asked.reports, outcome.result, outcome.parts)
        logger.info("%s: %s, %d rows", day, outcome.result["state"], len(logged))
        return self._page(outcome, [*before, outcome.result])

    def _page(self, outcome: Outcome, history: Sequence[QualityDay]) -> _Written:
        curve = age_curve(
            seen_by_age(history),
            loss=self.asked.loss,
            draws=self.asked.draws,
            seed=self.asked.seed,
        )
        page = quality_page(outcome, history, curve)
        path = f"{day_folder(self.schema.name, outcome.result['day'])}/index.html"
        return _Written(outcome.result, curve, page, site.write(page, self.asked.reports, path))


def seen_by_age(results: Sequence[QualityDay]) -> list[Seen]:
    """The normalised entropies of measured days from which age can be told."""
    seen = []
    for result in results:
        for one in result["versions"]:
            ne = one["measured"]["ne"]["value"] if one["measured"] else None
            if ne is None or ne <= 0 or one["age_days"] is None:
                continue
            if one["requests"] < result["min_requests"]:
                continue
            name = f"{one['version']} {one['role']}"
            seen.append(Seen(day=result["day"], version=name, age_days=one["age_days"], ne=ne))
    return seen


def alerts(results: Sequence[QualityDay]) -> list[dict[str, str]]:
    """One for all versions that are broken and answer callers, which those of a shadow do not."""
    broken = [
        f"{result['day']}: {one['version']} as {one['role']}: {one['reason']}"
        for result in results
        for one in result["versions"]
        if one["is_broken"] and one["role"] != _SHADOW
    ]
    runbook = f"infra/runbooks/{ALERT}.md"
    return [{"alert": ALERT, "runbook": runbook, "what": "; ".join(broken)}] if broken else []


def _said(result: QualityDay) -> dict[str, object]:
    """What the summary has of a day."""
    names = ("logged_rows", "found_rows", "not_found_rows", "other_key_rows", "impressions")
    said = ("version", "role", "requests", "age_days", "is_broken", "reason", "estimate_off")
    figures = ("ne", "log_loss", "calibration", "auc", "gauc")
    return {
        "dataset": result["dataset"],
        "day": result["day"],
        "state": result["state"],
        "joined_by": result["joined_by"],
        **{name: dict(result)[name] for name in names},
        "versions": [
            {
                **{name: dict(one)[name] for name in said},
                "figures": {
                    name: figure
                    for name, figure in (one["measured"] or one["estimated"]).items()
                    if name in figures
                },
            }
            for one in result["versions"]
        ],
    }


def _examples(lake: Place, schema: Schema) -> ExampleTable | None:
    """The examples; None where there are none yet."""
    try:
        return ExampleTable(lake, schema)
    except ValueError:
        return None
