"""Speed of the trainer's input: Parquet files to batches on all ranks, for a fixed configuration.

The rows are those of a lake (``training.data.dataset.ExampleTable``), of a data set that has
nothing but the configuration's inputs, and go through the very function that feeds a training:
``training.data.batches.batches``, in which each rank reads and encodes its part of each buffer.
"""

import dataclasses
import datetime
import functools
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import torch.distributed as dist

from features.datasets.catalog import schema_of
from features.lake.day_file import replace_day
from features.places import Place, place
from features.schema import EXAMPLE_ID, LABEL, REQUEST_TIME, Column, Dtype, Kind, Schema
from features.schema.fingerprints import rows_fingerprint
from training.config.recipe import TrainingConfig
from training.data.batches import batches
from training.data.dataset import TABLE, ExampleTable
from training.model.inputs import Inputs

DAY_OF_ROWS = datetime.date(2025, 1, 1)
_BUFFERS = 2
"""That are shuffled one after the other, so that one is read while the other is used."""
_ROW_GROUP = 131_072


@contextmanager
def examples_of(inputs: Inputs, config: TrainingConfig) -> Iterator[ExampleTable]:
    """A table of random rows with these inputs; rank 0 writes it, all ranks read it."""
    schema = _schema(inputs)
    with tempfile.TemporaryDirectory() as mine:
        shared = [mine]
        dist.broadcast_object_list(shared, src=0)
        lake = place(shared[0])
        if dist.get_rank() == 0:
            _write(schema, lake, _BUFFERS * config.shuffle_rows)
        dist.barrier()
        yield ExampleTable(lake, schema)
        dist.barrier()


def input_samples_per_second(table: ExampleTable, config: TrainingConfig) -> float:
    """Of all ranks together, which read at the same time, in one pass over the table."""
    dist.barrier()
    started = time.perf_counter()
    stream = batches(
        table,
        [DAY_OF_ROWS],
        batch_size=config.batch_size,
        shuffle_rows=config.shuffle_rows,
        seed=config.seed,
        rank=dist.get_rank(),
        world_size=dist.get_world_size(),
    )
    for _ in stream:
        pass
    dist.barrier()
    return table.num_rows([DAY_OF_ROWS]) / (time.perf_counter() - started)


def _schema(inputs: Inputs) -> Schema:
    """A data set whose inputs are these: the first field is the item, the others are context."""
    column = functools.partial(Column, dtype=Dtype.INT64, minimum=0, doc="Random.")
    item, *fields = (
        column(name=sparse.name, kind=Kind.SPARSE, hash_size=sparse.num_rows - 1)
        for sparse in inputs.sparse
    )
    numbers = [
        column(name=f"number_{index}", kind=kind, unit="clicks")
        for index, kind in enumerate(inputs.dense)
    ]
    usual, context = schema_of("synthetic-fields"), (*fields, *numbers)
    return dataclasses.replace(usual, name="speed", item=item, context=context, tables=())


def _write(schema: Schema, lake: Place, num_rows: int) -> None:
    random = np.random.default_rng(0)
    columns = {
        column.name: pa.array(
            random.integers(0, 10 * column.hash_size, num_rows)
            if column.kind is Kind.SPARSE
            else random.lognormal(2, 1, num_rows).astype(np.int64)
        )
        for column in (schema.item, *schema.context)
    }
    moment = datetime.datetime.combine(DAY_OF_ROWS, datetime.time(12), datetime.UTC)
    columns |= {
        LABEL: pa.array(random.integers(0, 2, num_rows)),
        EXAMPLE_ID: pa.array(np.arange(num_rows)),
        REQUEST_TIME.name: pa.repeat(pa.scalar(moment, pa.timestamp("us", "UTC")), num_rows),
    }
    rows = pa.table(columns)
    parts = (rows.slice(start, _ROW_GROUP) for start in range(0, num_rows, _ROW_GROUP))
    table = place(lake / schema.name / TABLE)
    replace_day(table, DAY_OF_ROWS, parts, fingerprint=rows_fingerprint(schema))
