"""Declared aggregates and histories, by ids, attributes and context: offline equals online.

Four days are built one after the other; before the third, items change their category. Before a day
comes online, the requests of its impressions are put together by the endpoint over the store as the
day before left it, and compared to the bit with the training examples.
"""

import collections
import datetime
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.features.declared import HOUR
from support.features.declared_replay import INTERESTS, KEYS, LENGTH, SCHEMA, TABLES
from support.parity import differences
from support.redis_server import running_redis

from features.encoding.encode import RowStatus
from features.lake.lake import EXAMPLES, IMPRESSIONS, IMPRESSIONS_RAW, ONE_DAY, Lake, day_range
from features.schema import SOURCE
from features.schema.keys import pair_key

pytestmark = pytest.mark.spark

UTC = datetime.UTC
DAYS = day_range(SCHEMA.first_day, SCHEMA.first_day + 3 * ONE_DAY)
FIRST_CHANGED = 20
"""Items from this number on change their category."""


@pytest.fixture(scope="module")
def work(spark, tmp_path_factory):
    """Four days from the log to examples, each built alone."""
    from features.datasets.readers import reader_of
    from features.pipeline import jobs
    from features.pipeline.workspace import Workspace

    root = tmp_path_factory.mktemp("aggregates")
    landing = root / "landing"
    path = landing / SCHEMA.name / "items.parquet"
    generated = {"rows": 900, "users": 25, "items": 40, "days": len(DAYS), "seed": 5}
    reader_of(SCHEMA).fetch(landing / SCHEMA.name, **generated)
    items = pq.read_table(path)
    vectors = [[n / 7, -n, 0.1, 1e-9 * n] for n in range(len(items))]
    pq.write_table(items.append_column("item_vector", pa.array(vectors)), path)
    work = Workspace(spark, SCHEMA, Lake(root / "lake", SCHEMA.name))
    for day in DAYS:
        if day == DAYS[2]:
            change_categories(path)
        build(work, landing, [day])
        jobs.examples(work, [day])
    return work


def build(work, landing, days):
    from features.pipeline import jobs
    from features.pipeline.ingestion.ingest import ingest

    ingest(work, landing, days)
    raw = work.impressions(days, IMPRESSIONS_RAW).drop(*SOURCE)
    work.replace(raw, IMPRESSIONS, days, keys=["example_id"])
    jobs.publish_features(work, jobs.build(work, landing, days), days)


def change_categories(path, by=1):
    """Items from ``FIRST_CHANGED`` on get another category."""
    items = pq.read_table(path)
    words = next(c for c in SCHEMA.columns() if c.name == "item_category").vocabulary
    pairs = zip(*(items.column(n).to_pylist() for n in ("item_id", "item_category")), strict=True)
    changed = [
        words[(words.index(category) + by) % len(words)] if item >= FIRST_CHANGED else category
        for item, category in pairs
    ]
    place = items.column_names.index("item_category")
    pq.write_table(items.set_column(place, "item_category", pa.array(changed)), path)


def examples_of(work, day) -> pa.Table:
    files = work.lake.snapshot(EXAMPLES).files(day)
    table = pa.concat_tables([pq.read_table(path, partitioning=None) for path in files])
    return table.combine_chunks().sort_by([("timestamp", "ascending"), ("example_id", "ascending")])


@pytest.fixture(scope="module")
def redis():
    with running_redis() as server:
        yield server


@pytest.fixture(scope="module", params=["sqlite", pytest.param("redis", marks=pytest.mark.process)])
def served(request, work, tmp_path_factory):
    """Of the last two days the examples and what the endpoint made of each, before they came."""
    from features.online_store import feast_store
    from features.pipeline.materialize import materialize_days

    is_redis = request.param == "redis"
    url = request.getfixturevalue("redis").url if is_redis else "sqlite"
    store = tmp_path_factory.mktemp(request.param)
    found = []
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RANKING_ONLINE", url)
        feast_store.apply(SCHEMA, store, work.lake.root.parent)
        materialize_days(work, store, DAYS[:1])
        for day in DAYS[2:]:
            materialize_days(work, store, [day - ONE_DAY])
            table = examples_of(work, day)
            found.append((table, candidates_of(store, table)))
    return found


def candidates_of(store, table):
    """What the endpoint makes of each impression; they are read together, some at a time."""
    from features.online_store.reader import open_rows
    from serving.lookup.item_cache import ItemRefresh
    from serving.lookup.transformer import Transformer
    from serving.settings import Store

    rows = open_rows(SCHEMA, store, timeout_seconds=5)
    items = ItemRefresh(SCHEMA, rows, Store())
    items.look()
    assert items() is not None
    found = []
    for number, start in enumerate(range(0, len(table), 16)):
        # Items are in memory, or they are read.
        transformer = Transformer(SCHEMA, online=rows, items=items if number % 2 else lambda: None)
        requests = [request_of(table, row) for row in range(start, min(start + 16, len(table)))]
        together = transformer.read(requests)
        found += [transformer.put_together(*one) for one in zip(requests, together, strict=True)]
    return found


def request_of(table, row):
    from serving.protocol.inference_request import from_rest
    from serving.protocol.ranking_request import parse

    kinds = {"user_id": "INT64", "item_id": "INT64", "device": "BYTES"}
    values = {name: table.column(name)[row].as_py() for name in kinds}
    kinds["timestamp"], values["timestamp"] = "INT64", table.column("timestamp")[row].value
    inputs = [
        {"name": name, "shape": [1], "datatype": kinds[name], "data": [value]}
        for name, value in values.items()
    ]
    call = from_rest(json.dumps({"inputs": inputs}).encode(), json_length=None)
    return parse(SCHEMA, call, now=datetime.datetime.now(UTC))


