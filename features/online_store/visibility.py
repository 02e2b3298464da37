"""Which rows of an entity an online store keeps: the newest, and earlier ones while it waits.

A feature row may be stored before a reader may count on it (``created``). Until then the row before
it answers, as it does in the training join, so the store keeps that one too. A request brings its
moment along, and a reader takes the newest row that is visible then: no clock is read, neither when
writing nor when reading. What is kept depends on the rows that were offered, not on their order.
"""

import dataclasses
import datetime
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from features.online_store.codec import stored_columns
from features.schema import FeatureTable

if TYPE_CHECKING:
    from google.protobuf.message import Message

EARLIER = "_earlier"
"""Name under which the earlier rows of an entity are stored with its columns."""
MOST_ROWS = 100
"""Most rows of one entity; with more within a table's delay, rows in between are dropped."""
Offered = tuple["Message", "Mapping[str, Message]", datetime.datetime, datetime.datetime | None]
"""What Feast hands to a store: entity key, protobuf values by column, event timestamp, created."""
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)
_ROW = struct.Struct("<qqH")
_COLUMN = struct.Struct("<HI")


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of an entity as it is stored; times are epoch microseconds."""

    event: int
    """When its values became true."""
    created: int
    """From when a reader may count on it."""
    values: Mapping[str, bytes]
    """By column the stored bytes."""

    @property
    def order(self) -> tuple[int, int]:
        """What makes a row newer than another."""
        return self.event, self.created

    @property
    def visible_at(self) -> int:
        """The first moment whose requests may use it."""
        return max(self.order)


def row_of(
    values: "Mapping[str, Message]", moment: datetime.datetime, created: datetime.datetime | None
) -> Row:
    """The row that Feast offers; without ``created`` it counts from its event on."""
    stored = {name: value.SerializeToString() for name, value in values.items()}
    return Row(_micros(moment), _micros(created or moment), stored)


def _micros(moment: datetime.datetime) -> int:
    """Feast hands over naive times in UTC, or aware ones."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
    return (aware - _EPOCH) // _MICROSECOND


def needed(rows: Iterable[Row]) -> list[Row]:
    """The rows that requests from the newest row's event on can see, and the one before the newest.

    A row is left out where a newer one is visible whenever it is, or where a newer one was visible
    already when the newest row became true. That one is the newest itself where it does not wait,
    and yet it may be stored before its event, as changed attributes are: the row before it answers
    until then. Of rows with equal times the last one offered counts.
    """
    by_order = {row.order: row for row in rows}
    kept: list[Row] = []
    for order in sorted(by_order, reverse=True):
        row = by_order[order]
        if kept and row.visible_at >= kept[-1].visible_at:
            continue
        kept.append(row)
        if row.visible_at <= kept[0].event and len(kept) > 1:
            break
    return kept if len(kept) <= MOST_ROWS else [*kept[: MOST_ROWS - 1], kept[-1]]


def merged(stored: Row | None, earlier: bytes, offered: Iterable[Row]) -> tuple[Row, bytes]:
    """The newest row of an entity and its packed earlier rows, after more rows were offered.

    Args:
        stored: The newest row that is stored, None where there is none.
        earlier: The packed earlier rows that are stored.
        offered: The rows to add; at least one where none is stored.
    """
    before = [] if stored is None else [*unpacked(earlier), stored]
    newest, *rest = needed([*before, *offered])
    return newest, packed(rest)


def packed(rows: Iterable[Row]) -> bytes:
    """Rows as bytes: both times, then each column's name and value; no bytes for no rows."""
    parts = []
    for row in rows:
        parts.append(_ROW.pack(row.event, row.created, len(row.values)))
        for name, value in row.values.items():
            encoded = name.encode()
            parts += [_COLUMN.pack(len(encoded), len(value)), encoded, value]
    return b"".join(parts)


def unpacked(content: bytes) -> Iterator[Row]:
    """The rows of ``packed``, in their order."""
    position = 0
    while position < len(content):
        event, created, width = _ROW.unpack_from(content, position)
        position += _ROW.size
        values = {}
        for _ in range(width):
            name_size, size = _COLUMN.unpack_from(content, position)
            start = position + _COLUMN.size + name_size
            values[content[start - name_size : start].decode()] = content[start : start + size]
            position = start + size
        yield Row(event, created, values)


