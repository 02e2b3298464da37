"""Ranks read rows of their own, and together the same batches whatever their number."""

import gc
import threading
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from support.training.written_examples import days_of, written_examples

from training.data import batches as module
from training.data.batches import Reading, batches, made_ahead, num_batches
from training.data.dataset import Buffer, ExampleTable

SIZES = {"batch_size": 64, "shuffle_rows": 1_000}
ROWS = 2_500


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> ExampleTable:
    return written_examples(tmp_path_factory.mktemp("lake"), num_rows=ROWS, row_group=250)


def parts_of(table, *, world_size=1, skip=0, **sizes):
    """The batches of each rank of a pass."""
    options = {**SIZES, **sizes, "seed": 1, "world_size": world_size, "skip": skip}
    return [
        list(batches(table, days_of(table), rank=rank, **options)) for rank in range(world_size)
    ]


def global_batches(parts):
    """Ids of the examples of each global batch, in order of size."""
    return [
        sorted(torch.cat([one.example_id[one.weight > 0] for one in of_ranks]).tolist())
        for of_ranks in zip(*parts, strict=True)
    ]


@pytest.mark.parametrize("world_size", [2, 3, 7])
def test_a_global_batch_holds_the_same_examples_for_any_number_of_ranks(table, world_size):
    whole = global_batches(parts_of(table))
    assert global_batches(parts_of(table, world_size=world_size)) == whole
    assert sorted(id for batch in whole for id in batch) == list(range(ROWS))
    assert len(whole) == num_batches(table, days_of(table), **SIZES)


@pytest.mark.parametrize("skip", [1, 15, 16, 17, 39])
def test_any_number_of_ranks_goes_on_from_a_global_batch(table, skip):
    whole = global_batches(parts_of(table, world_size=2))
    assert global_batches(parts_of(table, world_size=3, skip=skip)) == whole[skip:]


def test_a_buffer_that_is_skipped_is_not_read(table, monkeypatch):
    found = reads(monkeypatch)
    (part,) = parts_of(table, skip=16)
    assert len(part) == 24
    assert found == [*range(4, 8), 8, 9]


@pytest.mark.parametrize("world_size", [2, 3, 7])
def test_parts_of_ranks_are_equally_large_and_batches_of_a_buffer_up_to_one(table, world_size):
    parts = parts_of(table, world_size=world_size)
    filled = np.array([[len(batch.label) for batch in part] for part in parts])
    assert (filled == filled[0]).all()
    sizes = np.array([[int((batch.weight > 0).sum()) for batch in part] for part in parts])
    assert (filled - sizes <= 2).all()
    for of_buffer in np.split(sizes.sum(axis=0), [16, 32]):
        assert np.ptp(of_buffer) <= 1
    assert sizes.sum(axis=0).max() <= SIZES["batch_size"]


def test_weights_make_the_mean_over_ranks_the_mean_over_examples(table):
    parts = parts_of(table, world_size=7, batch_size=6)
    for of_ranks in zip(*parts, strict=True):
        weight = torch.cat([batch.weight for batch in of_ranks])
        used = weight[weight > 0]
        assert 5 <= len(used) <= 6
        torch.testing.assert_close(used, torch.full_like(used, 7 / len(used)))


