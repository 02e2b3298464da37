"""Rows of the lake are read by groups of files, wherever the reader runs."""

import pickle

import numpy as np
import pytest
from support.training.written_examples import days_of, written_examples

from training.data.dataset import Buffer, ExampleTable


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> ExampleTable:
    return written_examples(tmp_path_factory.mktemp("lake"), num_rows=1_000, row_group=300, days=3)


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 3_000), (0, 1), (299, 301), (300, 600), (950, 2_050), (2_999, 3_000)]
)
def test_a_span_of_a_buffer_is_read_from_the_groups_in_which_it_lies(table, start, stop):
    buffer = Buffer(tuple(table.row_groups(days_of(table))), table.filesystem)
    sent = pickle.loads(pickle.dumps(buffer))
    found = sent.read(start, stop)["example_id"].to_pylist()
    assert found == list(range(start, stop))


@pytest.mark.parametrize("world_size", [1, 2, 7])
def test_the_parts_of_ranks_follow_one_another(table, world_size):
    days = days_of(table)
    parts = [
        [*table.stream_judged(days, rows=128, rank=rank, world_size=world_size)]
        for rank in range(world_size)
    ]
    sizes = [sum(map(len, part)) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert max(len(piece) for part in parts for piece in part) <= 128
    pieces = [piece for part in parts for piece in part]
    whole = table.read(days)
    for name in ("example_id", "label"):
        joined = np.concatenate([getattr(piece, name) for piece in pieces])
        np.testing.assert_array_equal(joined, getattr(whole, name))
    joined = np.concatenate([piece.inputs.dense for piece in pieces])
    np.testing.assert_array_equal(joined, whole.inputs.dense)
