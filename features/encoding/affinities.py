"""How a user liked the last items that have a value in common with a candidate.

A pure function of a user's row and a candidate's, for training examples, trees and requests alike:
the values that the last items had are kept in the user's row, so no other item is looked up.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from features.encoding.primitives import IntArray
from features.schema import Label, Schema

if TYPE_CHECKING:
    from features.encoding.encode import Ids

Lengths = npt.NDArray[np.int32] | IntArray
_ROWS_AT_ONCE = 1_024
"""Of rows that each have their own user: a bit for each value of theirs stays little memory."""


def affinities_of_rows(
    schema: Schema, past: Mapping[str, "Ids"], candidates: Mapping[str, "Ids"], *, size: int
) -> npt.NDArray[np.float32]:
    """``affinities`` of ``size`` candidates, each of its own user: row b of both."""
    parts = [np.empty((0, len(schema.affinities)), dtype=np.float32)]
    read = {one.on for one in schema.affinities}
    for start in range(0, size if read else 0, _ROWS_AT_ONCE):
        rows = np.arange(start, min(start + _ROWS_AT_ONCE, size))
        of_users = {name: ids.take(rows) for name, ids in past.items()}
        of_items = {name: candidates[name].take(rows) for name in read}
        parts.append(affinities(schema, of_users, of_items, rows - start))
    return np.concatenate(parts) if read else np.empty((size, 0), dtype=np.float32)


def affinities(
    schema: Schema, past: Mapping[str, "Ids"], candidates: Mapping[str, "Ids"], user: IntArray
) -> npt.NDArray[np.float32]:
    """(N, number of affinities) in ``Schema.affinities`` order, NaN where no item is alike.

    Args:
        schema: The data set's schema.
        past: By the names of stored columns, what ``encode_past`` makes of the rows of U users.
        candidates: By attribute, the values of N candidates as embedding rows.
        user: (N,) whose candidate each is, from 0 to U - 1.
    """
    found = np.empty((len(user), len(schema.affinities)), dtype=np.float32)
    for place, one in enumerate(schema.affinities):
        values, counts, labels = (past[name] for name in one.stored)
        items = _places(counts.lengths)[user]
        # A row of before the values were kept has labels alone, and is as one without a history.
        of_kept = labels.values[np.repeat(counts.lengths > 0, labels.lengths)]
        wanted = candidates[one.on]
        # What only one side has is in common with nothing.
        known = np.unique(np.append(min(values.values, wanted.values, key=len), 0))
        of_items = _bits(values.values, counts.values, known)
        of_candidates = _bits(wanted.values, wanted.lengths, known)
        is_alike = np.zeros(items.shape, dtype=np.bool_)
        for of_item, of_candidate in zip(of_items.T, of_candidates.T, strict=True):
            is_alike |= (of_item[items] & of_candidate[:-1, None]) != 0
        is_positive = (np.append(of_kept, 0) == 1)[items] & is_alike
        found[:, place] = _rate(is_positive.sum(axis=1), is_alike.sum(axis=1), schema.label)
    return found


def _places(lengths: npt.NDArray[np.int32]) -> IntArray:
    """(U, most) the places of each user's items among those of all users; where none, the end."""
    starts, within = np.cumsum(lengths) - lengths, np.arange(lengths.max(initial=0))
    return np.where(within < lengths[:, None], starts[:, None] + within, lengths.sum())


def _bits(values: IntArray, lengths: Lengths, known: IntArray) -> npt.NDArray[np.uint8]:
    """(bags + 1, bytes) a bit for each known value but 0 that a bag has; the last bag is empty.

    Args:
        values: Embedding rows of all bags; 0, missing or unknown, is no value.
        lengths: (bags,) how many each has.
        known: Values in order, the first of them 0.
    """
    has_value = np.zeros((len(lengths) + 1, len(known)), dtype=np.bool_)
    place = np.minimum(np.searchsorted(known, values), len(known) - 1)
    is_known = (known[place] == values) & (place > 0)
    bag = np.repeat(np.arange(len(lengths)), lengths)
    has_value[bag[is_known], place[is_known]] = True
    return np.packbits(has_value, axis=1)


def _rate(positives: IntArray, of_all: IntArray, label: Label) -> npt.NDArray[np.float64]:
    """The share, smoothed as all rates of positives are; NaN where there is none of which it is."""
    smoothed = (positives + label.prior_rate * label.prior_weight) / (of_all + label.prior_weight)
    return np.where(of_all > 0, smoothed, np.nan)