def test_rows_that_lie_together_come_in_different_batches(table):
    """Of a cell of neighbours each batch has one; which one, the seed says."""
    first = global_batches(parts_of(table))[:16]
    cells = [[id // 16 for id in batch] for batch in first]
    assert all(len(set(of_batch)) == len(of_batch) >= 62 for of_batch in cells)
    assert len({id % 16 for id in first[0]}) > 8


def reads(monkeypatch) -> list[int]:
    """The row groups that are read from now on."""
    found: list[int] = []
    real = pq.ParquetFile.read_row_groups

    def read_row_groups(self, numbers, **options):
        found.extend(numbers)
        return real(self, numbers, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", read_row_groups)
    return found


def test_ranks_read_and_encode_rows_of_their_own(table, monkeypatch):
    found, encoded = reads(monkeypatch), []
    real = ExampleTable.encode
    monkeypatch.setattr(
        ExampleTable, "encode", lambda self, rows: encoded.append(len(rows)) or real(self, rows)
    )
    parts_of(table, world_size=2)
    assert sorted(found) == [*range(10)]
    assert sum(encoded) == ROWS


def test_footers_are_read_once_for_a_table(table, monkeypatch):
    fresh = ExampleTable(table.root.parents[1], table.schema)
    opened: list[str] = []
    real = pq.read_metadata
    monkeypatch.setattr(
        pq, "read_metadata", lambda path, **options: opened.append(path) or real(path, **options)
    )
    for _ in range(2):
        assert fresh.num_rows(days_of(fresh)) == ROWS
        num_batches(fresh, days_of(fresh), **SIZES)
        parts_of(fresh)
    assert len(opened) == 1


def reader_threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("reader")]


@pytest.mark.parametrize("readers", ["1", "3"])
def test_an_error_of_a_reader_names_the_example_behind_the_batches_before_it(
    table, monkeypatch, readers
):
    monkeypatch.setenv("RANKING_READERS", readers)
    real = Buffer.read

    def read(self, *span):
        rows = real(self, *span)
        is_spoilt = pc.equal(rows["example_id"], 1_234)
        index = rows.schema.get_field_index("item_price")
        values = pc.if_else(is_spoilt, float("inf"), rows.column(index))
        return rows.set_column(index, rows.schema.field(index), pa.chunked_array(values))

    monkeypatch.setattr(Buffer, "read", read)
    stream = batches(table, days_of(table), **SIZES, seed=1)
    taken = []
    with pytest.raises(ValueError, match="example 1234: column item_price: inf"):
        taken.extend(iter(lambda: next(stream), None))
    assert reader_threads() == []


@pytest.mark.parametrize("readers", [1, 2, 3])
def test_no_more_buffers_are_read_ahead_than_there_are_readers(table, monkeypatch, readers):
    monkeypatch.setenv("RANKING_READERS", str(readers))
    found: list[int] = []
    real = Buffer.read
    monkeypatch.setattr(
        Buffer, "read", lambda self, *span: found.append(span[0]) or real(self, *span)
    )
    stream = batches(table, days_of(table), batch_size=64, shuffle_rows=250, seed=1)
    next(stream)
    time.sleep(0.3)
    assert len(found) == readers + 1
    stream.close()
    assert len(found) == readers + 1


def test_no_thread_is_left_when_the_consumer_stops_early(table):
    stream = batches(table, days_of(table), **SIZES, seed=1)
    next(stream)
    assert reader_threads()
    del stream
    gc.collect()
    assert reader_threads() == []


def test_readers_have_half_of_a_ranks_cores(monkeypatch):
    for cores, ranks, expected in ((2, 2, 1), (8, 1, 4), (8, 2, 2), (64, 2, 4)):
        monkeypatch.setattr(module, "num_cores", lambda cores=cores: cores)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
        assert Reading().num_readers == expected
    assert Reading.from_environment({"RANKING_READERS": "7"}).num_readers == 7


def test_batches_are_made_by_one_thread_in_order_while_others_are_used(table):
    makers, taken = set(), 0

    def stream():
        for batch in parts_of(table)[0]:
            makers.add(threading.current_thread().name)
            yield batch

    made = made_ahead(stream(), torch.device("cpu"))
    for batch, expected in zip(made, parts_of(table)[0], strict=True):
        assert torch.equal(batch.example_id, expected.example_id)
        taken += 1
    assert taken == 40
    assert makers == {"batches_0"}


def test_an_error_of_a_stream_comes_in_the_place_of_its_batch_and_ends_the_thread(table):
    first = parts_of(table)[0][0]

    def stream():
        yield first
        raise ValueError("example 7")

    made = made_ahead(stream(), torch.device("cpu"))
    assert next(made) is first
    with pytest.raises(ValueError, match="example 7"):
        next(made)
    assert not [one for one in threading.enumerate() if one.name.startswith("batches_")]


def test_a_stream_that_is_left_ends_its_thread(table):
    made = made_ahead(iter(parts_of(table)[0]), torch.device("cpu"))
    next(made)
    made.close()
    assert not [one for one in threading.enumerate() if one.name.startswith("batches_")]
