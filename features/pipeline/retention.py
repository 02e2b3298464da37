"""Which partitions may go: those older than the retention that no later job can still read."""

import datetime
from pathlib import Path

from features.pipeline.aggregates import label_delay_days
from features.pipeline.end_of_day import settled_day
from features.schema import Schema, TableKind
from features.schema.derived_tables import end_of_day_table
from features.spark.lake import EXAMPLES, IMPRESSIONS, IMPRESSIONS_RAW, ONE_DAY, Lake


def prune(
    schema: Schema, lake_root: Path, *, today: datetime.date, keep_days: int
) -> dict[str, int]:
    """Remove old partitions; returns how many of each table.

    Args:
        schema: The data set's schema.
        lake_root: The lake.
        today: Day of the run; the clock is not read.
        keep_days: Days to keep; a table whose readers look back further keeps more.
    """
    if keep_days < 1:
        raise ValueError(f"keep_days: {keep_days}; at least 1")
    lake = Lake(lake_root, schema.name)
    ended = {end_of_day_table(state).name for state in schema.tables_of(TableKind.STATE)}
    removed = {}
    for table, needed in needed_days(schema).items():
        # Of states at the end of a day, older ones stand in newer ones.
        kept = needed if table in ended else max(datetime.timedelta(days=keep_days), needed)
        first_kept = today - kept
        # The newest partition carries all-time counts, however old it is.
        old = [day for day in lake.days(table)[:-1] if day < first_kept]
        for day in old:
            lake.remove(table, day)
        if old:
            removed[table] = len(old)
    return removed


def needed_days(schema: Schema) -> dict[str, datetime.timedelta]:
    """How far back each table is read by the jobs of a new day."""
    windows = [days for table in schema.tables for days in table.windows_days]
    impressions = datetime.timedelta(days=max(windows, default=1)) + label_delay_days(schema)
    needed = {
        IMPRESSIONS_RAW: ONE_DAY,
        IMPRESSIONS: impressions,
        EXAMPLES: datetime.timedelta(days=schema.holdout_days) + ONE_DAY,
    }
    for table in schema.tables:
        if table.kind is not TableKind.ATTRIBUTES:
            needed[table.name] = (table.ttl or datetime.timedelta(0)) + 2 * ONE_DAY
        if table.kind is TableKind.STATE:
            day = schema.first_day
            needed[end_of_day_table(table).name] = day - settled_day(table, day)
    return needed
