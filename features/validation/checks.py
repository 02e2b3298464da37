"""The check of days: which rows are published, which go to quarantine, and what stops the days.

Severity decides. Rows that break a warning go to quarantine with the rule and the reason. What
would be published without them, a candidate, is judged once: a broken critical rule stops the days,
information is reported. Only then is anything published. Where the days are stopped, the version
before stays live, and the candidate stays for a person to look at.
"""

import concurrent.futures
import contextlib
import dataclasses
import datetime
import statistics
from collections.abc import Mapping, Sequence

from pyspark.sql import DataFrame

from features.lake.candidate import Candidate, manifest
from features.lake.lake import IMPRESSIONS, IMPRESSIONS_RAW, ONE_DAY, QUARANTINE, READMITTED
from features.pipeline.aggregates import is_positive
from features.pipeline.builds import restage_good, staged_features
from features.pipeline.ingestion.ingest import stage_impressions
from features.pipeline.jobs import publish_features
from features.pipeline.workspace import Workspace
from features.places import Place
from features.schema import DAY, EXAMPLE_ID, LABEL, Limits
from features.spark.row_rules import (
    Routing,
    Rule,
    feature_rules,
    frequency_rule,
    impression_rules,
    is_good,
    mark_broken_rules,
    routing,
)
from features.spark.session import feature_struct, impressions_struct
from features.validation.collisions import collisions, missing_ids
from features.validation.expectations import Suite, label_expectations, update_docs
from features.validation.log_checks import (
    check_events,
    check_mature_rates,
    split_requests,
)
from features.validation.outcome import Outcome
from features.validation.quarantine.changes import as_readmitted

_CHECKS_AT_ONCE = 2
_FEWEST_TRAILING_DAYS = 3
"""With fewer of them a number of rows is unusual at most, and no reason to stop."""


def check_log(work: Workspace, days: Sequence[datetime.date], reports: Place) -> list[Outcome]:
    """Check what has landed of some days: events of labels that come later, then impressions.

    Returns:
        An outcome for each table; none of the impressions where events stop the days.
    """
    labels = work.schema.later_labels
    outcomes = [check_events(work, label, days, reports) for label in labels]
    if any(outcome.critical for outcome in outcomes):
        return outcomes
    return [*outcomes, check_impressions(work, days, reports)]


def check_impressions(
    work: Workspace,
    days: Sequence[datetime.date],
    reports: Place,
    *,
    readmitted: Candidate | None = None,
) -> Outcome:
    """Check raw impressions; publish the good rows and the quarantine, or stop the days.

    Args:
        work: Session, schema and lake.
        days: Which days to check.
        reports: Where Data Docs are written.
        readmitted: Changes to rows in quarantine, to be published with the days or not at all.
    """
    schema, lake = work.schema, work.lake
    struct = impressions_struct(schema)
    names = [*struct.names, DAY]
    with contextlib.ExitStack() as caches:
        if readmitted:
            caches.enter_context(lake.preview(readmitted))
        raw = as_readmitted(work, work.impressions(days, IMPRESSIONS_RAW), days)
        rules = rules_of_days(work, raw, days)
        marked = _cached(caches, mark_broken_rules(raw, rules))
        routed = routing(marked, rules, days)
        good = marked.where(is_good()).select(*names)
        staged = stage_impressions(work, good, days, keys=names[:3])
        quarantine = _stage_quarantine(work, marked, routed, IMPRESSIONS, days, keys=names[:3])
        for one in (staged, *quarantine):
            lake.put(one, days)
        with lake.preview(staged):
            rows = work.impressions(days).withColumn(LABEL, is_positive(schema.label))
            wrong_rates, odd_rates = check_mature_rates(work, days)
            split = split_requests(work, days)
        suite = Suite(schema, IMPRESSIONS, struct, reports)
        # Whether an impression is positive, a target that comes later does not say yet.
        known = 0 if schema.label.comes_later else sum(routed.published.values())
        suite.define(rules, routed, label_expectations(schema, known))
        outcome = suite.run(_cached(caches, rows))
        if any(reason.startswith(f"{EXAMPLE_ID}:") for reason in outcome.critical):
            rows_in = marked.where(is_good())
            outcome.critical.extend(missing_ids(schema, rows_in) or collisions(schema, rows_in))
    trailing = _trailing_rows(work, days)
    too_few, unusual = check_row_counts(schema.limits, routed.published, trailing)
    outcome.critical.extend([*too_few, *wrong_rates])
    outcome.reported.extend([*unusual, *odd_rates, *split])
    update_docs([suite])
    if not outcome.critical:
        _publish(work, [*quarantine, staged], days, readmitted)
    return _naming(work, outcome, staged, days)


def _publish(
    work: Workspace,
    staged: Sequence[Candidate],
    days: Sequence[datetime.date],
    readmitted: Candidate | None,
) -> None:
    """Publish what was judged: first the changes, so that no job that is killed here loses them."""
    if readmitted:
        work.lake.publish(readmitted)
        version = work.lake.snapshot(READMITTED).version
        staged = [one.with_input(READMITTED, version) for one in staged]
    for one in staged:
        work.lake.publish(one)
        work.lake.discard(one.table, days)


def rules_of_days(work: Workspace, raw: DataFrame, days: Sequence[datetime.date]) -> list[Rule]:
    """The rules that impressions of some days must keep."""
    return [*impression_rules(work.schema), *_frequency_rules(work, raw, days)]


