"""Small collaborators of the endpoint; stand_in_server.py runs the real KServe server with them.

A schema with every kind of input, a store of dictionaries, an artifact that scores by arithmetic,
a registry of files.
"""

import dataclasses
import datetime
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.datasets.catalog import schema_of
from features.encoding.encode import ModelInputs, RequestInputs
from features.schema import Column, Dtype, FeatureTable, Kind, Role, Schema, TableKind
from features.schema.derived_tables import item_daily, user_state

NOON = datetime.datetime(2025, 6, 15, 12, tzinfo=datetime.UTC)
ITEM = Column(name="item_id", dtype=Dtype.STRING, kind=Kind.SPARSE, hash_size=100, doc="Item.")
SYNTHETIC = schema_of("synthetic")
SCHEMA = dataclasses.replace(
    SYNTHETIC,
    name="stand-in",
    user=Column(
        name="user_id",
        dtype=Dtype.INT64,
        kind=Kind.SPARSE,
        minimum=1,
        maximum=99,
        num_ids=100,
        doc="User.",
    ),
    item=ITEM,
    context=(
        Column(
            name="position",
            dtype=Dtype.INT64,
            kind=Kind.SPARSE,
            minimum=1,
            maximum=3,
            num_ids=4,
            doc="Place.",
        ),
        Column(name="price", dtype=Dtype.FLOAT64, kind=Kind.DENSE, doc="Price now."),
        Column(
            name="device",
            dtype=Dtype.STRING,
            kind=Kind.SPARSE,
            vocabulary=("phone", "desktop"),
            doc="Device.",
        ),
    ),
    tables=(
        user_state(
            item=ITEM,
            label=SYNTHETIC.label,
            history_length=5,
            ttl=datetime.timedelta(days=30),
            delay=datetime.timedelta(microseconds=1),
        ),
        item_daily(
            label=SYNTHETIC.label,
            windows_days=(1, 7),
            ttl=datetime.timedelta(days=7),
            delay=datetime.timedelta(0),
        ),
        FeatureTable(
            name="item_attributes",
            kind=TableKind.ATTRIBUTES,
            role=Role.ITEM,
            ttl=None,
            delay=datetime.timedelta(0),
            doc="Attributes.",
            columns=(
                Column(name="item_weight", dtype=Dtype.FLOAT64, kind=Kind.DENSE, doc="Weight."),
            ),
        ),
    ),
)
_TYPES = {
    Dtype.INT64: pa.int64(),
    Dtype.FLOAT64: pa.float64(),
    Dtype.STRING: pa.string(),
    Dtype.INT64_LIST: pa.list_(pa.int64()),
    Dtype.STRING_LIST: pa.list_(pa.string()),
}
_SAMPLES: dict[Dtype, Any] = {
    Dtype.INT64: 3,
    Dtype.FLOAT64: 0.25,
    Dtype.STRING: "a",
    Dtype.INT64_LIST: [1, 0],
    Dtype.STRING_LIST: ["a", "b"],
}

Rows = dict[tuple[str, int | str], tuple[datetime.datetime, dict[str, Any]]]


class StandInStore:
    """Rows by table and id; counts its reads."""

    def __init__(self, schema: Schema, rows: Rows) -> None:
        self.schema = schema
        self.rows = rows
        self.reads: list[tuple[str, list[int | str]]] = []

    def read(
        self, of: str, ids: Sequence[int | str], *, since: int | None = None
    ) -> dict[str, pa.Array]:
        self.reads.append((of, list(ids)))
        columns = {}
        for table in self.schema.tables:
            if table.of != of:
                continue
            found = [self.rows.get((table.name, one)) for one in ids]
            moments = [row[0] if row else None for row in found]
            columns[table.timestamp_column] = pa.array(moments, pa.timestamp("us", tz="UTC"))
            for column in table.columns:
                values = [row[1][column.name] if row else None for row in found]
                columns[column.name] = pa.array(values, _TYPES[column.dtype])
        return columns


def row(table: FeatureTable, moment: datetime.datetime, **values: Any) -> Any:
    """One stored row with sample values, some of them given."""
    samples = {column.name: _SAMPLES[column.dtype] for column in table.columns}
    # Of the two items of its history the first has all values.
    samples |= {one.counts: [len(samples[one.values]), 0] for one in table.affinities}
    return moment, {**samples, **values}


