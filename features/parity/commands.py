"""The command ``python -m features parity``: served inputs against the replayed join."""

import datetime
from typing import TYPE_CHECKING

from features.cli import Command, SkippedError, Summary
from features.datasets.catalog import schema_of
from features.options import OfDay, from_flags, option
from features.parity.results import (
    has_result,
    max_unexplained,
    path_of,
    require_share,
    write_result,
)
from features.places import Place
from features.requests import OfLake, OfReports

if TYPE_CHECKING:
    from features.lake.lake import Lake
    from features.parity.comparison import Comparison
    from features.parity.logged import Sample, Window
    from features.schema import Schema

RESULTS_TABLE = "parity_results"
"""Of the lake: a partition has the results of a whole day, by feature and cause."""
ALERT = "parity-broken"
_HOURS, _DAYS_DUE = 24, 7


@from_flags
class ParityRequest(OfLake, OfReports, OfDay):
    """Compare what the endpoint scored from with what the lake says that it should have been.

    Replays the as-of join for the logged answers of a day, or of an hour, and gives the share of
    candidates that differ, by feature and by cause. An hour judges the tables that are built by
    then; tables of state that a push keeps up to date are judged once their day is built.
    """

    hour: int | None = option("an hour of the day, 0 to 23, UTC (else the whole day)", default=None)
    log: Place | None = option(
        "the folder of the logs; without it, RANKING_LOG_FOLDER", metavar="DIR", default=None
    )
    max_candidates: int = option(
        "logged candidates to compare, about; of more, a sample of whole answers", default=200_000
    )
    max_unexplained: float = option(
        "share of candidates with an unexplained mismatch above which parity is broken",
        default_factory=max_unexplained,
    )
    due: bool = option(
        "instead of --date the oldest day of the week before it that is built and was not compared "
        "yet; nothing to do where there is none",
        default=False,
    )

    def __post_init__(self) -> None:
        """ValueError for an hour that no day has, a sample of nothing, or a limit that is none."""
        if self.hour is not None and not 0 <= self.hour < _HOURS:
            raise ValueError(f"--hour: {self.hour}; 0 to {_HOURS - 1}")
        if self.due and self.hour is not None:
            raise ValueError(f"--hour: {self.hour}; not with --due, which is of whole days")
        if self.max_candidates < 1:
            raise ValueError(f"--max-candidates: {self.max_candidates}; at least 1")
        require_share(self.max_unexplained)


def _parity(request: ParityRequest) -> Summary:
    from features.lake.lake import Lake
    from features.parity.comparison import compare
    from features.prediction_log.hashed_ids import IdHash
    from features.prediction_log.settings import LogKey

    schema = schema_of(request.dataset)
    lake = Lake(request.lake, schema.name)
    window, logged = _logged(request, schema, lake)
    key = LogKey.from_environment().secret()
    found = compare(schema, lake, logged, IdHash(key) if key else None)
    summary, features = _summary(request, window, logged, found), _features(found)
    content = {**summary, "features": features, "examples": found.examples}
    write_result(request.docs, schema.name, str(window), content)
    if window.hour is None and found.compared:
        _write_table(lake, window.day, found)
    differing = [one for one in features if one["share"]]
    return {**summary, "features": differing, **_shown(request, window, logged, found)}


def _logged(request: ParityRequest, schema: "Schema", lake: "Lake") -> tuple["Window", "Sample"]:
    """The window to compare and its answers; SkippedError where there are none."""
    from features.parity.logged import Window, sample
    from features.prediction_log.settings import Logging

    settings = Logging.from_environment()
    if request.log is None and not settings.has_folder:
        raise SkippedError("RANKING_LOG_FOLDER: not set; there is no log of answers")
    folder = request.log or settings.folder
    windows = _due(request, schema, lake) if request.due else [Window(request.date, request.hour)]
    for window in windows:
        found = sample(folder, schema.name, window, max_candidates=request.max_candidates)
        if found is not None:
            return window, found
    if request.due:
        raise SkippedError(f"{schema.name}: no day of the week before {request.date} is due")
    raise SkippedError(f"{folder / schema.name}: no answers of {windows[0]} in the log")


