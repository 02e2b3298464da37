"""Dense inputs: the numbers of a row, and its ages, which need the time of the request."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.encoding.primitives import (
    MICROSECONDS_PER_SECOND,
    Columns,
    IntArray,
    column_of,
    is_null,
)
from features.schema import Column, Kind


@dataclasses.dataclass(frozen=True)
class Numbers:
    """Dense inputs of B rows; ages are computed when the time of the request is known."""

    values: npt.NDArray[np.float32]
    """(B, number of columns); NaN where a number is missing, and in every age."""
    moments: dict[int, tuple[IntArray, npt.NDArray[np.bool_]]]
    """By index among the columns: the epoch microseconds of an age, and whether it is missing."""

    def take(self, rows: IntArray) -> "Numbers":
        """The numbers of some rows, in the order given."""
        moments = {index: (at[rows], gone[rows]) for index, (at, gone) in self.moments.items()}
        return Numbers(self.values[rows], moments)

    @staticmethod
    def joined(parts: Sequence["Numbers"]) -> "Numbers":
        """The rows of several, one after the other."""
        moments = {
            index: (
                np.concatenate([part.moments[index][0] for part in parts]),
                np.concatenate([part.moments[index][1] for part in parts]),
            )
            for index in parts[0].moments
        }
        return Numbers(np.concatenate([part.values for part in parts]), moments)

    def at(self, request_time: IntArray) -> npt.NDArray[np.float32]:
        """The dense inputs of requests at these epoch microseconds: (B,), or one for all rows."""
        values = self.values.copy() if self.moments else self.values
        for index, (moment, is_missing) in self.moments.items():
            age = np.maximum(request_time - moment, 0) / MICROSECONDS_PER_SECOND
            values[:, index] = np.where(is_missing, np.nan, age)
        return values


def encode_numbers(wanted: Sequence[Column], columns: Columns, *, size: int) -> Numbers:
    """Dense inputs of some columns, for ``size`` rows."""
    values = np.empty((size, len(wanted)), dtype=np.float32)
    moments = {}
    for index, column in enumerate(wanted):
        given = column_of(columns, column.name)
        is_missing = is_null(given)
        filled = _filled(given)
        if column.kind is Kind.AGE:
            moments[index] = (filled.astype(np.int64, copy=False), is_missing)
            values[:, index] = np.nan
        else:
            values[:, index] = np.where(is_missing, np.nan, filled)
    return Numbers(values, moments)


def _filled(values: pa.Array) -> IntArray | npt.NDArray[np.float64]:
    """The numbers, 0 where null."""
    # An Arrow function costs as much as a thousand of its values.
    given = pc.fill_null(values, 0) if values.null_count else values
    filled: IntArray | npt.NDArray[np.float64] = given.to_numpy(zero_copy_only=False)
    return filled
