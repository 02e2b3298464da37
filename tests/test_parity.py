"""Offline and online inputs are equal to the bit, on the real log, at twenty moments.

The online store is brought to each moment by the push and materialise jobs; requests go through the
endpoint's own code; the offline side is the as-of join of the training examples.
"""

import bisect
import datetime
import json
import sqlite3
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.catalog import schema_of
from features.encoding import ModelInputs
from features.tables import ONE_DAY, Lake, day_range

pytestmark = pytest.mark.spark

SCHEMA = schema_of("movielens-100k")
FIRST, LAST = datetime.date(1998, 3, 28), datetime.date(1998, 4, 22)
MOMENTS, EACH = 20, 50
UTC = datetime.UTC


@pytest.fixture(scope="module")
def work(spark, tmp_path_factory):
    """The last weeks of MovieLens, from the log to examples."""
    from features import jobs, store
    from features.sources import movielens_100k

    root = tmp_path_factory.mktemp("parity")
    try:
        movielens_100k.fetch(root / "landing" / SCHEMA.name)
    except ConnectionError as error:
        pytest.skip(str(error))
    days = day_range(FIRST, LAST)
    work = jobs.Workspace(spark, SCHEMA, Lake(root / "lake", SCHEMA.name))
    jobs.ingest(work, root / "landing", days)
    raw = work.impressions(days, jobs.IMPRESSIONS_RAW)
    work.replace(raw, jobs.IMPRESSIONS, days, keys=["example_id"])
    jobs.build(work, root / "landing", days, is_first=True)
    jobs.examples(work, days)
    store.apply(SCHEMA, root / "feast", root / "lake")
    return work


def examples(work) -> pa.Table:
    days = day_range(FIRST + 2 * ONE_DAY, LAST)
    files = [path for day in days for path in work.lake.path("examples", day).glob("*.parquet")]
    table = pa.concat_tables([pq.read_table(path, partitioning=None) for path in files])
    return table.combine_chunks().sort_by([("timestamp", "ascending"), ("example_id", "ascending")])


def chosen(table: pa.Table, states: dict, moment: datetime.datetime) -> list[int]:
    """The first rows from a moment on for which nothing more had become countable since.

    They are requests that a store as of the moment must answer as the training examples say.
    """
    rows = []
    times = table.column("timestamp").to_pylist()
    users = table.column("user_id").to_pylist()
    first = bisect.bisect_left(times, moment)
    for row, (at, user) in enumerate(zip(times[first:], users[first:], strict=True), start=first):
        if _landing(at) != _landing(moment):
            break
        if not any(moment < created <= at for created in states.get(user, ())):
            rows.append(row)
        if len(rows) == EACH:
            break
    return rows


def _landing(at: datetime.datetime) -> datetime.date:
    """Day whose aggregates are the newest that have landed by a moment."""
    return (at - SCHEMA.table("item_daily").delay).date()


def online_inputs(ranker, table: pa.Table, rows: list[int]) -> ModelInputs:
    """Inputs of these impressions through the endpoint's own path, one request each."""
    from serving.calls import from_rest

    parts = []
    names = [column.name for column in SCHEMA.sparse_inputs()]
    for row in rows:
        values = {name: table.column(name)[row].as_py() for name in ("user_id", "item_id")}
        micros = table.column("timestamp")[row].value
        body = {
            "inputs": [
                {"name": name, "shape": [1], "datatype": "INT64", "data": [value]}
                for name, value in (*values.items(), ("timestamp", micros))
            ]
        }
        call = from_rest(json.dumps(body).encode(), json_length=None)
        parts.append(ranker.candidates(call).inputs.tiled(names))
    return joined(parts)


def joined(parts: list[ModelInputs]) -> ModelInputs:
    from features.encoding import Ids

    names = parts[0].ids
    return ModelInputs(
        np.concatenate([part.dense for part in parts]),
        {
            name: Ids(
                np.concatenate([part.ids[name].values for part in parts]),
                np.concatenate([part.ids[name].lengths for part in parts]),
            )
            for name in names
        },
    )


