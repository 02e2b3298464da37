"""A small world for drills of serving: online features, rankers, a registry.

Made in seconds from a schema, by default that of the generated log. The rankers have random
weights and the features random values; nothing is learnt. The store, the artifacts and the registry
are real, written and read by the product's own code.
"""

import contextlib
import dataclasses
import datetime
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from features.datasets.catalog import schema_of
from features.online_store import feast_store as online_store
from features.places import place
from features.schema import (
    CREATED,
    EVENT_TIMESTAMP,
    EXAMPLE_ID,
    LABEL,
    REQUEST_TIME,
    Column,
    Dtype,
    FeatureTable,
    Role,
    Schema,
)
from infra.local.servers import Endpoint, running_endpoint
from training.artifact import artifact
from training.artifact.manifest import Manifest
from training.model.inputs import inputs_of
from training.model.ranker import Ranker
from training.recipes import wukong_tiny
from training.registry.mlflow_registry import Registry

SCHEMA = schema_of("synthetic")
NOON = datetime.datetime(2025, 6, 15, 12, tzinfo=datetime.UTC)
NUM_USERS, NUM_ITEMS = 50, 200
_HISTORY = 10
_GOLDEN_ROWS = 16


@dataclasses.dataclass(frozen=True)
class World:
    """Its folders, its registry and the names of its versions, the oldest first."""

    root: Path
    registry: Registry
    versions: list[str]
    schema: Schema = SCHEMA

    @property
    def artifacts(self) -> Path:
        """The folder of the data set's artifacts."""
        return self.root / "artifacts" / self.schema.name

    def flags(self, *names: str) -> list[str]:
        """Command-line flags for some of its folders."""
        return [f"--{name}={self.root / name}" for name in names]


def build(root: Path, *, num_versions: int, schema: Schema = SCHEMA) -> World:
    """Fill a folder; the first version is the champion, and each has its gate's decision.

    A folder may hold the worlds of several data sets.
    """
    random = np.random.default_rng(0)
    _fill_store(root, schema, random)
    registry = Registry(root / "tracking", schema.name)
    versions = []
    for number in range(num_versions):
        day = datetime.date(2025, 6, 1 + number)
        manifest = write_artifact(root, day=day, seed=number, schema=schema)
        artifacts = place(root / "artifacts")
        registry.register(manifest, artifacts / schema.name / manifest.version)
        versions.append(manifest.version)
        decide(root, day, manifest.version, schema=schema)
    registry.set_alias("champion", versions[0])
    return World(root, registry, versions, schema)


def decide(root: Path, day: datetime.date, version: str, *, schema: Schema = SCHEMA) -> None:
    """Write down that the gate said promote."""
    folder = root / "reports" / schema.name / "gate" / day.isoformat()
    folder.mkdir(parents=True, exist_ok=True)
    decision = {"decision": "promote", "reasons": [], "candidate": version}
    (folder / "decision.json").write_text(json.dumps(decision))


def write_artifact(
    root: Path, *, day: datetime.date, seed: int, schema: Schema = SCHEMA
) -> Manifest:
    """A ranker with random weights and its golden request, as training would write it."""
    import torch

    torch.manual_seed(seed)
    model = wukong_tiny().model
    ranker = Ranker(inputs_of(schema), model)
    with torch.no_grad():
        # Fresh weights score everything alike; versions must differ in their scores.
        for parameter in ranker.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return artifact.write(
        place(root / "artifacts"),
        ranker,
        schema,
        pa.table(_golden(schema)),
        day=day.isoformat(),
        trained_through=day.isoformat(),
        recipe="wukong-tiny",
        config={"model": dataclasses.asdict(model)},
        parents=[],
        metrics={},
        mlflow_run="",
    )


def serving(
    world: World, *flags: str, log: Path, environment: Mapping[str, str]
) -> contextlib.AbstractContextManager[Endpoint]:
    """The endpoint on the world, from when it can rank; flags may add worlds of its folder."""
    return running_endpoint(
        f"--dataset={world.schema.name}",
        *world.flags("store", "artifacts", "tracking"),
        *flags,
        log=log,
        # Every folder that the command line has a default for is below the world too.
        environment={"RANKING_VAR": str(world.root), **environment},
    )


def _fill_store(root: Path, schema: Schema, random: np.random.Generator) -> None:
    online_store.apply(schema, place(root / "store"), place(root / "lake"))
    store = online_store.open_store(schema, place(root / "store"))
    for table in schema.tables:
        size = NUM_USERS if table.role is Role.USER else NUM_ITEMS
        rows = _rows(schema, table, size, random)
        frame = pd.DataFrame(rows)
        frame[EVENT_TIMESTAMP] = frame[CREATED] = pd.Timestamp(NOON - datetime.timedelta(hours=20))
        store.write_to_online_store(table.name, frame)


def _rows(
    schema: Schema, table: FeatureTable, size: int, random: np.random.Generator
) -> dict[str, list[object]]:
    columns = {column.name: _values(column, size, random) for column in table.columns}
    # Each item of a history has one value.
    columns |= {one.counts: [[1] * _HISTORY] * size for one in table.affinities}
    return {schema.entity(table.role).name: list(range(size)), **columns}


def _values(column: Column, size: int, random: np.random.Generator) -> list[object]:
    if column.dtype.is_list:
        one = dataclasses.replace(column, dtype=column.dtype.element, max_length=0)
        return [_values(one, _HISTORY, random) for _ in range(size)]
    if column.vocabulary:
        return [str(word) for word in random.choice(column.vocabulary, size)]
    if column.dtype is Dtype.STRING:
        return [f"text-{number}" for number in random.integers(0, 9, size)]
    if column.dtype is Dtype.FLOAT64:
        return [float(number) for number in random.random(size)]
    return [int(number) for number in random.integers(0, 2, size)]


def _golden(schema: Schema) -> dict[str, pa.Array]:
    """Sixteen examples with values of their own; what is asked of a version at every load."""
    random, size = np.random.default_rng(1), _GOLDEN_ROWS
    moment = pa.scalar(NOON, pa.timestamp("us", tz="UTC"))
    columns: dict[str, object] = {REQUEST_TIME.name: pa.repeat(moment, size)}
    for table in schema.tables:
        for name, values in _rows(schema, table, size, random).items():
            columns[name] = pa.array(values)
        columns[table.timestamp_column] = pa.repeat(moment, size)
    for column in schema.context:
        columns[column.name] = pa.array(_values(column, size, random))
    labels = pa.array([number % 2 for number in range(size)])
    return {**columns, LABEL: labels, EXAMPLE_ID: pa.array(range(size))}
