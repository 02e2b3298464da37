"""Artifacts of random weights with a golden request of random rows: no log and no training."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from features.encoding.encode import ModelInputs, RequestInputs
from features.schema import EXAMPLE_ID, LABEL, REQUEST_TIME, Column, Dtype, Schema
from training.artifact import artifact
from training.data.examples import encode_examples
from training.model.inputs import inputs_of
from training.model.ranker import Ranker
from training.recipes import recipe_of

NOON = 1_735_732_800_000_000
DAY = 86_400_000_000


def random_rows(schema: Schema, count: int, *, seed: int = 0) -> pa.Table:
    """Examples with values of every kind; histories have 0 to 4 items, some tables no row."""
    random = np.random.default_rng(seed)
    lengths = random.integers(0, 5, count)

    def column(declared: Column) -> pa.Array:
        size = int(lengths.sum()) if declared.dtype.is_list else count
        values = _values(declared, size, random)
        if not declared.dtype.is_list:
            return values
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
        return pa.ListArray.from_arrays(offsets, values)

    table = {c.name: column(c) for c in schema.columns() if c.name != REQUEST_TIME.name}
    moments = pa.array(NOON + random.integers(0, DAY, count), pa.timestamp("us", tz="UTC"))
    table[REQUEST_TIME.name] = moments
    for feature_table in schema.tables:
        missing = random.random(count) < 0.2
        table[feature_table.timestamp_column] = pa.array(
            [None if is_missing else NOON - DAY for is_missing in missing],
            pa.timestamp("us", tz="UTC"),
        )
    table[LABEL] = pa.array(random.integers(0, 2, count))
    table[EXAMPLE_ID] = pa.array(np.arange(count))
    return pa.table(table)


def _values(column: Column, size: int, random: np.random.Generator) -> pa.Array:
    element = column.dtype.element
    if column.vocabulary:
        return pa.array(random.choice([*column.vocabulary, "unheard of"], size), pa.string())
    if element is Dtype.STRING:
        return pa.array([f"v{number}" for number in random.integers(0, 50, size)], pa.string())
    if element is Dtype.FLOAT64:
        return pa.array(random.random(size))
    if element is Dtype.TIMESTAMP:
        return pa.array(NOON - random.integers(0, DAY, size), pa.timestamp("us", tz="UTC"))
    if column.name.endswith("_counts"):  # of a history's items each has one value
        return pa.array(np.ones(size, dtype=np.int64))
    # 0 and 1 are the labels of a history's items.
    return pa.array(random.integers(0, 2 if "label" in column.name else 40, size))


def random_ranker(schema: Schema, recipe: str = "wukong-tiny", *, seed: int = 0) -> Ranker:
    """A ranker whose scores differ from row to row."""
    torch.manual_seed(seed)
    ranker = Ranker(inputs_of(schema), recipe_of(recipe).model)
    with torch.no_grad():
        for table in ranker.embeddings.parameters():
            table.normal_()
    return ranker.eval()


def write_random(root: Path, schema: Schema, *, seed: int = 0, tables: str = "fp32") -> Path:
    """Write an artifact; returns its folder."""
    manifest = artifact.write(
        root,
        random_ranker(schema, seed=seed),
        schema,
        random_rows(schema, artifact.GOLDEN_ROWS, seed=seed),
        day="2025-01-01",
        trained_through="2025-01-01",
        recipe="wukong-tiny",
        config={"model": dataclasses.asdict(recipe_of("wukong-tiny").model)},
        parents=[],
        metrics={},
        mlflow_run="",
        tables=tables,
    )
    return root / schema.name / manifest.version


def request_of(
    schema: Schema, users: list[int], *, seed: int = 0
) -> tuple[RequestInputs, ModelInputs]:
    """A request of so many candidates for each user, and the same as rows in which all is repeated.

    Context, time and everything of the user's is the same for all candidates of a user.
    """
    rows = encode_examples(schema, random_rows(schema, sum(users), seed=seed)).inputs
    item_side = {schema.item.name} | {
        column.name
        for table in schema.tables
        if table.role.value != "user"
        for column in (*table.columns, *table.derived_columns)
    }
    user = np.repeat(np.arange(len(users)), users)
    first = np.concatenate([[0], np.cumsum(users)[:-1]])
    shared = {n: ids.take(first) for n, ids in rows.ids.items() if n not in item_side}
    each = {name: ids for name, ids in rows.ids.items() if name in item_side}
    request = RequestInputs(dense=rows.dense, shared=shared, each=each, user=user)
    return request, request.tiled(list(rows.ids))
