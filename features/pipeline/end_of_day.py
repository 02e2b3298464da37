"""Each user's newest state at the end of a day: what a later day reads of all days before.

An end-of-day table has the columns of its table of state and one row for each user who is within
the time-to-live. A correction that counts from a later moment adds a row to it, since until then
the row that was published counts. A reader takes the newest end of a day that there is and the rows
of state since then; a lake without one is read as far back as the time-to-live.
"""

import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from features.lake.lake import ONE_DAY
from features.pipeline.aggregates import midnight, newest_rows, union
from features.pipeline.workspace import (
    Workspace,
    visible_days,
    whole_days,
)
from features.provenance.inputs import fingerprint_of
from features.schema import CREATED, DAY, EVENT_TIMESTAMP, FeatureTable
from features.schema.derived_tables import end_of_day_table
from features.spark.session import feature_struct

StatePartitions = list[tuple[FeatureTable, list[datetime.date]]]


def settled_day(table: FeatureTable, first: datetime.date) -> datetime.date:
    """The last day of which every row, as declared, counts from the first moment of ``first``."""
    wait = table.first_visible(first) - midnight(first)
    return first - ONE_DAY - whole_days(wait)


def state_partitions(
    work: Workspace,
    table: FeatureTable,
    first: datetime.date,
    last: datetime.date,
    *,
    settled: datetime.date | None = None,
) -> StatePartitions:
    """Where the states are that can matter from ``first`` on, up to those of ``last``.

    Args:
        work: The schema and the lake.
        table: A table of state.
        first: First day on which the states are used.
        last: Last day of rows.
        settled: Last day whose end may stand for the rows of it and of the days before; None: the
            last of which every row counts from the first moment of ``first``.
    """
    ended = end_of_day_table(table)
    days = visible_days(work, table, first, last)
    for day in reversed(visible_days(work, ended, first, settled or settled_day(table, first))):
        if _is_current(work, ended, day):
            return [(ended, [day]), (table, [later for later in days if later > day])]
    return [(table, days)]


def states(work: Workspace, partitions: StatePartitions) -> DataFrame:
    """Rows of ``state_partitions``, with ``day``."""
    return union([work.features(table, days) for table, days in partitions])


def num_rows(work: Workspace, partitions: StatePartitions) -> int:
    """Rows of ``state_partitions``."""
    return sum(
        work.lake.manifest(table.name, day).rows for table, days in partitions for day in days
    )


def drop_ends_of_days(work: Workspace, table: FeatureTable, first: datetime.date) -> None:
    """Remove the states at the end of a day and of all later ones: its rows are to be replaced."""
    ended = end_of_day_table(table).name
    if days := work.lake.days_between(ended, first, datetime.date.max):
        work.lake.remove(ended, days)


def write_end_of_day(work: Workspace, table: FeatureTable, day: datetime.date) -> None:
    """Write the states at the end of a day whose rows are written, unless they are there.

    Args:
        work: Session, schema and lake.
        table: A table of state, with a time-to-live.
        day: The day.
    """
    ended, following = end_of_day_table(table), day + ONE_DAY
    if _is_current(work, ended, day):
        return
    rows = states(work, state_partitions(work, table, following, day, settled=day))
    if table.ttl is not None:
        rows = rows.where(F.col(EVENT_TIMESTAMP) >= F.lit(midnight(following) - table.ttl))
    key = work.schema.key_of(table).name
    # What follows builds on rows that are known by then; a correction may count from later on.
    known_by = F.greatest(CREATED, F.lit(table.first_visible(following))).alias("_known_by")
    newest = newest_rows(rows.select(*feature_struct(work.schema, table).names), key, known_by)
    frame = newest.withColumn(DAY, F.lit(day))
    work.replace(frame, ended.name, [day], keys=[key, EVENT_TIMESTAMP, CREATED])


def _is_current(work: Workspace, table: FeatureTable, day: datetime.date) -> bool:
    """Whether a partition is there and of this schema."""
    lake, schema = work.lake, work.schema
    return lake.has(table.name, day) and (
        lake.manifest(table.name, day).fingerprint == fingerprint_of(schema, table.name)
    )
