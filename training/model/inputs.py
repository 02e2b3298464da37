"""What a ranker reads, of whatever data set: sparse inputs with their tables, and numbers."""

import dataclasses

from features.schema import Kind, Schema


@dataclasses.dataclass(frozen=True)
class SparseInput:
    """A bag of embedding rows for each example."""

    name: str
    num_rows: int
    """Rows of the table that it reads."""
    table: str
    """The table: its own name, or that of the input whose table it shares."""
    max_length: int = 1
    """Ids of an example, at most."""


@dataclasses.dataclass(frozen=True)
class PretrainedInput:
    """A sparse input that is also looked up in vectors that do not train."""

    name: str
    num_rows: int
    dim: int


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Everything a ranker reads, in the order of ``features.encoding.encode.ModelInputs``."""

    sparse: tuple[SparseInput, ...]
    dense: tuple[Kind, ...]
    pretrained: tuple[PretrainedInput, ...] = ()

    def with_rows_times(self, factor: int) -> "Inputs":
        """The same inputs with longer tables, for planning ahead."""
        longer = (
            dataclasses.replace(sparse, num_rows=sparse.num_rows * factor) for sparse in self.sparse
        )
        return dataclasses.replace(self, sparse=tuple(longer))

    def num_rows(self) -> int:
        """Rows of all tables."""
        return sum(one.num_rows for one in self.sparse if one.table == one.name)


def inputs_of(schema: Schema) -> Inputs:
    """The inputs that a schema declares."""
    columns = schema.sparse_inputs()
    rows = {column.name: column.num_rows for column in columns}
    return Inputs(
        sparse=tuple(
            SparseInput(
                name=column.name,
                num_rows=rows[column.shares_table_with or column.name],
                table=column.shares_table_with or column.name,
                max_length=column.max_length or 1,
            )
            for column in columns
        ),
        dense=tuple(schema.dense_kinds()),
    )
