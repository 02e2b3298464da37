"""What a ranker can take over from a checkpoint of another schema: tables that grew, new inputs.

A checkpoint records what its inputs were (``InputsRecord``). Against the inputs of today's schema
each table is kept, resized or new, and each dense input kept or new; a checkpoint that has an input
which is gone cannot be taken over. Values only, no tensors.
"""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

import pydantic

from features.schema import Kind, Schema
from training.model.inputs import Inputs, SparseInput, inputs_of


class AdoptionError(ValueError):
    """A checkpoint whose inputs are no part of today's."""


class TableMigration(enum.StrEnum):
    """What becomes of a table or an input."""

    KEPT = "kept"
    RESIZED = "resized"
    """Its old rows as they were, its new ones at random."""
    NEW = "new"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableRows:
    """What the rows of an embedding table stand for; row 0 is missing or unknown in all."""

    num_rows: int
    vocabulary: tuple[str, ...] = ()
    hash_size: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputsRecord:
    """The inputs of a ranker, as its checkpoint's manifest has them."""

    tables: dict[str, TableRows]
    sparse: dict[str, str]
    """The table that each sparse input reads, in the inputs' order."""
    dense: dict[str, str]
    """The kind of each dense input, in the inputs' order."""

    @classmethod
    def of(cls, schema: Schema) -> "InputsRecord":
        """What a schema declares."""
        columns = schema.sparse_inputs()
        owners = (column for column in columns if not column.shares_table_with)
        kinds = (str(kind) for kind in schema.dense_kinds())
        return cls(
            tables={
                owner.name: TableRows(
                    num_rows=owner.num_rows,
                    vocabulary=owner.vocabulary,
                    hash_size=owner.hash_size,
                )
                for owner in owners
            },
            sparse={sparse.name: sparse.table for sparse in inputs_of(schema).sparse},
            dense=dict(zip(schema.dense_inputs(), kinds, strict=True)),
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "InputsRecord":
        """From the plain values of a manifest."""
        return pydantic.TypeAdapter(cls).validate_python(values)

    def inputs(self) -> Inputs:
        """What a ranker of them reads."""
        sparse = (
            SparseInput(name, self.tables[table].num_rows, table)
            for name, table in self.sparse.items()
        )
        return Inputs(sparse=tuple(sparse), dense=tuple(Kind(kind) for kind in self.dense.values()))


@dataclasses.dataclass(frozen=True)
class Adoption:
    """How a checkpoint's inputs lie in today's."""

    before: InputsRecord
    after: InputsRecord

    def __post_init__(self) -> None:
        """Refuse what loses an input; AdoptionError names it."""
        for what in ("sparse", "dense"):
            old, new = getattr(self.before, what), getattr(self.after, what)
            if gone := [name for name in old if name not in new]:
                raise AdoptionError(f"{what} inputs {gone}: not in today's schema")
        for name, table in self.before.sparse.items():
            if self.after.sparse[name] != table:
                raise AdoptionError(
                    f"sparse input {name}: read table {table}, reads {self.after.sparse[name]} now"
                )

    def table(self, name: str) -> tuple[TableMigration, str]:
        """What becomes of one of today's tables, and why or how."""
        after, before = self.after.tables[name], self.before.tables.get(name)
        if before is None:
            return TableMigration.NEW, f"{after.num_rows:,} rows"
        if before == after:
            return TableMigration.KEPT, f"{after.num_rows:,} rows"
        if before.hash_size != after.hash_size:
            sizes = f"hash_size {before.hash_size} to {after.hash_size}"
            return TableMigration.NEW, f"{sizes}, under which its rows stand for other ids"
        if bool(before.vocabulary) != bool(after.vocabulary):
            return TableMigration.NEW, "it has a vocabulary, or has none any more"
        if after.vocabulary[: len(before.vocabulary)] != before.vocabulary:
            return TableMigration.NEW, "its vocabulary changed elsewhere than at its end"
        if after.num_rows < before.num_rows:
            return (
                TableMigration.NEW,
                f"{before.num_rows:,} rows to {after.num_rows:,}, which cannot shrink",
            )
        return TableMigration.RESIZED, f"{before.num_rows:,} rows to {after.num_rows:,}"

    def dense_positions(self) -> list[tuple[int, int]]:
        """(position before, position now) of each dense input that means what it meant."""
        now = {name: position for position, name in enumerate(self.after.dense)}
        return [
            (position, now[name])
            for position, (name, kind) in enumerate(self.before.dense.items())
            if self.after.dense[name] == kind
        ]

    def to_dict(self) -> dict[str, str]:
        """Every table, and every dense input that is new, with what becomes of it."""
        kept = {now for _, now in self.dense_positions()}
        tables = {f"table {name}": ": ".join(self.table(name)) for name in self.after.tables}
        dense = {
            f"dense input {name}": f"{TableMigration.NEW}: {kind}"
            for position, (name, kind) in enumerate(self.after.dense.items())
            if position not in kept
        }
        return tables | dense
