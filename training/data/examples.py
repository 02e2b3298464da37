"""Encoded examples: what a ranker is trained, judged and checked on, wherever the rows are from."""

import dataclasses

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.encoding.encode import InfiniteError, ModelInputs, encode
from features.schema import EXAMPLE_ID, KNOWN_SHARE, LABEL, Schema
from training.data.immature import corrected_labels


@dataclasses.dataclass(frozen=True)
class Examples:
    """Encoded examples and what identifies and judges them."""

    inputs: ModelInputs
    label: npt.NDArray[np.int64]
    example_id: npt.NDArray[np.int64]
    table: pa.Table
    """The raw columns, in the same order."""

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.label)

    def take(self, rows: npt.NDArray[np.int64]) -> "Examples":
        """Some examples, in the order given."""
        return Examples(
            self.inputs.take(rows), self.label[rows], self.example_id[rows], self.table.take(rows)
        )

    @property
    def learnt(self) -> npt.NDArray[np.float64]:
        """What is learnt: the label, corrected where it is not final."""
        if KNOWN_SHARE not in self.table.column_names:
            return self.label.astype(np.float64)
        return corrected_labels(self.label, self.table.column(KNOWN_SHARE).to_numpy())


def encode_examples(schema: Schema, table: pa.Table) -> Examples:
    """Encode a table of examples; ValueError names one with a number that is infinite."""
    columns = {name: table.column(name) for name in table.column_names}
    try:
        inputs = encode(schema, columns)
    except InfiniteError as error:
        example = table.column(EXAMPLE_ID)[error.row].as_py()
        raise ValueError(f"example {example}: {error}") from error
    return Examples(
        inputs,
        table.column(LABEL).to_numpy(),
        table.column(EXAMPLE_ID).to_numpy(),
        table,
    )
