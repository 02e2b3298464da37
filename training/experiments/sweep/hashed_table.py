"""The same examples with fewer rows in each embedding table, for the sizes of the axis ``rows``."""

import dataclasses

import numpy as np

from features.encoding.encode import Ids, ModelInputs
from training.data.dataset import Buffer, Examples, ExampleTable
from training.model.inputs import Inputs

_SMALL_TABLE = 64
"""Rows that a table keeps at the least."""


class HashedTable(ExampleTable):
    """The same examples with fewer rows in each embedding table; ids beyond them share rows."""

    def __init__(self, table: ExampleTable, inputs: Inputs, rows_share: float) -> None:
        self.schema, self.root = table.schema, table.root
        sparse = tuple(
            dataclasses.replace(one, num_rows=capped(one.num_rows, rows_share))
            for one in inputs.sparse
        )
        self.inputs = dataclasses.replace(inputs, sparse=sparse)

    def read_buffer(self, buffer: Buffer) -> Examples:
        """The examples of one buffer."""
        examples = super().read_buffer(buffer)
        return dataclasses.replace(examples, inputs=self.hashed(examples.inputs))

    def hashed(self, inputs: ModelInputs) -> ModelInputs:
        """Ids in the rows that there are; row 0 stays missing or unknown."""
        found = {}
        for sparse in self.inputs.sparse:
            ids = inputs.ids[sparse.name]
            rows = np.where(ids.values > 0, 1 + (ids.values - 1) % (sparse.num_rows - 1), 0)
            found[sparse.name] = Ids(rows, ids.lengths)
        return ModelInputs(inputs.dense, found)


def capped(num_rows: int, share: float) -> int:
    """Rows of a table at a share of its own."""
    return max(min(num_rows, _SMALL_TABLE), round(num_rows * share))
