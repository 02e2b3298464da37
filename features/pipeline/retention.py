"""What of the lake may go: days that no later job reads, and files of versions nobody needs."""

import datetime
import os
from typing import TypedDict

from features.labels.events import events_table, raw_events_table
from features.lake.candidate import remove_candidates
from features.lake.commit import vacuum
from features.lake.lake import (
    EXAMPLES,
    IMMATURE_EXAMPLES,
    IMPRESSIONS,
    IMPRESSIONS_RAW,
    ONE_DAY,
    Lake,
)
from features.lake.pins import pins
from features.lake.snapshot import tables
from features.pipeline.aggregates import label_delay_days
from features.pipeline.end_of_day import settled_day
from features.pipeline.workspace import ROWS_OF_A_FILE
from features.places import Place
from features.schema import Schema, TableKind
from features.schema.derived_tables import end_of_day_table

GRACE_HOURS = 48
"""More than the longest job takes."""


class Pruned(TypedDict):
    """What retention has done to one table."""

    days: int
    """Days that the newest version has no more."""
    compacted_days: int
    """Days whose files have become one."""
    files: int
    bytes: int
    """Of the files that were deleted."""
    candidates: list[str]
    """First and last day of those that were removed."""
    pinned_versions: list[int]


def prune(
    schema: Schema,
    lake_root: str | os.PathLike[str] | Place,
    *,
    today: datetime.date,
    keep_days: int,
    grace_hours: int = GRACE_HOURS,
) -> dict[str, Pruned]:
    """Commit versions without old days, then delete the files that no needed version names.

    Days of several files that are small become days of one.

    Needed are the newest version of a table and those that are pinned. Files and candidates that
    are younger than the grace time stay: a running job has written, or is reading them.

    Args:
        schema: The data set's schema.
        lake_root: The lake.
        today: Day of the run, from which days are counted.
        keep_days: Days to keep; a table whose readers look back further keeps more.
        grace_hours: More than the longest job takes.

    Returns:
        What was done to each table to which anything was.

    Raises:
        ValueError: A pin cannot be read, or a limit is out of range; nothing has been removed.
    """
    if keep_days < 1:
        raise ValueError(f"keep_days: {keep_days}; at least 1")
    if grace_hours < 0:
        raise ValueError(f"grace_hours: {grace_hours}; at least 0")
    lake = Lake(lake_root, schema.name, job="prune")
    names = tables(lake.root)
    pinned = {name: sorted({pin.version for pin in pins(lake.root, name)}) for name in names}
    grace = datetime.timedelta(hours=grace_hours)
    found = {}
    for name in names:
        old = _old_days(schema, lake, name, first_kept=today - keep_days * ONE_DAY, today=today)
        if old:
            lake.remove(name, old)
        compacted = lake.compact(name, most_rows=ROWS_OF_A_FILE)
        # Before the vacuum, which takes no younger file.
        before = datetime.datetime.now(datetime.UTC) - grace
        candidates = remove_candidates(lake.root, name, before=before)
        deleted = vacuum(lake.root / name, hours=grace_hours, keep_versions=pinned[name])
        if old or compacted or candidates or deleted.num_files:
            found[name] = Pruned(
                days=len(old),
                compacted_days=len(compacted),
                files=deleted.num_files,
                bytes=deleted.num_bytes,
                candidates=candidates,
                pinned_versions=pinned[name],
            )
    return found


def _old_days(
    schema: Schema, lake: Lake, table: str, *, first_kept: datetime.date, today: datetime.date
) -> list[datetime.date]:
    """Days of a table before ``first_kept`` that no job of ``today`` or later reads."""
    needed = needed_days(schema).get(table)
    if needed is None:
        return []
    ended = {end_of_day_table(state).name for state in schema.tables_of(TableKind.STATE)}
    # Of states at the end of a day, older ones stand in newer ones; as immature examples do.
    is_repeated = table in ended or table == IMMATURE_EXAMPLES
    first_kept = today - needed if is_repeated else min(first_kept, today - needed)
    # The newest partition carries all-time counts, however old it is.
    return [day for day in lake.days(table)[:-1] if day < first_kept]


def needed_days(schema: Schema) -> dict[str, datetime.timedelta]:
    """How far back each table is read by the jobs of a new day."""
    windows = [days for table in schema.tables for days in table.windows_days]
    impressions = datetime.timedelta(days=max(windows, default=1)) + label_delay_days(schema)
    # The day that is learnt when another has landed.
    learnt = schema.maturity_days * ONE_DAY
    needed = {
        IMPRESSIONS_RAW: ONE_DAY,
        IMPRESSIONS: impressions,
        EXAMPLES: datetime.timedelta(days=schema.holdout_days) + ONE_DAY + learnt,
        IMMATURE_EXAMPLES: learnt,
    }
    for label in schema.later_labels:
        needed |= {raw_events_table(label): ONE_DAY, events_table(label): impressions}
    for table in schema.tables:
        if table.kind is not TableKind.ATTRIBUTES:
            needed[table.name] = (table.ttl or datetime.timedelta(0)) + 2 * ONE_DAY + learnt
        if table.kind is TableKind.STATE:
            day = schema.first_day
            needed[end_of_day_table(table).name] = day - settled_day(table, day) + learnt
    if immature := schema.label.immature:
        # What a run learns before it is mature begins with its holdout; delays are of older days.
        of_delays, of_rows = immature.delay_days * ONE_DAY, schema.holdout_days * ONE_DAY
        longer = dict.fromkeys([IMPRESSIONS, events_table(schema.label)], of_delays + learnt)
        tables = [table for table in schema.tables if table.kind is not TableKind.ATTRIBUTES]
        longer |= {table.name: of_rows + learnt for table in tables}
        needed |= {name: max(span, needed[name]) for name, span in longer.items()}
    return needed
