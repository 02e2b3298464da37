"""What a user thought of the last items that are like a candidate, against a loop over them."""

import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.datasets.catalog import schema_of
from features.encoding.affinities import affinities, affinities_of_rows
from features.encoding.encode import Ids, encode_past

SCHEMA = schema_of("movielens-100k")
(AFFINITY,) = SCHEMA.affinities
ROWS = st.lists(st.integers(0, 5), max_size=4)
USERS = st.lists(st.lists(st.tuples(ROWS, st.integers(0, 1)), max_size=6), min_size=1, max_size=4)
"""Of each user the last items: their values as embedding rows, and the label."""


def ids(bags) -> Ids:
    values = np.array([value for bag in bags for value in bag], dtype=np.int64)
    return Ids(values, np.array([len(bag) for bag in bags], dtype=np.int32))


def past(users) -> dict[str, Ids]:
    return {
        AFFINITY.values: ids([[v for bag, _ in items for v in bag] for items in users]),
        AFFINITY.counts: ids([[len(bag) for bag, _ in items] for items in users]),
        AFFINITY.labels: ids([[label for _, label in items] for items in users]),
    }


def naive(users, candidates, user) -> np.ndarray:
    """Row 0 is missing or unknown, and like nothing; MovieLens smooths with 5 ratings at 0.55."""
    found = []
    for candidate, who in zip(candidates, user, strict=True):
        alike = [label for bag, label in users[who] if {*bag} & {*candidate} - {0}]
        found.append((sum(alike) + 0.55 * 5) / (len(alike) + 5) if alike else np.nan)
    return np.array(found, dtype=np.float32)


def same(found, wanted) -> None:
    np.testing.assert_array_equal(found[:, 0].view(np.uint32), wanted.view(np.uint32))


@settings(deadline=None)
@given(users=USERS, candidates=st.lists(ROWS, max_size=12), data=st.data())
def test_it_is_the_share_of_positives_among_the_items_with_a_value_in_common(
    users, candidates, data
):
    of = st.lists(
        st.integers(0, len(users) - 1), min_size=len(candidates), max_size=len(candidates)
    )
    user = data.draw(of)
    found = affinities(
        SCHEMA, past(users), {AFFINITY.on: ids(candidates)}, np.array(user, dtype=np.int64)
    )
    same(found, naive(users, candidates, user))


@pytest.mark.parametrize("size", [0, 1_024, 2_500])
@pytest.mark.parametrize("num_values", [19, 3_000])
def test_rows_that_each_have_their_own_user_are_the_same_however_many_values_there_are(
    size, num_values
):
    rng = np.random.default_rng(size)

    def bag():
        return rng.integers(0, num_values, rng.integers(0, 5)).tolist()

    users = [[(bag(), int(rng.integers(2))) for _ in range(rng.integers(21))] for _ in range(size)]
    candidates = [users[n][0][0] if n % 3 == 0 and users[n] else bag() for n in range(size)]
    found = affinities_of_rows(SCHEMA, past(users), {AFFINITY.on: ids(candidates)}, size=size)
    same(found, naive(users, candidates, range(size)))


def test_memory_grows_with_the_values_and_not_with_how_many_distinct_ones_there_are():
    rng = np.random.default_rng(0)
    values = rng.integers(1, 2**31, (500, 20, 10))
    users = [[(bag, n % 2) for n, bag in enumerate(items)] for items in values.tolist()]
    candidates = [items[n % 20][0][n % 10 :] for n, items in enumerate(users)]
    read, wanted = past(users), {AFFINITY.on: ids(candidates)}
    tracemalloc.start()
    found = affinities_of_rows(SCHEMA, read, wanted, size=500)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    same(found, naive(users, candidates, range(500)))
    assert most < 16 * values.nbytes


@pytest.mark.parametrize(
    ("values", "counts", "labels"),
    [
        (None, None, [1, 0, 1]),
        (["War", "War"], [1, 1], [1, 1, 0, 1]),
        (["War", "War"], [1, 1], [1]),
        (["War", "War"], [1, 1], None),
        (["War", "War", "War"], [1, 1], [1, 1]),
        (["War"], [1, 1], [1, 1]),
        (["War"], [-1, 2], [1, 1]),
        (None, [1, 1], [1, 1]),
    ],
)
def test_a_row_whose_lists_do_not_fit_is_as_one_without_a_history_and_moves_no_other(
    values, counts, labels
):
    lists = {
        AFFINITY.values: pa.array([values, ["Drama", "War", "Drama"]], pa.list_(pa.string())),
        AFFINITY.counts: pa.array([counts, [2, 1]], pa.list_(pa.int64())),
        AFFINITY.labels: pa.array([labels, [1, 0]], pa.list_(pa.int64())),
    }
    owner = SCHEMA.table_owners[AFFINITY.on]
    drama, war = (1 + owner.vocabulary.index(word) for word in ("Drama", "War"))
    read = encode_past(SCHEMA, [AFFINITY], lists)
    found = affinities(
        SCHEMA, read, {AFFINITY.on: ids([[war], [war], [drama]])}, np.array([0, 1, 1])
    )
    wanted = [np.nan, (1 + 2.75) / 6, (1 + 2.75) / 7]
    same(found, np.array(wanted, dtype=np.float32))


def test_a_schema_without_affinities_has_no_such_inputs():
    assert affinities_of_rows(schema_of("synthetic"), {}, {}, size=3).shape == (3, 0)
