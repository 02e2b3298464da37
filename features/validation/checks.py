"""The check of a day: which rows are published, which go to quarantine, and what stops the day.

Severity decides. A broken critical rule stops the day and nothing is written; rows that break a
warning move to a quarantine partition with the rule and the reason; information is reported. A day
as a whole is judged by the rows that would be published, and by how many would not.
"""

import concurrent.futures
import contextlib
import dataclasses
import datetime
import statistics
from collections.abc import Iterator, Mapping, Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from features.lake.lake import IMPRESSIONS, IMPRESSIONS_RAW, ONE_DAY, QUARANTINE
from features.pipeline.aggregates import is_positive
from features.pipeline.jobs import publish_impressions
from features.pipeline.workspace import Workspace
from features.places import Place
from features.schema import DAY, LABEL, FeatureTable, Limits, TableKind
from features.spark.session import feature_struct, impressions_struct
from features.validation.expectations import (
    Outcome,
    Suite,
    day_expectations,
    quarantine_expectation,
    update_docs,
)
from features.validation.row_rules import (
    PUBLISHED,
    REASONS,
    RULES,
    feature_rules,
    impression_rules,
    mark_broken_rules,
)

_CHECKS_AT_ONCE = 2
_FEWEST_TRAILING_DAYS = 3
"""With fewer of them a number of rows is unusual at most, and no reason to stop."""


def check_impressions(work: Workspace, days: Sequence[datetime.date], reports: Place) -> Outcome:
    """Check raw impressions; publish good rows, quarantine the rest, or stop on a critical rule."""
    rules = impression_rules(work.schema)
    frame = mark_broken_rules(work.impressions(days, IMPRESSIONS_RAW), rules)
    published = F.col(PUBLISHED) == 1
    labelled = frame.withColumn(LABEL, F.when(published, is_positive(work.schema.label)))
    suite = Suite(work.schema, IMPRESSIONS, impressions_struct(work.schema), reports)
    with _cached(labelled):
        sums = labelled.groupBy(DAY).agg(F.sum(PUBLISHED)).collect()
        rows_of: dict[datetime.date, int] = dict(sums)
        suite.define(rules, day_expectations(work.schema, rows_of))
        outcome = suite.run(labelled)
        counts = {day: rows_of.get(day, 0) for day in days}
        too_few, unusual = check_row_counts(work.schema.limits, counts, _trailing_rows(work, days))
        outcome.critical.extend(too_few)
        outcome.reported.extend(unusual)
        update_docs([suite])
        if not outcome.critical:
            names = [*impressions_struct(work.schema).names, DAY]
            keys = _quarantine(work, labelled, IMPRESSIONS, days, names=names)
            good = labelled.where(published).select(*names)
            publish_impressions(work, good, days, keys=keys)
    return outcome


def check_features(work: Workspace, days: Sequence[datetime.date], reports: Place) -> list[Outcome]:
    """Check every feature table; bad rows move to quarantine, or a critical rule stops the day."""
    checks = [_table_check(work, table, days, reports) for table in work.schema.tables]
    # Python and the JVM take turns in one check: two at once keep both busy.
    with (
        contextlib.ExitStack() as caches,
        concurrent.futures.ThreadPoolExecutor(_CHECKS_AT_ONCE) as pool,
    ):
        for check in checks:
            caches.enter_context(_cached(check.frame))
        outcomes = list(pool.map(lambda check: check.suite.run(check.frame), checks))
        update_docs([check.suite for check in checks])
        for check, outcome in zip(checks, outcomes, strict=True):
            if outcome.quarantined and not outcome.critical:
                table = check.suite.table
                keys = _quarantine(work, check.frame, table, check.days, names=check.names)
                good = check.frame.where(F.col(PUBLISHED) == 1).select(*check.names)
                work.replace(good, table, check.days, keys=keys)
    return outcomes


@contextlib.contextmanager
def _cached(frame: DataFrame) -> Iterator[None]:
    """Keep a frame's rows in memory for the block; other sessions may have caches of their own."""
    frame.cache()
    try:
        yield
    finally:
        frame.unpersist()


@dataclasses.dataclass(frozen=True)
class _TableCheck:
    """What the check of one feature table needs."""

    suite: Suite
    frame: DataFrame
    days: Sequence[datetime.date]
    names: Sequence[str]


def _table_check(
    work: Workspace, table: FeatureTable, days: Sequence[datetime.date], reports: Place
) -> _TableCheck:
    table_days = [work.schema.epoch] if table.kind is TableKind.ATTRIBUTES else days
    struct = feature_struct(work.schema, table)
    rules = feature_rules(work.schema, table)
    frame = mark_broken_rules(work.features(table, table_days), rules)
    suite = Suite(work.schema, table.name, struct, reports)
    has_rows = any(work.lake.manifest(table.name, day).rows for day in table_days)
    suite.define(rules, [quarantine_expectation(work.schema)] if has_rows else [])
    return _TableCheck(suite, frame, table_days, names=[*struct.names, DAY])


def _quarantine(
    work: Workspace,
    frame: DataFrame,
    table: str,
    days: Sequence[datetime.date],
    *,
    names: Sequence[str],
) -> list[str]:
    """Move bad rows before the good ones are published; returns the keys by which both are sorted.

    A job that is killed in between is run again and finds the same bad rows.
    """
    quarantine = f"{QUARANTINE}_{table}"
    keys = [name for name in names if name != DAY][:3]
    bad = frame.where(F.col(PUBLISHED) == 0)
    if work.lake.days_between(quarantine, days[0], days[-1]) or not bad.isEmpty():
        work.replace(bad.select(*names, RULES, REASONS), quarantine, days, keys=keys)
    return keys


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
