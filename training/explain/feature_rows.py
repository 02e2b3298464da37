"""The feature rows that an answer read: of which day's partition each is, and who made that."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence

import pyarrow.dataset as pads

from features.lake.commit import REWRITES
from features.lake.snapshot import Snapshot, snapshot
from features.places import Place
from features.prediction_log.columns import status_column
from features.schema import EVENT_TIMESTAMP, FeatureTable, Schema
from training.explain.answer import Row

_MOST_DAYS = 40
"""Of which a row is looked for: it is made of its own day, or of one soon after it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Commit:
    """Who wrote a day of a table, as the table's log says."""

    version: int | None
    job: str
    run: str
    at: str
    inputs: Mapping[str, int]
    """Versions of the tables that it was made of."""
    rewritten: Sequence[str] = ()
    """Who has written the rows anew since, without making them, and why; the oldest first."""

    @property
    def in_words(self) -> str:
        """Who has made the rows, and what has become of them since."""
        return "; ".join([f"{self.job} of {self.run}", *self.rewritten])


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureRow:
    """One row of a feature table, as it was read for a candidate."""

    table: str
    key: str
    """Name of the key column."""
    key_value: object
    status: str
    event_timestamp: datetime.datetime | None
    created: datetime.datetime | None
    values: Mapping[str, object]
    """As they were read."""
    day: datetime.date | None = None
    """The partition that has the row; None: none has it."""
    content_hash: str = ""
    differs: Sequence[str] = ()
    """Columns that the partition has otherwise now."""
    commit: Commit | None = None
    note: str = ""


def feature_rows(schema: Schema, lake: Place, row: Row) -> list[FeatureRow]:
    """What was read for a candidate, table by table.

    Args:
        schema: The data set.
        lake: Its tables.
        row: The candidate, as the log has it.
    """
    return [_feature_row(schema, snapshot(lake / one.name), one, row) for one in schema.tables]


def _feature_row(schema: Schema, found: Snapshot, table: FeatureTable, row: Row) -> FeatureRow:
    event, key = row.get(table.timestamp_column), schema.key_of(table).name
    names = [name for name in table.encoded_columns if name != table.timestamp_column]
    created = row.get(table.created_column)
    read = FeatureRow(
        table=table.name,
        key=key,
        key_value=row.get(key),
        status=str(row.get(status_column(table))),
        event_timestamp=event if isinstance(event, datetime.datetime) else None,
        created=created if isinstance(created, datetime.datetime) else None,
        values={name: row.get(name) for name in names},
    )
    if read.event_timestamp is None:
        return dataclasses.replace(read, note="the store had no row")
    return _placed(found, read, read.event_timestamp)


def _placed(found: Snapshot, read: FeatureRow, event: datetime.datetime) -> FeatureRow:
    """The same with the partition that has the row."""
    first = event.date() - datetime.timedelta(days=1)
    days = [day for day in found.days if day >= first][:_MOST_DAYS]
    for day in days:
        for there in _rows(found, day, read, event):
            differs = [name for name, value in read.values.items() if there.get(name) != value]
            if read.key_value is None and differs:
                continue  # of another key
            return dataclasses.replace(
                read,
                day=day,
                content_hash=found.partition(day).content_hash,
                differs=differs,
                commit=commit_of(found, day),
                note="the partition was made again since" if differs else "",
            )
    return dataclasses.replace(read, note=_why_not(found, first))


def _rows(
    found: Snapshot, day: datetime.date, read: FeatureRow, event: datetime.datetime
) -> list[dict[str, object]]:
    wanted = pads.field(EVENT_TIMESTAMP) == event
    if read.key_value is not None:
        wanted &= pads.field(read.key) == read.key_value
    return found.rows(day, wanted)


def commit_of(found: Snapshot, day: datetime.date) -> Commit | None:
    """The commit that made the rows of a day; None where the table's log does not go back so far.

    Not one that has copied them since: into fewer files, or without those of an erased user.
    """
    of_day = [one for one in found.history() if str(day) in _texts(one.get("days"))]
    rewritten: list[str] = []
    for said in of_day:
        if why := said.get(REWRITES):
            rewritten.insert(0, f"{why} by {said.get('job', 'unknown')} at {_moment(said)}")
            continue
        inputs, version = said.get("inputs"), said.get("version")
        return Commit(
            version=version if isinstance(version, int) else None,
            job=str(said.get("job", "unknown")),
            run=str(said.get("run", "unknown")),
            at=_moment(said),
            inputs=inputs if isinstance(inputs, dict) else {},
            rewritten=rewritten,
        )
    if not rewritten:
        return None
    unknown = {"job": "unknown", "run": "unknown", "at": ""}
    return Commit(version=None, inputs={}, rewritten=rewritten, **unknown)


def _moment(said: Mapping[str, object]) -> str:
    at = said.get("timestamp")
    return (
        str(datetime.datetime.fromtimestamp(at / 1000, datetime.UTC)) if isinstance(at, int) else ""
    )


def _texts(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []


def _why_not(found: Snapshot, first: datetime.date) -> str:
    if not found.days:
        return "the table is not in the lake"
    if found.days[0] > first + datetime.timedelta(days=1):
        return f"gone by retention: the table begins with {found.days[0]}"
    return "in no partition: pushed within its day, or its day was made again since"