def _due(request: ParityRequest, schema: "Schema", lake: "Lake") -> "list[Window]":
    """The days before ``--date`` that all tables can judge, without those that have a result."""
    from features.lake.lake import ONE_DAY
    from features.parity.lake_rows import micros_of
    from features.parity.logged import Window
    from features.parity.replay import whole_until

    until = min(whole_until(schema, lake, table) for table in schema.tables)
    days = [Window(request.date - n * ONE_DAY) for n in range(_DAYS_DUE, 0, -1)]
    return [
        one
        for one in days
        if micros_of(one.end) <= until and not has_result(request.docs, schema.name, str(one))
    ]


def _summary(
    request: ParityRequest, window: "Window", logged: "Sample", found: "Comparison"
) -> Summary:
    """The result as plain values."""
    from features.parity.causes import CAUSES, Cause

    return {
        "dataset": request.dataset,
        "window": str(window),
        "ends_at": window.end.isoformat(),
        "made_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "answers": logged.num_answers,
        "candidates": len(logged.rows),
        "logged_candidates": logged.num_logged,
        "kept_share": logged.kept_share,
        "compared": found.compared,
        "mismatched_share": found.mismatched / found.compared if found.compared else 0.0,
        "unexplained_share": found.share(Cause.UNEXPLAINED),
        "max_unexplained": request.max_unexplained,
        "causes": {cause.value: found.share(cause) for cause in CAUSES},
        "not_judged": {table: dict(reasons) for table, reasons in found.not_judged.items()},
        "not_logged": found.not_logged,
        "versions": dict(found.versions),
    }


def _features(found: "Comparison") -> list[Summary]:
    return [
        {
            "table": one.table,
            "feature": one.feature,
            "share": one.mismatched / one.compared if one.compared else None,
            "input_share": one.encoded / one.compared if one.compared else None,
            "causes": {c.value: weight / one.compared for c, weight in one.by_cause.items()},
        }
        for one in found.tallies
    ]


def _shown(
    request: ParityRequest, window: "Window", logged: "Sample", found: "Comparison"
) -> Summary:
    """Page, text and alert of the result."""
    from features.pages import site
    from features.parity.causes import Cause
    from features.parity.page import parity_page

    title = f"{request.dataset}: parity of {window}"
    page = parity_page(title, logged, found, max_unexplained=request.max_unexplained)
    share = found.share(Cause.UNEXPLAINED)
    shown: Summary = {
        "report": site.write(page, request.docs, path_of(request.dataset, str(window), "html")),
        "markdown": site.text(page),
    }
    if share > request.max_unexplained:
        what = f"{window}: {share:.3%} of the candidates have an unexplained mismatch; at most "
        shown["alerts"] = [{"alert": ALERT, "what": f"{what}{request.max_unexplained:.3%}"}]
    return shown


def _write_table(lake: "Lake", day: datetime.date, found: "Comparison") -> None:
    """Replace the day's results in the lake: what a map of features and days is drawn of."""
    import pyarrow as pa

    from features.lake.day_file import replace_day

    rows = []
    for one in found.tallies:
        weights = {"any": one.mismatched} | {c.value: w for c, w in one.by_cause.items()}
        own = {"table": one.table, "feature": one.feature, "compared": one.compared}
        rows += [{**own, "cause": cause, "mismatched": w} for cause, w in weights.items()]
    columns = [(name, pa.string()) for name in ("table", "feature", "cause")]
    columns += [(name, pa.float64()) for name in ("compared", "mismatched")]
    content = pa.Table.from_pylist(rows, schema=pa.schema(columns))
    replace_day(lake.root / RESULTS_TABLE, day, [content], job="parity")


PARITY_COMMANDS: dict[str, Command] = {"parity": _parity}
