"""Parts of the rows that are looked at on their own: what the gate protects, and what drift has."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.encoding.encode import ModelInputs
from features.schema import Column, Kind, Role, Schema, TableKind

Slices = dict[str, npt.NDArray[np.bool_]]
ALL = "all"
MOST_CATEGORIES, MOST_SLICES = 12, 16
"""Values of a column that is cut into slices, and slices of a data set."""
_NEW_USER_IMPRESSIONS, _HEAVY_USER_IMPRESSIONS, _NEW_ITEM_IMPRESSIONS = 10, 100, 10


def named_slices(columns: Mapping[str, pa.Array], schema: Schema) -> Slices:
    """Parts of the rows that must not break: new users, heavy users, new items.

    Args:
        columns: Raw columns of the rows, by name.
        schema: The data set's schema.
    """
    slices = {}
    for table in schema.tables:
        if table.kind is TableKind.ATTRIBUTES or table.is_declared:
            continue
        name = f"{table.role}_impressions_all"
        if name not in columns:  # the log of answers has what is encoded, and nothing else
            continue
        count = pc.fill_null(columns[name], 0).to_numpy()
        if table.role is Role.USER:
            slices["new users"] = count < _NEW_USER_IMPRESSIONS
            slices["heavy users"] = count >= _HEAVY_USER_IMPRESSIONS
        else:
            slices["new items"] = count < _NEW_ITEM_IMPRESSIONS
    return slices


def all_slices(columns: Mapping[str, pa.Array], inputs: ModelInputs, schema: Schema) -> Slices:
    """All rows, the named slices, and one for each value of columns that have few.

    Which there are depends on the schema alone, so that those of any two days can be compared.
    Context comes first, then attributes; a column that would exceed ``MOST_SLICES`` is left out.

    Args:
        columns: Raw columns of the rows, by name.
        inputs: The same rows encoded.
        schema: The data set's schema.
    """
    slices = {ALL: np.ones(len(inputs), dtype=np.bool_), **named_slices(columns, schema)}
    for column in _cut_columns(schema):
        if len(slices) - 1 + column.num_rows - 1 <= MOST_SLICES:
            rows = inputs.ids[column.name].values
            slices |= {
                f"{column.name} = {category(column, row)}": rows == row
                for row in range(1, column.num_rows)
            }
    return slices


def category(column: Column, row: int) -> str:
    """What a row of a column's embedding table stands for; of hashed ids the row's number."""
    if column.vocabulary:
        return column.vocabulary[row - 1]
    return str(row - 1) if column.num_ids else f"row {row}"


def _cut_columns(schema: Schema) -> list[Column]:
    columns = (*schema.context, *(column for table in schema.tables for column in table.columns))
    return [
        column
        for column in columns
        if column.kind is Kind.SPARSE
        and not column.dtype.is_list
        and not column.shares_table_with
        and column.neutral is None
        and column.num_rows - 1 <= MOST_CATEGORIES
    ]
