"""Offline and online inputs are equal to the bit, on the real log, at moments between the builds.

Days of MovieLens are replayed: impressions land in parts of days, a push follows them, and an hour
and a quarter after midnight the day before is built and brought online. Requests go through the
reader, the items in memory and the assembly of the endpoint; the offline side is the as-of join of
the training examples.
"""

import bisect
import dataclasses
import datetime
import itertools
import json
import shutil
import sqlite3
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.datasets.catalog import schema_of
from features.encoding.encode import Ids, ModelInputs, RowStatus, encode
from features.schema import TableKind
from features.spark import landing as land
from features.spark.lake import IMPRESSIONS, IMPRESSIONS_RAW, ONE_DAY, Lake, day_range

pytestmark = pytest.mark.spark

SCHEMA = schema_of("movielens-100k")
FIRST, LAST = datetime.date(1998, 3, 28), datetime.date(1998, 4, 17)
UTC = datetime.UTC
MINUTE = datetime.timedelta(minutes=1)
BUILD_AFTER = 75 * MINUTE
"""After midnight the day before is built and brought online; it counts from two o'clock on."""
DAYS = [datetime.date(1998, 4, day) for day in (1, 2, 3, 15, 17)]
"""The busiest."""
KINDS = {
    "before the build": range(0, 75, 15),
    "before it counts": range(75, 76),
    "morning": range(120, 720, 15),
    "evening": range(720, 1440, 15),
}
"""Minutes after midnight, of which the one with most impressions is a moment of the test."""
EACH, AT_LEAST = 100, 1_000
STATE, DAILY = SCHEMA.table("user_state"), SCHEMA.table("item_daily")


class LakeUntil(Lake):
    """A lake of which only the days until ``last`` are built yet."""

    last = FIRST

    def days(self, table):
        return [day for day in super().days(table) if day <= self.last]


@pytest.fixture(scope="module")
def work(spark, tmp_path_factory):
    """The last weeks of MovieLens, from the log to examples."""
    from features.datasets.movielens_100k import reader as movielens_100k
    from features.online_store import feast_store
    from features.pipeline import jobs
    from features.pipeline.workspace import Workspace

    root = tmp_path_factory.mktemp("parity")
    try:
        movielens_100k.fetch(root / "log" / SCHEMA.name)
    except ConnectionError as error:
        pytest.skip(str(error))
    days = day_range(FIRST, LAST)
    work = Workspace(spark, SCHEMA, Lake(root / "lake", SCHEMA.name))
    jobs.ingest(work, root / "log", days)
    raw = work.impressions(days, IMPRESSIONS_RAW)
    work.replace(raw, IMPRESSIONS, days, keys=["example_id"])
    jobs.build(work, root / "log", days, is_first=True)
    jobs.examples(work, days)
    feast_store.apply(SCHEMA, root / "feast", root / "lake")
    return work


@pytest.fixture(scope="module")
def examples(work) -> pa.Table:
    days = day_range(DAYS[0], LAST)
    files = [path for day in days for path in work.lake.path("examples", day).glob("*.parquet")]
    table = pa.concat_tables([pq.read_table(path, partitioning=None) for path in files])
    return table.combine_chunks().sort_by([("timestamp", "ascending"), ("example_id", "ascending")])


@dataclasses.dataclass
class Moment:
    """A moment at which the store was asked, and copies of the store around it."""

    kind: str
    at: datetime.datetime
    rows: list[int]
    materialize: "Online"
    feast_store: object


class Replay:
    """Lands the log, pushes and builds, up to any moment."""

    def __init__(self, work) -> None:
        from features.push.push_day import LandedUsers

        self.root = work.lake.root.parent.parent
        self.log = self.root / "log" / SCHEMA.name
        self.landing = self.root / "landing" / SCHEMA.name
        self.work = dataclasses.replace(work, lake=LakeUntil(self.root / "lake", SCHEMA.name))
        self.landed = LandedUsers(self.work, self.root / "landing")
        self.now = midnight(DAYS[0] - ONE_DAY)
        self.build(day_range(FIRST, self.now.date() - ONE_DAY))

    def advance(self, until: datetime.datetime) -> None:
        """Everything that happens until a moment."""
        ended = day_range(self.work.lake.last + ONE_DAY, until.date() - ONE_DAY)
        over = [day for day in ended if midnight(day + ONE_DAY) + BUILD_AFTER <= until]
        if over:
            self.land(midnight(over[-1] + ONE_DAY))
            self.build(over)
        self.land(until)
        self.push(until)

    def build(self, days: list[datetime.date]) -> None:
        """Days whose files land, that are built, and that come online."""
        from features.pipeline import materialize

        for day in days:
            path = land.impressions_file(self.landing, day, "tsv")
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(land.impressions_file(self.log, day, "tsv"), path)
        self.work.lake.last = days[-1]
        materialize.materialize_days(self.work, self.root / "feast", days)

    def land(self, until: datetime.datetime) -> None:
        """The rows since the last landing, as parts of their days."""
        for day in day_range(self.now.date(), until.date()):
            header, *lines = land.impressions_file(self.log, day, "tsv").read_text().splitlines()
            within = [line for line in lines if self.now <= moment_of(line) < until]
            if within:
                name = f"{until:%H%M%S}.tsv"
                path = self.landing / land.INTRADAY / day.isoformat() / name
                land.write_rows(path, header.split("\t"), [line.split("\t") for line in within])
        self.now = max(self.now, until)

    def push(self, until: datetime.datetime) -> None:
        from features.online_store import feast_store

        batch = self.landed.look(lambda _newest: until)
        if batch is not None and len(batch.rows):
            feast = feast_store.open_store(SCHEMA, self.root / "feast", self.root / "lake")
            feast_store.write(feast, STATE, batch.rows)


