"""What a push builds on of the lake, below what has landed since."""

import datetime

from features.labels.events import events_table
from features.lake.erased import erased_users
from features.lake.lake import IMPRESSIONS, ONE_DAY
from features.pipeline.aggregates import label_delay_days
from features.pipeline.end_of_day import StatePartitions, state_partitions
from features.pipeline.workspace import Workspace
from features.schema import FeatureTable
from features.schema.keys import attributes_read


def basis_of(work: Workspace, table: FeatureTable, first_day: datetime.date) -> tuple[object, ...]:
    """What a push from a day on reads of the lake, by the versions of the partitions."""
    logs = (IMPRESSIONS, *map(events_table, work.schema.later_labels))
    read = [(one.name, days) for one, days in earlier_states(work, table, first_day)]
    read += [(name, unlabelled_days(work, first_day)) for name in logs]
    read += [(one.name, work.lake.days(one.name)) for one in attributes_read(work.schema, table)]
    versions = (work.lake.version(name, day) for name, days in read for day in days)
    return (first_day, *versions, *erased_users(work.lake.root))


def earlier_states(
    work: Workspace, table: FeatureTable, first_day: datetime.date
) -> StatePartitions:
    """Where the states are from which a day goes on."""
    # The end of the day before is written after its rows: to take it would be to begin twice.
    return state_partitions(work, table, first_day, first_day - ONE_DAY)


def unlabelled_days(work: Workspace, first_day: datetime.date) -> list[datetime.date]:
    """Built days with impressions whose labels may become known from ``first_day`` on."""
    since = first_day - label_delay_days(work.schema)
    return work.lake.days_between(IMPRESSIONS, since, first_day - ONE_DAY)