def _frequency_rules(work: Workspace, raw: DataFrame, days: Sequence[datetime.date]) -> list[Rule]:
    """The limit on rows of one user, where a day has so many rows that one could be over it."""
    user, most = work.schema.user, work.schema.limits.max_rows_of_user
    written = work.lake.days_between(IMPRESSIONS_RAW, days[0], days[-1])
    rows = max((work.lake.manifest(IMPRESSIONS_RAW, day).rows for day in written), default=0)
    return [frequency_rule(user, raw, max_rows=most)] if user is not None and rows > most else []


def check_features(work: Workspace, days: Sequence[datetime.date], reports: Place) -> list[Outcome]:
    """Check what a build of these days has staged; publish every table, or none.

    Returns:
        An outcome for each table of the build; none where it was published before.

    Raises:
        RunbookError: No build of exactly these days waits; names the command to run.
        ConflictError: Another job has replaced one of the days since the build began.
    """
    staged = staged_features(work, days)
    if not staged:
        return []
    with (
        contextlib.ExitStack() as caches,
        concurrent.futures.ThreadPoolExecutor(_CHECKS_AT_ONCE) as pool,
    ):
        checks = [_table_check(work, one, days, caches, reports) for one in staged]
        # Python and the JVM take turns in one check: two at once keep both busy.
        found = pool.map(lambda check: check.suite.run(check.frame), checks)
        outcomes = [
            _naming(work, outcome, check.staged, days)
            for check, outcome in zip(checks, found, strict=True)
        ]
    update_docs([check.suite for check in checks])
    if not any(outcome.critical for outcome in outcomes):
        for quarantine in (one for check in checks for one in check.quarantine):
            work.lake.publish(quarantine)
            work.lake.discard(quarantine.table, days)
        publish_features(work, [check.staged for check in checks], days)
    return outcomes


def _cached(caches: contextlib.ExitStack, frame: DataFrame) -> DataFrame:
    """Keep a frame's rows in memory for a while; other sessions may have caches of their own."""
    frame.cache()
    caches.callback(frame.unpersist)
    return frame


@dataclasses.dataclass(frozen=True)
class _TableCheck:
    """What the check of one feature table needs."""

    suite: Suite
    staged: Candidate
    """What would be published."""
    quarantine: Sequence[Candidate]
    frame: DataFrame
    """Rows of ``staged``."""


def _table_check(
    work: Workspace,
    built: Candidate,
    days: Sequence[datetime.date],
    caches: contextlib.ExitStack,
    reports: Place,
) -> _TableCheck:
    table = work.schema.table(built.table)
    struct, rules = feature_struct(work.schema, table), feature_rules(work.schema, table)
    names = [*struct.names, DAY]
    with work.lake.preview(built):
        rows = work.features(table, built.days)
    frame = _cached(caches, mark_broken_rules(rows, rules))
    routed, staged = routing(frame, rules, built.days), built
    quarantine = _stage_quarantine(work, frame, routed, table.name, built.days, keys=names[:3])
    for one in quarantine:
        work.lake.put(one, days)
    if any(routed.quarantined.values()):
        staged = restage_good(work, built, frame)
        with work.lake.preview(staged):
            frame = _cached(caches, work.features(table, staged.days))
    suite = Suite(work.schema, table.name, struct, reports)
    suite.define(rules, routed)
    return _TableCheck(suite, staged, quarantine, frame)


def _stage_quarantine(
    work: Workspace,
    marked: DataFrame,
    routed: Routing,
    table: str,
    days: Sequence[datetime.date],
    *,
    keys: Sequence[str],
) -> list[Candidate]:
    """Stage the bad rows of some days; none where there are none and were none before."""
    quarantine = f"{QUARANTINE}_{table}"
    if not any(routed.quarantined.values()) and not work.lake.days_between(
        quarantine, days[0], days[-1]
    ):
        return []
    bad = marked.where(~is_good())
    return [work.stage(bad, quarantine, days, keys=keys)]


def _naming(
    work: Workspace, outcome: Outcome, judged: Candidate, days: Sequence[datetime.date]
) -> Outcome:
    """The outcome with where the candidate is."""
    where = str(manifest(work.lake.root, judged.table, days))
    files = [file.path for file in judged.files]
    return dataclasses.replace(outcome, candidate=where, files=files)


def _trailing_rows(work: Workspace, days: Sequence[datetime.date]) -> list[int]:
    """Published rows of the days before a single day; a range is not compared with others."""
    if len(days) > 1:
        return []
    first = days[0] - work.schema.limits.trailing_days * ONE_DAY
    trailing = work.lake.days_between(IMPRESSIONS, first, days[0] - ONE_DAY)
    return [work.lake.manifest(IMPRESSIONS, day).rows for day in trailing]


def check_row_counts(
    limits: Limits, published: Mapping[datetime.date, int], trailing: Sequence[int]
) -> tuple[list[str], list[str]]:
    """What must stop the days, and what is only reported, each with number and limit.

    Args:
        limits: Those of the schema.
        published: Rows of each day that would be published.
        trailing: Published rows of the days before; empty where there is nothing to compare with.
    """
    critical = [
        f"rows of {day}: {rows} published; at least {limits.min_rows}"
        for day, rows in published.items()
        if rows < limits.min_rows
    ]
    if critical or not trailing:
        return critical, []
    median = statistics.median(trailing)
    fewest = int(median * limits.min_share_of_trailing_rows)
    most = max(1, int(median * limits.max_times_trailing_rows))
    against = f"(median of the {len(trailing)} days before: {median:g})"
    day, rows = next(iter(published.items()))
    if rows > most:
        return [], [f"rows of {day}: {rows} published; at most {most} {against}"]
    if rows >= fewest or (not rows and not limits.min_rows):
        return [], []
    sentence = f"rows of {day}: {rows} published; at least {fewest} {against}"
    return ([sentence], []) if len(trailing) >= _FEWEST_TRAILING_DAYS else ([], [sentence])