def midnight(day: datetime.date) -> datetime.datetime:
    return datetime.datetime.combine(day, datetime.time(), UTC)


def moment_of(line: str) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(line.split("\t")[4]), UTC)


def chosen(times: list, users: list, at: datetime.datetime) -> list[int]:
    """The first rows from a moment on that a store as of that moment can answer.

    Until the next build, and until something that the user did since could be counted on.
    """
    end = midnight(at.date()) + BUILD_AFTER
    end += ONE_DAY if at >= end else datetime.timedelta(0)
    rows, acted = [], {}
    for row in range(bisect.bisect_left(times, at), bisect.bisect_left(times, end)):
        acted.setdefault(users[row], times[row])
        if times[row] < acted[users[row]] + STATE.delay and len(rows) < EACH:
            rows.append(row)
    return rows


class Online:
    """The endpoint's own path over a store: its reader, its items in memory, its assembly."""

    def __init__(self, folder) -> None:
        from features.online_store.reader import open_rows
        from serving.inference.ranker import Ranker
        from serving.lookup.item_cache_refresh import ItemRefresh
        from serving.settings import Store

        rows = open_rows(SCHEMA, folder, timeout_seconds=5)
        items = ItemRefresh(SCHEMA, rows, Store())
        items.look()
        assert items().snapshot.num_items > 1_000
        self.ranker = Ranker(SCHEMA, online=rows, items=items)

    def candidates(self, table: pa.Table, rows: list[int]) -> list:
        """One request for each impression."""
        from serving.protocol.inference_request import from_rest

        found = []
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
            found.append(self.ranker.candidates(call))
        return found


def inputs_of_all(candidates) -> ModelInputs:
    names = [column.name for column in SCHEMA.sparse_inputs()]
    parts = [one.inputs.tiled(names) for one in candidates]
    return ModelInputs(
        np.concatenate([part.dense for part in parts]),
        {name: Ids.joined([part.ids[name] for part in parts]) for name in names},
    )


def differences(table: pa.Table, rows: list[int], candidates: list) -> list[str]:
    """Every difference in any bit: example, feature, both values, and the cause."""
    if not rows:
        return []
    taken = table.take(rows)
    offline = encode(SCHEMA, {name: taken.column(name) for name in taken.column_names})
    online = inputs_of_all(candidates)
    found = []
    bits = offline.dense.view(np.uint32) != online.dense.view(np.uint32)
    for place, column in zip(*np.nonzero(bits), strict=True):
        pair = offline.dense[place, column], online.dense[place, column]
        found.append((place, SCHEMA.dense_inputs()[column], *pair))
    for name in offline.ids:
        for place in range(len(rows)):
            one = np.array([place])
            pair = [side.ids[name].take(one).values.tolist() for side in (offline, online)]
            if pair[0] != pair[1]:
                found.append((place, name, *pair))
    return [
        f"example {taken.column('example_id')[place]}, {name}: offline {left}, online {right}: "
        + cause(owner(name), taken, place, candidates[place])
        for place, name, left, right in found
    ]


def owner(name: str):
    """The table that an input is made from."""
    for table in SCHEMA.tables:
        columns = [*table.columns, *(bag.column for bag in table.bags)]
        if name == table.missing_indicator or name in {column.name for column in columns}:
            return table
    raise AssertionError(name)


def cause(table, taken: pa.Table, place: int, candidates) -> str:
    """Why the store's row is not the training example's."""
    wanted = taken.column(table.timestamp_column)[place].as_py()
    answered = candidates.columns[table.timestamp_column][0].as_py()
    status = RowStatus(candidates.statuses[table.name][0])
    rows = f"online has the row of {answered}, training that of {wanted}"
    if status is not RowStatus.USABLE:
        why = {
            RowStatus.UNKNOWN: "never stored",
            RowStatus.EXPIRED: "beyond the time-to-live",
            RowStatus.FUTURE: "not yet visible",
        }[status]
        return f"{why}; {rows}"
    if wanted is None or answered > wanted:
        return f"visible too early; {rows}"
    if answered < wanted:
        return f"late {'push' if table.kind is TableKind.STATE else 'build'}; {rows}"
    return f"another value in the row of {wanted}"


