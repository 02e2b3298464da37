"""A feature table as model inputs, encoded once when its rows are read.

A request takes rows of it by ``EncodedTable.part``. ``features.encoding.request`` joins the parts.
"""

import dataclasses
import functools

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.encoding.encode import Ids, RowStatus, encode_ids, status_at
from features.encoding.primitives import (
    Columns,
    IntArray,
    Numbers,
    encode_numbers,
    epoch_microseconds,
)
from features.online_store.codec import ARROW_TYPES, STAMP
from features.schema import FeatureTable, Schema

Statuses = npt.NDArray[np.int8]
_NO_TIME: IntArray = np.zeros(0, dtype=np.int64)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodedTable:
    """Rows of a feature table as model inputs; the last row is all null.

    First the newest row of each entity, then earlier rows, which are used until the newest ones
    become visible (``features.online_store.visibility``).
    """

    table: FeatureTable
    raw: dict[str, pa.Array]
    """The stored columns that inputs are made of, and the event timestamp; without the last row."""
    moments: IntArray
    """Event timestamps as epoch microseconds; 0 where there is no row."""
    visible_at: IntArray
    """Epoch microseconds from which each row may be counted on."""
    earlier: IntArray | None
    """The index of the row before each one, -1 where there is none; None where all have none."""
    is_known: npt.NDArray[np.bool_]
    numbers: Numbers
    ids: dict[str, Ids]

    @staticmethod
    def null_row(schema: Schema, table: FeatureTable) -> "EncodedTable":
        """Only the row that is all null."""
        kinds = {column.name: ARROW_TYPES[column.dtype] for column in table.columns}
        kinds[table.timestamp_column] = STAMP
        null = _encoded(schema, table, {name: pa.nulls(1, kind) for name, kind in kinds.items()})
        raw = {name: values.slice(1) for name, values in null.raw.items()}
        return dataclasses.replace(null, raw=raw)

    @staticmethod
    def of(
        schema: Schema, table: FeatureTable, stored: Columns, *, null_row: "EncodedTable"
    ) -> "EncodedTable":
        """Encode what a store has.

        Args:
            schema: The data set's schema.
            table: The table.
            stored: All its columns, its event timestamp, and where the rows come from an online
                store, from when they count and which come before them.
            null_row: ``null_row`` of the table; the caller keeps it, since it is always the same.
        """
        rows = _encoded(schema, table, stored)
        earlier = None if rows.earlier is None else np.append(rows.earlier, -1)
        return rows._joined(null_row, raw=rows.raw, earlier=earlier)

    @property
    def null_index(self) -> int:
        """Index of the row that stands for "no usable row"."""
        return len(self.moments) - 1

    @property
    def num_bytes(self) -> int:
        """Memory of the encoded and the raw rows."""
        encoded = self.numbers.num_bytes + self.moments.nbytes + self.is_known.nbytes
        encoded += self.visible_at.nbytes + (0 if self.earlier is None else self.earlier.nbytes)
        encoded += sum(ids.values.nbytes + ids.lengths.nbytes for ids in self.ids.values())
        return int(encoded + sum(values.nbytes for values in self.raw.values()))

    def renewed(
        self, changed: "EncodedTable", positions: IntArray, *, num_entities: int
    ) -> "EncodedTable":
        """The same table in which some entities have other rows, or their first.

        Args:
            changed: The rows of C entities.
            positions: (C,) the position of each among all entities; new ones follow the last.
            num_entities: Entities of this table.
        """
        start = self.null_index + 1
        newest = np.arange(max(num_entities, int(positions.max(initial=-1)) + 1))
        newest[positions] = np.arange(len(positions)) + start
        before = np.concatenate([self._earlier_or_none(0), changed._earlier_or_none(start)])
        rows = [newest]
        while len(more := before[rows[-1]][before[rows[-1]] >= 0]):
            rows.append(more)
        order = np.append(np.concatenate(rows), self.null_index)
        moved = np.full(len(before), -1)
        moved[order] = np.arange(len(order))
        earlier = np.where(before[order] < 0, -1, moved[before[order]])
        whole = self._with(changed)
        return whole.take(order, earlier=None if len(rows) == 1 else earlier)

    def _earlier_or_none(self, start: int) -> IntArray:
        """For each row the index of the one before it; the first row has the index ``start``."""
        if self.earlier is None:
            return np.full(len(self.moments), -1)
        return np.where(self.earlier < 0, -1, self.earlier + start)

    def _with(self, other: "EncodedTable") -> "EncodedTable":
        """All rows of both, null rows included, in ``raw`` too, so that indices agree."""
        raw = {
            name: pa.concat_arrays([values, pa.nulls(1, values.type), other.raw[name]])
            for name, values in self.raw.items()
        }
        return self._joined(other, raw=raw, earlier=None)

    def _joined(
        self, other: "EncodedTable", *, raw: dict[str, pa.Array], earlier: IntArray | None
    ) -> "EncodedTable":
        return EncodedTable(
            table=self.table,
            raw=raw,
            moments=np.concatenate([self.moments, other.moments]),
            visible_at=np.concatenate([self.visible_at, other.visible_at]),
            earlier=earlier,
            is_known=np.concatenate([self.is_known, other.is_known]),
            numbers=Numbers.joined([self.numbers, other.numbers]),
            ids={name: Ids.joined([ids, other.ids[name]]) for name, ids in self.ids.items()},
        )

    def take(self, rows: IntArray, *, earlier: IntArray | None) -> "EncodedTable":
        """Some rows in another order, the last of them a null row.

        Args:
            rows: Their indices.
            earlier: ``earlier`` of the new table.
        """
        indices = pa.array(rows[:-1])
        return EncodedTable(
            table=self.table,
            raw={name: values.take(indices) for name, values in self.raw.items()},
            moments=self.moments[rows],
            visible_at=self.visible_at[rows],
            earlier=earlier,
            is_known=self.is_known[rows],
            numbers=self.numbers.take(rows),
            ids={name: ids.take(rows) for name, ids in self.ids.items()},
        )

    def part(self, rows: IntArray, request_time: int) -> "Part":
        """Rows as a request of that moment may use them; ``null_index`` where there is none.

        Args:
            rows: Indices of entities, -1 or ``null_index`` for one that has no row.
            request_time: Epoch microseconds.
        """
        rows = self._visible(rows, request_time)
        status = status_at(
            self.table,
            self.moments[rows],
            visible_at=self.visible_at[rows],
            is_known=self.is_known[rows],
            request_time=np.array([request_time], dtype=np.int64),
        )
        usable = np.where(status == RowStatus.USABLE, rows, self.null_index)
        return Part(encoded=self, rows=usable, status=status)

    def _visible(self, rows: IntArray, request_time: int) -> IntArray:
        """For each newest row the row of its entity that is visible; its oldest where none is."""
        if self.earlier is None:
            return rows
        while True:
            before = self.earlier[rows]
            must_wait = (self.visible_at[rows] > request_time) & (before >= 0)
            if not must_wait.any():
                return rows
            rows = np.where(must_wait, before, rows)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """The rows of one table that a request uses, each the table's null row where it may not."""

    encoded: EncodedTable
    rows: IntArray
    status: Statuses
    """Why: for each of ``rows`` a RowStatus."""

    @property
    def table(self) -> FeatureTable:
        """Whose rows they are."""
        return self.encoded.table

    def column(self, name: str) -> pa.Array:
        """Raw values that were encoded, null where a row could not be used."""
        return self.encoded.raw[name].take(self._indices)

    def copied(self) -> "OwnRows":
        """The rows alone: what keeps them does not keep the table in memory."""
        raw = self.encoded.raw
        columns = {name: raw[name].take(self._indices) for name in self.table.encoded_columns}
        return OwnRows(table=self.table, columns=columns, status=self.status)

    @functools.cached_property
    def _indices(self) -> pa.Array:
        return pa.array(self.rows, mask=self.rows == self.encoded.null_index)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnRows:
    """A request's rows of one table, copied out of it."""

    table: FeatureTable
    columns: dict[str, pa.Array]
    status: Statuses
    """As ``Part`` has it."""

    def column(self, name: str) -> pa.Array:
        """As ``Part`` gives it."""
        return self.columns[name]

    def copied(self) -> "OwnRows":
        """Returns itself: it is a copy already."""
        return self


def _encoded(schema: Schema, table: FeatureTable, stored: Columns) -> EncodedTable:
    raw = {name: stored[name] for name in table.encoded_columns}
    stamps = raw[table.timestamp_column]
    moments = epoch_microseconds(stamps)
    visible_at, earlier = stored.get(table.visible_at_column), stored.get(table.earlier_column)
    return EncodedTable(
        table=table,
        raw=raw,
        moments=moments,
        visible_at=moments if visible_at is None else _integers(visible_at, null=0),
        earlier=None if earlier is None else _integers(earlier, null=-1),
        is_known=stamps.is_valid().to_numpy(zero_copy_only=False),
        numbers=encode_numbers(table.dense_columns, raw, size=len(stamps)),
        ids=encode_ids(schema, table.sparse_columns, raw, request_time=_NO_TIME),
    )


def _integers(values: pa.Array, *, null: int) -> IntArray:
    filled: IntArray = values.fill_null(null).to_numpy(zero_copy_only=False)
    return filled
