"""Passes over the examples: shuffled in a bounded buffer, batched, read ahead by threads."""

import collections
import concurrent.futures
import datetime
import functools
import os
from collections.abc import Callable, Generator, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from features.encoding.encode import Ids, ModelInputs
from features.environment import Group
from training.data.batch import Batch, make_batch
from training.data.dataset import Buffer, ExampleTable
from training.resources import num_cores

ORDER = 2
"""Version of the rule that says which examples a global batch holds. A position in a pass, such as
that of a saved run, means nothing under another rule."""
_MADE_AHEAD = 2
"""Batches that wait, ready, for a pipeline that itself holds two."""
_MOST_READERS = 4
"""Unless more are asked for: each holds a rank's part of a buffer."""


class Reading(Group):
    """The variable of it."""

    readers: int = Field(default=0, ge=0, le=64, validation_alias="RANKING_READERS")
    """Threads of a rank that read and encode ahead, each its part of a buffer, which is what they
    take of memory; 0: half of the rank's cores, from 1 to 4."""

    @property
    def num_readers(self) -> int:
        """Threads of this rank."""
        ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        half = num_cores() // ranks_here // 2
        return self.readers or max(1, min(_MOST_READERS, half))


def batches(
    table: ExampleTable,
    days: Sequence[datetime.date],
    *,
    batch_size: int,
    shuffle_rows: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    skip: int = 0,
) -> Iterator[Batch]:
    """This rank's part of every global batch of one pass over some days.

    A global batch holds at most ``batch_size`` examples; those of a buffer differ in size by one at
    most. Every rank sees as many batches, its parts are as large as the other ranks', and together
    they see each example once: what a part lacks in size are examples of weight 0.

    Which examples a global batch holds depends on the data, ``batch_size``, ``shuffle_rows`` and
    ``seed`` alone: its number is a position from which any number of ranks can go on.

    Threads read ahead (``Reading``). They end with the iterator; an error of one is raised here,
    in the place of the batches of its buffer.

    Args:
        table: The examples.
        days: Which of them.
        batch_size: Of a global batch.
        shuffle_rows: Rows of a buffer, about; bounds the memory.
        seed: Of the order.
        rank: This rank.
        world_size: How many ranks there are.
        skip: Global batches that have been used already; their buffers are not read.

    Raises:
        ValueError: An example cannot be encoded; names it.
    """
    reads = []
    for number, buffer in enumerate(table.buffers(days, rows=shuffle_rows)):
        count = -(-buffer.num_rows // batch_size)
        if skip < count:
            reads.append(
                functools.partial(
                    _part_of_rank,
                    *(table, buffer),
                    seed=(seed, number),
                    batch_size=batch_size,
                    rank=rank,
                    world_size=world_size,
                    skip=skip,
                )
            )
        skip = max(0, skip - count)
    for made in _read_ahead(reads, readers=Reading.from_environment().num_readers):
        yield from made


def made_ahead(stream: Iterator[Batch], device: torch.device) -> Generator[Batch, None, None]:
    """The batches of a stream, made by one thread while those before them are used.

    What a stream does for a batch, such as cutting and building its jagged tensor, holds no step
    up. For CUDA the thread also pins them: a copy from other memory would block.
    """

    def begin() -> None:
        if device.type == "cuda":
            # A new thread would open a context on the first device.
            torch.cuda.set_device(device)

    def make() -> Batch | None:
        batch = next(stream, None)
        return batch.pin_memory() if batch and device.type == "cuda" else batch

    with concurrent.futures.ThreadPoolExecutor(1, "batches", initializer=begin) as pool:
        coming = collections.deque(pool.submit(make) for _ in range(_MADE_AHEAD))
        try:
            while (batch := coming.popleft().result()) is not None:
                coming.append(pool.submit(make))
                yield batch
        finally:
            for future in coming:
                future.cancel()


def num_batches(
    table: ExampleTable, days: Sequence[datetime.date], *, batch_size: int, shuffle_rows: int
) -> int:
    """Global batches of a pass."""
    buffers = table.buffers(days, rows=shuffle_rows)
    return sum(-(-buffer.num_rows // batch_size) for buffer in buffers)


def _part_of_rank(
    table: ExampleTable,
    buffer: Buffer,
    *,
    seed: tuple[int, int],
    batch_size: int,
    rank: int,
    world_size: int,
    skip: int,
) -> list[Batch]:
    """A rank's part of the batches of one buffer, of which some are skipped.

    The buffer is cut into cells of as many neighbouring rows as there are batches, and each batch
    gets one row of each cell, drawn at random: which ones is the same for any number of ranks. A
    rank has a contiguous part of the buffer, and reads no row groups but those in which it lies.
    Since every batch is spread evenly over the buffer, ranks have equally many of its rows, up to
    two, and are filled up to the same size: gloo gathers no gradients of tables split by rows else.
    """
    num_batches = -(-buffer.num_rows // batch_size)
    num_cells = -(-buffer.num_rows // num_batches)
    drawn = np.tile(np.arange(num_batches), (num_cells, 1))
    rows = np.random.default_rng(seed).permuted(drawn, axis=1)
    rows += num_batches * np.arange(num_cells)[:, np.newaxis]
    bounds = [buffer.num_rows * r // world_size for r in range(world_size + 1)]
    sizes = np.diff([_rows_before(rows, bound) for bound in bounds], axis=0)
    start, stop = bounds[rank : rank + 2]
    # A rank without a row reads one all the same, to take part with weight 0.
    examples = table.encode(buffer.read(start, max(stop, start + 1)))
    own_cells = rows[start // num_batches : -(-stop // num_batches)]
    taken, weights = [], []
    for batch in range(skip, num_batches):
        mine = own_cells[:, batch]
        mine = mine[(mine >= start) & (mine < stop)] - start
        # Rows that fill up are the rank's own again: their embeddings are looked up all the same.
        taken.append(np.resize(mine, sizes[:, batch].max()))
        weight = np.zeros(len(taken[-1]), dtype=np.float32)
        # The loss of a rank is a sum; so scaled, the mean over ranks is the mean over examples.
        weight[: len(mine)] = world_size / sizes[:, batch].sum()
        weights.append(weight)
    order, ends = np.concatenate(taken), np.cumsum([len(one) for one in taken])
    parts = zip(
        _cut(examples.inputs.take(order), ends),
        np.split(examples.learnt[order], ends[:-1]),
        np.split(examples.example_id[order], ends[:-1]),
        weights,
        strict=True,
    )
    return [
        make_batch(inputs, label, weight, example_id=example_id)
        for inputs, label, example_id, weight in parts
    ]


def _rows_before(rows: npt.NDArray[np.int64], bound: int) -> npt.NDArray[np.int64]:
    """How many rows of each batch lie before a row: one of each whole cell, and of the cell cut."""
    whole, rest = divmod(bound, rows.shape[1])
    return whole + (rows[whole] < bound) if rest else np.full(rows.shape[1], whole)


def _read_ahead(
    reads: Sequence[Callable[[], list[Batch]]], *, readers: int
) -> Iterator[list[Batch]]:
    """What each read returns, in order; at most ``readers`` run or wait to be taken."""
    coming: collections.deque[concurrent.futures.Future[list[Batch]]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(readers, thread_name_prefix="reader") as pool:
        try:
            for read in reads:
                coming.append(pool.submit(read))
                if len(coming) > readers:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            for future in coming:
                future.cancel()


def _cut(inputs: ModelInputs, ends: npt.NDArray[np.int64]) -> Iterator[ModelInputs]:
    """Inputs cut behind some of their rows, without a copy."""
    ids_before = {
        name: np.concatenate([[0], np.cumsum(ids.lengths)]) for name, ids in inputs.ids.items()
    }
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        ids = {
            name: Ids(
                all_ids.values[ids_before[name][start] : ids_before[name][end]],
                all_ids.lengths[start:end],
            )
            for name, all_ids in inputs.ids.items()
        }
        yield ModelInputs(inputs.dense[start:end], ids)