@pytest.fixture(scope="module")
def moments(work, examples, tmp_path_factory) -> list[Moment]:
    """Twenty moments, with the endpoint over a copy of the store as it was then."""
    replay = Replay(work)
    log = [examples.column(name).to_pylist() for name in ("timestamp", "user_id")]
    found = []
    for day, (kind, minutes) in itertools.product(DAYS, KINDS.items()):
        times = [midnight(day) + minute * MINUTE for minute in minutes]
        at = max(times, key=lambda time: len(chosen(*log, time)))
        replay.advance(at)
        copy = tmp_path_factory.mktemp("store") / "feast"
        shutil.copytree(replay.root / "feast", copy)
        found.append(Moment(kind, at, chosen(*log, at), Online(copy), copy))
    return found


def test_impressions_at_moments_between_the_builds_are_equal_to_the_bit(examples, moments):
    seen, found = Counter(), []
    times = examples.column("timestamp")
    for moment in moments:
        candidates = moment.online.candidates(examples, moment.rows)
        found += differences(examples, moment.rows, candidates)
        seen += Counter(period(times[row].as_py()) for row in moment.rows)
    assert found == []
    assert sum(seen.values()) >= AT_LEAST
    assert set(seen) == {"before the build", "before it counts", "after"}
    assert min(seen.values()) > 15


def period(at: datetime.datetime) -> str:
    """What the night's build is to a request."""
    if at < midnight(at.date()) + BUILD_AFTER:
        return "before the build"
    return "before it counts" if at < midnight(at.date()) + DAILY.delay else "after"


def of_kind(moments, kind: str) -> Moment:
    """The last moment of a kind with many impressions."""
    return next(one for one in reversed(moments) if one.kind == kind and len(one.rows) > 20)


def before(moments, moment: Moment) -> Moment:
    return moments[moments.index(moment) - 1]


def test_a_store_that_is_one_build_behind_is_told_from_one_that_is_not(examples, moments):
    """In the morning, over the store as it was before the night's build."""
    morning = of_kind(moments, "morning")
    behind = next(
        one for one in reversed(moments[: moments.index(morning)]) if one.kind == "before the build"
    )
    found = differences(examples, morning.rows, behind.online.candidates(examples, morning.rows))
    late = [text for text in found if "late build" in text]
    assert late
    assert all("item_" in text and "offline" in text and "online" in text for text in late)
    day = morning.at.date()
    assert (
        f"online has the row of {day - ONE_DAY} 00:00:00+00:00, training that of {day}" in late[0]
    )


def test_users_of_which_nothing_was_pushed_are_told(examples, moments):
    evening = of_kind(moments, "evening")
    behind = before(moments, evening)
    found = differences(examples, evening.rows, behind.online.candidates(examples, evening.rows))
    causes = {text.split(": ")[2].split(";")[0] for text in found}
    assert causes & {"late push", "never stored"}


def test_rows_that_answer_before_they_count_are_told(examples, moments, tmp_path):
    """As a store without ``created`` would let them."""
    night = of_kind(moments, "before it counts")
    shutil.copytree(night.store, tmp_path / "feast")
    with sqlite3.connect(tmp_path / "feast" / SCHEMA.name / "online.db") as connection:
        connection.execute('DROP TRIGGER "ranking_item_daily_newest"')
        connection.execute("UPDATE ranking_item_daily SET created_ts = event_ts")
    found = differences(
        examples, night.rows, Online(tmp_path / "feast").candidates(examples, night.rows)
    )
    assert found
    assert all("visible too early" in text for text in found)


def test_a_wrong_value_is_told(examples, moments, tmp_path):
    """Put into every film, past Feast."""
    from feast.protos.feast.types.Value_pb2 import Value

    evening = of_kind(moments, "evening")
    shutil.copytree(evening.store, tmp_path / "feast")
    value = Value(int64_val=1234).SerializeToString()
    with sqlite3.connect(tmp_path / "feast" / SCHEMA.name / "online.db") as connection:
        connection.execute(
            "UPDATE ranking_item_attributes SET value = ? WHERE feature_name = ?",
            (value, "item_release_year"),
        )
    found = differences(
        examples, evening.rows, Online(tmp_path / "feast").candidates(examples, evening.rows)
    )
    assert found
    assert all(
        "item_release_year: offline 19" in text and "online 1234.0" in text for text in found
    )
    assert all("another value in the row of 1997-01-01" in text for text in found)


def test_scores_are_equal_too(examples, moments):
    from training.artifact.scorer import Scorer
    from training.model.inputs import inputs_of
    from training.model.ranker import Ranker as Model
    from training.recipes import recipe_of

    evening = of_kind(moments, "evening")
    scorer = Scorer.of(Model(inputs_of(SCHEMA), recipe_of("wukong-tiny").model))
    taken = examples.take(evening.rows)
    offline = encode(SCHEMA, {name: taken.column(name) for name in taken.column_names})
    served = inputs_of_all(evening.online.candidates(examples, evening.rows))
    np.testing.assert_allclose(scorer.score(served), scorer.score(offline), atol=1e-5)