def sample_rows() -> Rows:
    """User 7 and items a to e: known; d expired; e of the future; f has attributes only."""
    state, daily, attributes = SCHEMA.tables
    yesterday = NOON - datetime.timedelta(days=1)
    rows = {("user_state", 7): row(state, yesterday)}
    moments = {
        "a": yesterday,
        "b": yesterday,
        "c": yesterday,
        "d": NOON - datetime.timedelta(days=8),
        "e": NOON + datetime.timedelta(seconds=1),
    }
    for place, (item, moment) in enumerate(moments.items()):
        rows["item_daily", item] = row(daily, moment, item_impressions_1d=place)
    for place, item in enumerate("abcdef"):
        rows["item_attributes", item] = row(
            attributes, datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC), item_weight=place / 10
        )
    return rows


def tiled(inputs: RequestInputs) -> ModelInputs:
    """A request's inputs row by row."""
    return inputs.tiled([column.name for column in SCHEMA.sparse_inputs()])


def fill(store_dir: Path) -> None:
    """Write the sample rows into the online store that RANKING_ONLINE names."""
    import pandas as pd

    from features.online_store import feast_store
    from features.schema import CREATED, EVENT_TIMESTAMP

    feast_store.apply(SCHEMA, store_dir, store_dir / "lake")
    feast = feast_store.open_store(SCHEMA, store_dir)
    for table in SCHEMA.tables:
        found = {one: row for (name, one), row in sample_rows().items() if name == table.name}
        frame = pd.DataFrame([values for _, values in found.values()])
        frame[SCHEMA.entity(table.role).name] = list(found)
        frame[EVENT_TIMESTAMP] = [pd.Timestamp(moment) for moment, _ in found.values()]
        frame[CREATED] = frame[EVENT_TIMESTAMP]
        feast.write_to_online_store(table.name, frame)


def score(inputs: RequestInputs | ModelInputs, *, offset: float = 0.0) -> npt.NDArray[np.float32]:
    """Numbers in (0, 1) that depend on every input of the row and on nothing else."""
    if isinstance(inputs, RequestInputs):
        inputs = tiled(inputs)
    dense = np.log1p(np.abs(np.nan_to_num(inputs.dense.astype(np.float64))))
    total = dense @ np.linspace(0.1, 0.9, dense.shape[1]) + offset
    for place, ids in enumerate(inputs.ids.values()):
        rows = np.repeat(np.arange(len(inputs)), ids.lengths)
        total = total + np.bincount(rows, ids.values * (place + 1) / 100, minlength=len(inputs))
    return (total / (1 + total)).astype(np.float32)


class FileRegistry:
    """Aliases as files; a version is named for its day."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def alias(self, name: str) -> str | None:
        path = self.folder / name
        return path.read_text() if path.exists() else None

    def set_alias(self, name: str, version: str | None) -> None:
        if version is None:
            (self.folder / name).unlink(missing_ok=True)
        else:
            (self.folder / name).write_text(version)

    def tag(self, version: str, name: str) -> str | None:
        path = self.folder / f"{version}@{name}"
        return path.read_text() if path.exists() else None

    def set_tag(self, version: str, name: str, value: str | None) -> None:
        if value is None:
            (self.folder / f"{version}@{name}").unlink(missing_ok=True)
        else:
            (self.folder / f"{version}@{name}").write_text(value)

    def version_of(self, day: datetime.date) -> str:
        return (self.folder / "newest").read_text()

    def day_of(self, version: str) -> datetime.date:
        return datetime.date.fromisoformat(version[:10])


def scorer(version: str, *, is_released: Callable[[], bool] = lambda: False) -> Any:
    """How a version scores: ``-broken`` fails its golden request, ``-nan`` and ``-slow`` are.

    ``-stuck`` scores when it is released, but requests of another number of candidates than three,
    such as to warm up, at once; ``-raising`` fails for the same requests only. ``-turned`` gives
    each candidate the score of the one at the other end of the order.
    """
    if version.endswith("-broken"):
        raise ValueError("golden response: off by 0.5; 1e-05")
    if version.endswith("-nan"):
        return lambda inputs: np.full(len(inputs), np.nan, dtype=np.float32)
    day = datetime.date.fromisoformat(version[:10])
    is_turned = version.endswith("-turned")

    def scored(inputs: RequestInputs) -> npt.NDArray[np.float32]:
        if version.endswith("-slow"):
            time.sleep(0.6)
        # Requests that come at one time are one batch.
        are_threes = len(inputs) % 3 == 0
        if version.endswith("-stuck") and are_threes:
            deadline = time.monotonic() + 60
            while not is_released() and time.monotonic() < deadline:
                time.sleep(0.05)
        if version.endswith("-raising") and are_threes:
            raise RuntimeError("out of luck")
        if version.endswith("-lame"):
            time.sleep(0.02)
        scores = score(inputs, offset=day.day)
        return np.sort(scores)[::-1][np.argsort(np.argsort(scores))] if is_turned else scores

    return scored
