"""Encoded features of all items, or of all values of a key, looked up by id."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.encoding.encoded_table import EncodedTable
from features.encoding.primitives import IntArray
from features.schema import Dtype, Role, Schema

Identifiers = Sequence[int] | Sequence[str] | Sequence[int | str] | npt.NDArray[Any]


def microseconds_now() -> int:
    """Epoch microseconds."""
    return time.time_ns() // 1_000


class NumberIndex:
    """Places of integer ids."""

    def __init__(self, ids: Sequence[int] | npt.NDArray[np.int64]) -> None:
        """Args: the ids; each stands once."""
        self._ids = given = np.array(ids, dtype=np.int64)
        self._places = np.argsort(given)
        self._sorted = given[self._places]

    def rows(self, ids: Identifiers, *, absent: int) -> IntArray:
        """The place of each id, ``absent`` where it is not there."""
        wanted = np.asarray(ids, dtype=np.int64)
        if not len(self._sorted):
            return np.full(len(wanted), absent, dtype=np.int64)
        near = np.minimum(np.searchsorted(self._sorted, wanted), len(self._sorted) - 1)
        return np.where(self._sorted[near] == wanted, self._places[near], absent)

    def extended(self, ids: Identifiers) -> "NumberIndex":
        """The same, with more ids behind the last."""
        return NumberIndex(np.concatenate([self._ids, np.asarray(ids, dtype=np.int64)]))


class TextIndex:
    """Places of ids that are text."""

    def __init__(self, ids: Sequence[str]) -> None:
        """Args: the ids; each stands once."""
        self._places = {one: place for place, one in enumerate(ids)}

    def rows(self, ids: Identifiers, *, absent: int) -> IntArray:
        """The place of each id, ``absent`` where it is not there."""
        get = self._places.get
        return np.fromiter((get(one, absent) for one in ids), np.int64, len(ids))  # type: ignore[arg-type]

    def extended(self, ids: Identifiers) -> "TextIndex":
        """The same, with more ids behind the last."""
        return TextIndex([*self._places, *ids])


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """All items of a store as they were at one time, or all values of a key."""

    index: NumberIndex | TextIndex
    tables: dict[str, EncodedTable]
    num_items: int
    """Items, or values of the key, that have a row in any table."""
    by_key: Mapping[str, "Snapshot"] = dataclasses.field(default_factory=dict)
    """With the items, the keys of which the store has few: by ``FeatureTable.of``."""
    version: int = 0
    """Epoch microseconds at which its newest load began: it has all that the store had then."""

    @staticmethod
    def of(
        schema: Schema,
        ids: list[int] | list[str],
        columns: Mapping[str, pa.Array],
        *,
        of: str = Role.ITEM,
    ) -> "Snapshot":
        """Encode every table that is ``of`` the same; the newest rows are row for row the ids."""
        tables = {
            table.name: EncodedTable.of(
                schema, table, columns, null_row=EncodedTable.null_row(schema, table)
            )
            for table in schema.tables
            if table.of == of
        }
        is_text = schema.key(of).dtype is Dtype.STRING
        index = TextIndex(ids) if is_text else NumberIndex(ids)  # type: ignore[arg-type]
        return Snapshot(index, tables, len(ids))

    def renewed(
        self, schema: Schema, ids: list[int] | list[str], columns: Mapping[str, pa.Array]
    ) -> "Snapshot":
        """The same with other rows for some items, or their first; nothing else is encoded."""
        places = self.rows(ids)
        is_new = places < 0
        places[is_new] = self.num_items + np.arange(is_new.sum())
        new: Any = [one for one, is_one in zip(ids, is_new.tolist(), strict=True) if is_one]
        tables = {
            name: table.renewed(
                EncodedTable.of(
                    schema,
                    table.table,
                    columns,
                    null_row=EncodedTable.null_row(schema, table.table),
                ),
                places,
                num_entities=self.num_items,
            )
            for name, table in self.tables.items()
        }
        index = self.index.extended(new) if new else self.index
        return Snapshot(index, tables, self.num_items + len(new), self.by_key)

    @property
    def num_bytes(self) -> int:
        """Memory of the tables."""
        own = sum(table.num_bytes for table in self.tables.values())
        return own + sum(snapshot.num_bytes for snapshot in self.by_key.values())

    def rows(self, ids: Identifiers) -> IntArray:
        """The newest row of each item in every table; -1, the null row, where it has none."""
        return self.index.rows(ids, absent=-1)