def test_training_and_serving_have_the_same_inputs_to_the_bit(served):
    for table, candidates in served:
        assert len(candidates) == len(table) > 200
        assert table.column("item_vector").null_count == 0
        assert differences(table, list(range(len(table))), candidates, SCHEMA) == []


def test_declared_inputs_are_there_for_most_impressions_and_missing_for_new_pairs(served):
    table, candidates = served[-1]
    for name in KEYS:
        values = table.column(f"{name}_shown_all")
        share = 1 - values.null_count / len(values)
        assert share > 0.9 if name != "pair" else 0.3 < share < 0.95, name
        statuses = [RowStatus(one.statuses[f"{name}_daily"][0]) for one in candidates]
        assert [status is RowStatus.USABLE for status in statuses] == values.is_valid().to_pylist()
    new = [one for one in candidates if one.statuses["pair_daily"][0] == RowStatus.UNKNOWN]
    others = {name for one in new for name in one.statuses if one.statuses[name].any()}
    assert new
    assert any(not one.is_degraded for one in new), others


def test_a_request_sees_the_category_of_its_moment(served):
    """A new category counts from one o'clock on, when all rows of the day before count."""
    table, candidates = served[-1]
    one_oclock = datetime.datetime.combine(DAYS[-1], datetime.time(), UTC) + HOUR
    times = table.column("timestamp").to_pylist()
    seen = collections.defaultdict(set)
    for at, one in zip(times, candidates, strict=True):
        item = one.columns["item_id"][0].as_py()
        if item >= FIRST_CHANGED:
            seen[at >= one_oclock].add((item, one.columns["item_category"][0].as_py()))
    assert min(map(len, (seen[False], seen[True])))
    assert not seen[False] & seen[True]


@pytest.mark.parametrize("name", ["category", "pair"])
def test_impressions_stay_with_the_category_that_they_had(work, name):
    """The last day's rows, recounted from the examples, which have the category of each moment."""
    end = datetime.datetime.combine(DAYS[-1] + ONE_DAY, datetime.time(), UTC)
    by, shown, clicked = KEYS[name], collections.Counter(), collections.Counter()
    for row in (row for day in DAYS for row in examples_of(work, day).to_pylist()):
        values = [row[column] for column in by]
        key = values[0] if len(values) == 1 else pair_key(*values)
        shown[key] += 1
        clicked[key] += row["click"] * (row["timestamp"] + SCHEMA.label.delay < end)
    table = SCHEMA.table(f"{name}_daily")
    rows = {row[table.of]: row for row in work.features(table, [DAYS[-1]]).collect()}
    assert {key: row[f"{name}_shown_all"] for key, row in rows.items()} == shown
    positives = f"{name}_daily_click_positives_all"
    assert {key: row[positives] for key, row in rows.items()} == {k: clicked[k] for k in shown}


def test_a_history_keeps_the_categories_of_the_moments_of_its_impressions(work):
    """The last day's lists, taken again from the examples."""
    end = datetime.datetime.combine(DAYS[-1] + ONE_DAY, datetime.time(), UTC)
    clicks = collections.defaultdict(list)
    for row in (row for day in DAYS for row in examples_of(work, day).to_pylist()):
        if row["click"] and row["timestamp"] + SCHEMA.label.delay < end:
            clicks[row["user_id"]].append((row["item_id"], row["item_category"]))
    rows = {row["user_id"]: row for row in work.features(INTERESTS, [DAYS[-1]]).collect()}
    pairs = {
        user: list(zip(row["clicked_item_id"], row["clicked_item_category"], strict=True))
        for user, row in rows.items()
    }
    assert pairs == {user: clicks[user][: -LENGTH - 1 : -1] for user in rows}
    kept = {item: set() for item in range(40)}
    for item, category in (pair for of_user in pairs.values() for pair in of_user):
        kept[item].add(category)
    assert max(map(len, kept.values())) == 2


def test_lists_and_ages_are_inputs_of_most_impressions(served):
    table, candidates = served[-1]
    schema = SCHEMA.table_owners
    assert schema["clicked_item_id"].name == "item_id"
    for name in ("clicked_item_category", "seen_device", "category_visitors_user_id"):
        lengths = [one.inputs.tiled([name]).ids[name].lengths[0] for one in candidates]
        assert max(lengths) >= LENGTH
        assert sum(lengths) > len(table)
    place = SCHEMA.dense_inputs().index("clicked_age_0")
    newest, second = (
        np.array([one.inputs.dense[0, place + n] for one in candidates]) for n in (0, 1)
    )
    is_there = ~np.isnan(second)
    assert is_there.mean() > 0.3
    assert (newest[is_there] <= second[is_there]).all()
    assert newest[is_there].min() > 600


def test_a_range_of_days_gives_the_rows_of_day_by_day(work, spark, tmp_path):
    """Of the days before anything changed; every user's row of attributes is new at its build."""
    from features.pipeline.workspace import Workspace

    landing = work.lake.root.parent.parent / "landing"
    shutil.copytree(landing, tmp_path / "landing")
    change_categories(tmp_path / "landing" / SCHEMA.name / "items.parquet", by=-1)
    again = Workspace(spark, SCHEMA, Lake(tmp_path / "lake", SCHEMA.name))
    build(again, tmp_path / "landing", DAYS[:2])
    for table in TABLES:
        found, wanted = (
            [lake.manifest(table.name, day).content_hash for day in DAYS[:2]]
            for lake in (again.lake, work.lake)
        )
        assert found == wanted, table.name
