"""By which columns rows of a table are known to be a user's, or to name the user in a list.

No reading and no Spark: what is marked of rows that others have read.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.erasure.person import Person
from features.lake.lake import QUARANTINE, READMITTED
from features.schema import EXAMPLE_ID, Schema
from features.schema.keys import parts_of_key

Mask = npt.NDArray[np.bool_]
_CHANGES = "changes"
"""Column of READMITTED: what was changed of an impression, by column, as JSON."""


class Marks(Protocol):
    """Which rows of one table are a user's."""

    def columns(self, names: Sequence[str]) -> list[str]:
        """The columns, of those of the table, that ``mask`` and ``named_in`` read."""

    def mask(self, rows: pa.Table) -> Mask:
        """For each row whether it is the user's own."""

    def named_in(self, rows: pa.Table) -> dict[str, list[list[int]]]:
        """Lists of other rows that name the user: by column, the places in each row's list."""


@dataclasses.dataclass(frozen=True)
class TableMarks:
    """The marks of a table of the lake."""

    person: Person
    table: str

    def columns(self, names: Sequence[str]) -> list[str]:
        """The user's id, a key that it is a part of, or an id of what belongs to the user."""
        lists = [name for columns in self._histories(names) for name in columns]
        return [name for name in dict.fromkeys([*self._own(names), *lists]) if name in names]

    def mask(self, rows: pa.Table) -> Mask:
        """By the first of these columns that the table has."""
        person, names = self.person, rows.column_names
        own = self._own(names)
        if not own:
            return np.zeros(len(rows), dtype=np.bool_)
        column = rows.column(own[0])
        if own[0] == person.schema.user.name:  # type: ignore[union-attr]
            return _equal_to(column, [person.user_id])
        if self.table == READMITTED:
            changed = [_names_user(person, one) for one in rows.column(_CHANGES).to_pylist()]
            return _equal_to(column, person.examples) | np.array(changed, dtype=np.bool_)
        if own[0] in self._keys():
            by = self._keys()[own[0]]
            keys = pc.unique(column).to_pylist()
            return _equal_to(column, [key for key in keys if is_key_of(person, by, key)])
        return _equal_to(column, person.requests)

    def named_in(self, rows: pa.Table) -> dict[str, list[list[int]]]:
        """Places in the lists of a history in which the user is."""
        found: dict[str, list[list[int]]] = {}
        for of_users, *others in self._histories(rows.column_names):
            if of_users not in rows.column_names:
                continue
            values = rows.column(of_users).to_pylist()
            places = [
                [n for n, one in enumerate(row or ()) if one == self.person.user_id]
                for row in values
            ]
            if any(places):
                found |= dict.fromkeys([of_users, *others], places)
        return found

    def _own(self, names: Sequence[str]) -> list[str]:
        schema = self.person.schema
        user = schema.user.name if schema.user else ""
        if user in names:
            return [user]
        if self.table == READMITTED:
            return [EXAMPLE_ID, _CHANGES]
        if keys := [name for name in self._keys() if name in names]:
            return keys[:1]
        request = schema.request.name if schema.request else ""
        return [request] if request in names and self._is_of_events() else []

    def _keys(self) -> dict[str, tuple[str, ...]]:
        """Key columns that the user's id is a part of, with what they are made of."""
        return keys_of_user(self.person.schema)

    def _is_of_events(self) -> bool:
        name = self.table.removeprefix(f"{QUARANTINE}_")
        return name.startswith("labels_")

    def _histories(self, names: Sequence[str]) -> Iterator[list[str]]:
        """Of each history that keeps users' ids its list of them, and the lists beside it."""
        for columns in histories_of_users(self.person.schema):
            if columns[0] in names:
                yield [name for name in columns if name in names]


def keys_of_user(schema: Schema) -> dict[str, tuple[str, ...]]:
    """Key columns of feature tables that the user's id is a part of, with what they are made of."""
    user = schema.user.name if schema.user else ""
    return {table.of: table.by for table in schema.tables if user in table.by}


def histories_of_users(schema: Schema) -> list[list[str]]:
    """Of each history that keeps users' ids the columns of its lists, that of the users first."""
    user = schema.user.name if schema.user else ""
    found = []
    for table in schema.tables:
        for history in table.histories:
            if user in history.columns:
                others = [name for name in history.columns if name != user]
                found.append([f"{history.name}_{name}" for name in (user, *others)])
    return found


def is_key_of(person: Person, by: Sequence[str], key: int | str | None) -> bool:
    """Whether a key, made of these columns, has the user's id in it."""
    if key is None:
        return False
    user = person.schema.user.name if person.schema.user else ""
    parts = parts_of_key(str(key)) if len(by) > 1 else [str(key)]
    return parts[list(by).index(user)] == str(person.user_id)


def without(values: pa.Array, places: Sequence[Sequence[int]]) -> pa.Array:
    """Lists without what they have at some places."""
    kept = [
        row if row is None else [one for n, one in enumerate(row) if n not in gone]
        for row, gone in zip(values.to_pylist(), places, strict=True)
    ]
    return pa.array(kept, values.type)


def _names_user(person: Person, changes: list[dict[str, str]] | None) -> bool:
    """Whether a change put the user's id into an impression, or took it out."""
    user = person.schema.user.name if person.schema.user else ""
    mine = [one for one in changes or () if one["column"] == user]
    texts = [one[side] for one in mine for side in ("before", "after") if one[side]]
    return any(json.loads(text).get("value") == person.user_id for text in texts)


def _equal_to(column: pa.ChunkedArray, values: Sequence[object] | frozenset[object]) -> Mask:
    found = pc.is_in(column, value_set=pa.array(list(values), column.type))
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.bool_)
