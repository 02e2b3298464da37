"""A bounded part of the examples of some days, always the same: a hash of their ids draws it."""

import datetime
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.schema import EXAMPLE_ID
from training.data.dataset import Buffer, ExampleTable

_READ_TIMES = 4
"""Row groups with so many times the rows wanted are read; of a large log not all."""
_GOLDEN_RATIO = np.uint64(0x9E3779B97F4A7C15)


def sampled_rows(
    table: ExampleTable, days: Sequence[datetime.date], *, most: int
) -> pa.Table | None:
    """Raw columns of about ``most`` examples of some days, or of all where there are not more.

    Args:
        table: The examples.
        days: Days that the table has.
        most: Rows that are wanted.

    Returns:
        The rows; None where the days have none.
    """
    groups = table.row_groups(days)
    num_rows = sum(group.num_rows for group in groups)
    if not num_rows:
        return None
    kept = groups[:: max(1, num_rows // (_READ_TIMES * most))]
    rows = Buffer(tuple(kept), table.filesystem).read()
    share = most / rows.num_rows
    if share >= 1:
        return rows
    ids = rows.column(EXAMPLE_ID).to_numpy()
    return rows.filter(pa.array(is_drawn(ids, share)))


def is_drawn(ids: npt.NDArray[np.int64], share: float) -> npt.NDArray[np.bool_]:
    """Whether each id is in a sample of this share; the same ids always are."""
    mixed = ids.astype(np.uint64)
    with np.errstate(over="ignore"):
        for shift in (30, 27, 31):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * _GOLDEN_RATIO
    return np.asarray((mixed >> np.uint64(11)) < np.uint64(share * 2**53))
