"""The rows of the computed tables of some days, from impressions and from earlier rows."""

import datetime
from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from features.lake.lake import IMPRESSIONS, ONE_DAY
from features.pipeline.aggregates import label_delay_days
from features.pipeline.end_of_day import state_partitions, states
from features.pipeline.item_daily import first_impression_day, item_daily
from features.pipeline.tables.aggregate_rows import aggregate_rows
from features.pipeline.tables.keys import with_key
from features.pipeline.user_state import user_state
from features.pipeline.workspace import Workspace
from features.schema import CREATED, FeatureTable, TableKind


def first_input(work: Workspace, table: FeatureTable, day: datetime.date) -> datetime.date:
    """First day of impressions from which rows of a day are computed; carried rows come on top."""
    if table.kind is TableKind.STATE:
        return day - label_delay_days(work.schema)
    carry_day = _carry_day(work, table, day)
    return first_impression_day(work.schema, table, first_day=day, carry_day=carry_day)


def _carry_day(work: Workspace, table: FeatureTable, before: datetime.date) -> datetime.date | None:
    earlier = work.lake.days_between(table.name, datetime.date.min, before - ONE_DAY)
    return earlier[-1] if earlier else None


def _known(rows: DataFrame, known_by: datetime.datetime) -> DataFrame:
    """Earlier rows to build on, without corrections that count only after ``known_by``."""
    return rows.where(F.col(CREATED) <= F.lit(known_by))


def state_rows(
    work: Workspace,
    table: FeatureTable,
    days: Sequence[datetime.date],
    known_by: datetime.datetime,
    *,
    settled: datetime.date,
) -> DataFrame:
    """Rows of a table of state without ``created``.

    Args:
        work: Session, schema and lake.
        table: A table of state.
        days: Days of which rows are wanted, in order.
        known_by: Earlier rows that count only later are left out.
        settled: The last day before those that the build replaces.
    """
    since, before = first_input(work, table, days[0]), days[0] - ONE_DAY
    impressions = work.impressions(work.lake.days_between(IMPRESSIONS, since, days[-1]))
    earlier = states(work, state_partitions(work, table, days[0], before, settled=settled))
    return user_state(
        work.schema,
        table,
        impressions=with_key(work, table, impressions, since=since),
        carry=_known(earlier, known_by),
        first_day=days[0],
        last_day=days[-1],
    )


def daily_rows(
    work: Workspace,
    table: FeatureTable,
    days: Sequence[datetime.date],
    known_by: datetime.datetime,
) -> DataFrame:
    """Rows of a daily table without ``created``: of ``item_daily``, or as it declares."""
    carry_day = _carry_day(work, table, days[0])
    since = first_input(work, table, days[0])
    impressions = work.impressions(work.lake.days_between(IMPRESSIONS, since, days[-1]))
    compute = aggregate_rows if table.is_declared else item_daily
    return compute(
        work.schema,
        table,
        impressions=with_key(work, table, impressions, since=since),
        carry=_known(work.features(table, [carry_day] if carry_day else []), known_by),
        carry_day=carry_day,
        days=days,
    )
