"""How a user liked the last items that have a value in common with a candidate.

A pure function of a user's row and a candidate's, for training examples, trees and requests alike:
the values that the last items had are kept in the user's row, so no other item is looked up.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from features.encoding.primitives import IntArray
from features.schema import Label, Schema

if TYPE_CHECKING:
    from features.encoding.encode import Ids

Lengths = npt.NDArray[np.int32] | IntArray
_ROWS_AT_ONCE = 1_024
"""Of rows that each have their own user: some copies of their values stay little memory."""


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
        last = _LastItems.of(*(past[name] for name in one.stored))
        is_alike = _alike(last, candidates[one.on], user)
        is_positive = last.is_positive[user] & is_alike
        found[:, place] = _rate(is_positive.sum(axis=1), is_alike.sum(axis=1), schema.label)
    return found


class _LastItems(NamedTuple):
    """The last items of U users: ``of_user`` and ``within`` say which place of whom each has."""

    of_user: IntArray
    within: IntArray
    values: IntArray
    """Of all items, one after the other."""
    item: IntArray
    """The item of each value."""
    is_positive: npt.NDArray[np.bool_]
    """(U, most items of a user)."""

    @staticmethod
    def of(values: "Ids", counts: "Ids", labels: "Ids") -> "_LastItems":
        """Args: the values of the items of each user, how many each item has, and its label."""
        is_kept = _is_kept(values, counts, labels)
        lengths = np.where(is_kept, counts.lengths, 0)
        own, sizes, label = (
            ids.values[np.repeat(is_kept, ids.lengths)] for ids in (values, counts, labels)
        )
        of_user, within = np.repeat(np.arange(len(lengths)), lengths), _counted(lengths)
        is_positive = np.zeros((len(lengths), lengths.max(initial=0)), dtype=np.bool_)
        is_positive[of_user, within] = label == 1
        item = np.repeat(np.arange(len(of_user)), sizes)
        return _LastItems(of_user, within, own, item, is_positive)


def _is_kept(values: "Ids", counts: "Ids", labels: "Ids") -> npt.NDArray[np.bool_]:
    """(U,) whether the three lists of a user fit; one of whom they do not is without a history.

    A row of before the values were kept has labels alone.
    """
    # A negative one fits no list.
    sizes = np.where(counts.values < 0, 1 << 32, counts.values)
    sums, ends = np.append(0, np.cumsum(sizes)), np.cumsum(counts.lengths)
    has_all = sums[ends] - sums[ends - counts.lengths] == values.lengths
    fits: npt.NDArray[np.bool_] = has_all & (counts.lengths == labels.lengths)
    return fits


def _alike(last: _LastItems, wanted: "Ids", user: IntArray) -> npt.NDArray[np.bool_]:
    """(N, most items of a user) whether an item has a value in common with a user's candidate.

    Memory and time grow with the values and with what is alike, however many distinct ones there
    are; no key is above users times embedding rows.
    """
    # 0, missing or unknown, is no value.
    candidate = np.repeat(np.arange(len(user)), wanted.lengths)[wanted.values > 0]
    sought = wanted.values[wanted.values > 0]
    size = 1 + max(last.values.max(initial=0), sought.max(initial=0))
    of_items = last.of_user[last.item] * size + last.values
    mine, theirs = _equal(of_items, user[candidate] * size + sought)
    found = np.zeros((len(user), last.is_positive.shape[1]), dtype=np.bool_)
    found[candidate[theirs], last.within[last.item[mine]]] = True
    return found


def _equal(one: IntArray, other: IntArray) -> tuple[IntArray, IntArray]:
    """All pairs of places at which two arrays of keys from 0 on have the same one."""
    if len(one) > len(other):
        theirs, mine = _equal(other, one)
        return mine, theirs
    order = np.argsort(one)
    keys, starts, numbers = np.unique(one[order], return_index=True, return_counts=True)
    place = np.searchsorted(keys, other)
    found = np.flatnonzero(np.append(keys, -1)[place] == other)
    starts, numbers = starts[place[found]], numbers[place[found]]
    return order[np.repeat(starts, numbers) + _counted(numbers)], np.repeat(found, numbers)


def _counted(lengths: Lengths) -> IntArray:
    """From 0 on within each of some runs, of which these are the lengths."""
    return np.arange(lengths.sum()) - np.repeat(
        np.cumsum(lengths, dtype=np.int64) - lengths, lengths
    )


def _rate(positives: IntArray, of_all: IntArray, label: Label) -> npt.NDArray[np.float64]:
    """The share, smoothed as all rates of positives are; NaN where there is none of which it is."""
    smoothed = (positives + label.prior_rate * label.prior_weight) / (of_all + label.prior_weight)
    return np.where(of_all > 0, smoothed, np.nan)
