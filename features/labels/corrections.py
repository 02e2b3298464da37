"""Corrections of days that were used before: from when they count."""

import datetime

from features.labels.events import events_table
from features.lake.lake import IMPRESSIONS, Lake
from features.schema import Schema


def newest_correction(
    lake: Lake, schema: Schema, first: datetime.date, last: datetime.date
) -> datetime.datetime | None:
    """When the newest of the corrections among some days' impressions and events began to count."""
    tables = (IMPRESSIONS, *map(events_table, schema.later_labels))
    moments = (
        lake.manifest(table, day).corrected_at
        for table in tables
        for day in lake.days_between(table, first, last)
    )
    return max(filter(None, moments), default=None)