def newest_columns(
    table: FeatureTable,
    values: Mapping[str, list[bytes | None]],
    events: list[int | None],
    created: list[int | None],
) -> dict[str, pa.Array]:
    """Columns of the newest rows: the table's, both timestamps, and from when each counts.

    Args:
        table: The feature table.
        values: Of each of its columns the stored bytes, None where there are none.
        events: Event timestamps in epoch microseconds, None where there is no row.
        created: From when a reader may count on each row, None where that was not stored.
    """
    columns = stored_columns(table, values, events)
    pairs = list(zip(events, created, strict=True))
    visible = [None if event is None else max(event, at or event) for event, at in pairs]
    made = [None if event is None else at or event for event, at in pairs]
    return {
        **columns,
        table.created_column: pa.array(made, pa.int64()),
        table.visible_at_column: pa.array(visible, pa.int64()),
    }


def with_earlier(
    table: FeatureTable,
    columns: dict[str, pa.Array],
    earlier: Mapping[int, bytes],
    *,
    since: int | None,
) -> dict[str, pa.Array]:
    """Columns of the newest rows, and behind them those of earlier rows that still answer.

    Args:
        table: The feature table.
        columns: What ``newest_columns`` gives for N entities.
        earlier: By index of the entity its packed earlier rows, the newest first.
        since: Epoch microseconds before which no request is; None: leave nothing out.

    Returns:
        The columns with N + E values and, unless E is 0, ``table.earlier_column``: of each row the
        index of the one before it, null where there is none.
    """
    if since is not None and earlier:
        visible_at = columns[table.visible_at_column]
        earlier = {p: some for p, some in earlier.items() if visible_at[p].as_py() > since}
    size = len(columns[table.timestamp_column])
    before: list[int | None] = [None] * size
    rows: list[Row] = []
    for position, content in earlier.items():
        newer = position
        for row in unpacked(content):
            before[newer] = newer = size + len(rows)
            before.append(None)
            rows.append(row)
    if not rows:
        return columns
    names = [column.name for column in table.columns]
    more = newest_columns(
        table,
        {name: [row.values.get(name) for row in rows] for name in names},
        [row.event for row in rows],
        [row.created for row in rows],
    )
    joined = {name: pa.concat_arrays([values, more[name]]) for name, values in columns.items()}
    return {**joined, table.earlier_column: pa.array(before, pa.int64())}


def joined_columns(
    table: FeatureTable, parts: list[dict[str, pa.Array]], sizes: list[int]
) -> dict[str, pa.Array]:
    """Columns of several reads as those of one: all newest rows, then all earlier ones.

    Args:
        table: The feature table.
        parts: The columns of each read.
        sizes: How many entities each read was for.
    """
    if len(parts) == 1:
        return parts[0]
    times = (table.timestamp_column, table.created_column, table.visible_at_column)
    names = (*(column.name for column in table.columns), *times)
    columns = {
        name: pa.concat_arrays(
            [part[name].slice(0, size) for part, size in zip(parts, sizes, strict=True)]
            + [part[name].slice(size) for part, size in zip(parts, sizes, strict=True)]
        )
        for name in names
        if name in parts[0]
    }
    if any(table.earlier_column in part for part in parts):
        columns[table.earlier_column] = _joined_indices(table, parts, sizes)
    return columns


def _joined_indices(
    table: FeatureTable, parts: list[dict[str, pa.Array]], sizes: list[int]
) -> pa.Array:
    """The indices of earlier rows, which come after all newest rows of all parts."""
    newest, earlier = [], []
    start = sum(sizes)
    for part, size in zip(parts, sizes, strict=True):
        num_rows = len(part[table.timestamp_column])
        indices = part.get(table.earlier_column, pa.nulls(num_rows, pa.int64()))
        numbers = indices.fill_null(-1).to_numpy(zero_copy_only=False)
        moved = np.where(numbers < 0, -1, numbers - size + start)
        newest.append(moved[:size])
        earlier.append(moved[size:])
        start += num_rows - size
    whole = np.concatenate(newest + earlier)
    return pa.array(whole, pa.int64(), mask=whole < 0)