def differences(offline: ModelInputs, online: ModelInputs, ids: list[int]) -> list[str]:
    """Every difference in any bit: example, feature, both values."""
    found = []
    names = SCHEMA.dense_inputs()
    bits = offline.dense.view(np.uint32) != online.dense.view(np.uint32)
    for row, column in zip(*np.nonzero(bits), strict=True):
        pair = offline.dense[row, column], online.dense[row, column]
        found.append(f"example {ids[row]}, {names[column]}: offline {pair[0]}, online {pair[1]}")
    for name in offline.ids:
        for row in range(len(ids)):
            one = np.array([row])
            pair = [side.ids[name].take(one).values.tolist() for side in (offline, online)]
            if pair[0] != pair[1]:
                found.append(f"example {ids[row]}, {name}: offline {pair[0]}, online {pair[1]}")
    return found


def test_a_thousand_impressions_at_twenty_moments_are_equal_to_the_bit(work):
    from features import online, store
    from features.encoding import encode
    from serving.predictor import Ranker
    from training.inputs import inputs_of
    from training.ranker import Ranker as Model
    from training.recipes import recipe_of
    from training.scoring import Scorer

    root = work.lake.root.parent.parent
    table = examples(work)
    states = created_by_user(work)
    model = Model(inputs_of(SCHEMA), recipe_of("wukong-tiny").model)
    scorer = Scorer.of(model)
    seen = 0
    # The first push starts where this short history does, each later one where the last ended.
    since = datetime.datetime.combine(FIRST, datetime.time(0, 1), UTC)
    for moment in moments(table, states):
        online.push_until(work, root / "landing", root / "feast", until=moment, since=since)
        online.materialize_days(work, root / "feast", [_landing(moment) - ONE_DAY])
        since = moment
        rows = chosen(table, states, moment)
        reader = store.OnlineFeatures.open(SCHEMA, root / "feast")
        endpoint = Ranker(SCHEMA, online=reader)
        taken = table.take(rows)
        offline = encode(SCHEMA, {name: taken.column(name) for name in taken.column_names})
        served = online_inputs(endpoint, table, rows)
        ids = taken.column("example_id").to_pylist()
        assert differences(offline, served, ids) == []
        np.testing.assert_allclose(scorer.score(served), scorer.score(offline), atol=1e-5)
        seen += len(rows)
    assert seen == MOMENTS * EACH
    spoil(root / "feast" / SCHEMA.name / "online.db", work)
    found = differences(offline, online_inputs(Ranker(SCHEMA, online=reader), table, rows), ids)
    assert found
    assert all(
        "item_release_year: offline 19" in text and "online 1234.0" in text for text in found
    )


def moments(table: pa.Table, states: dict) -> list[datetime.datetime]:
    """Twenty moments of the last days at which somebody rates and enough others follow."""
    times = table.column("timestamp").to_pylist()[::60]
    fitting = [at for at in times if len(chosen(table, states, at)) == EACH]
    assert len(fitting) >= MOMENTS
    return fitting[:: len(fitting) // MOMENTS][:MOMENTS]


def created_by_user(work) -> dict[int, list[datetime.datetime]]:
    """When each user's state rows became countable."""
    rows = work.features(SCHEMA.table("user_state"), day_range(FIRST, LAST))
    found: dict[int, list[datetime.datetime]] = {}
    for row in rows.select("user_id", "created").collect():
        found.setdefault(row[0], []).append(row[1].replace(tzinfo=UTC))
    return found


def spoil(database: Path, work) -> None:
    """Put a wrong year on every film, past Feast."""
    from feast.protos.feast.types.Value_pb2 import Value

    value = Value(int64_val=1234).SerializeToString()
    with sqlite3.connect(database) as connection:
        (name,) = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '%item_attributes'"
        ).fetchone()
        connection.execute(
            f'UPDATE "{name}" SET value = ? WHERE feature_name = ?', (value, "item_release_year")
        )
