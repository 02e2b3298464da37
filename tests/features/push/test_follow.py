"""A push that follows: nothing is lost or repeated, whatever ends in between; it is measured."""

import datetime
import shutil
import threading

import pytest

from features.lake.lake import Lake
from features.online_store import feast_store
from features.online_store.reader import open_rows
from features.pipeline.workspace import Workspace
from features.push import follow, push_day
from features.push.follow import Follower, Target
from features.push.freshness import Freshness
from features.schema import Role
from features.spark import landing as land

pytestmark = pytest.mark.spark

UTC = datetime.UTC
DAY = 3
HOURS = (6, 12)
"""Of the day, until which its parts land, one after the other."""


class LakeUntil(Lake):
    """A lake of which only the days until one are built yet."""

    def __init__(self, lake, last):
        super().__init__(lake.root.parent, lake.root.name)
        self.last = last

    def days(self, table):
        return [day for day in super().days(table) if day <= self.last]


@pytest.fixture(scope="module")
def work(spark, built):
    lake = LakeUntil(Lake(built.lake, built.schema.name), built.days[DAY - 1])
    return Workspace(spark, built.schema, lake)


@pytest.fixture(scope="module")
def parts(work, built, tmp_path_factory):
    """Parts of a day as their producer writes them, before they are renamed into place."""
    folder = tmp_path_factory.mktemp("parts")
    path = land.impressions_file(built.landing / built.schema.name, built.days[DAY], "parquet")
    rows = work.spark.read.parquet(str(path))
    found, since = [], 0
    for hour in HOURS:
        within = rows.where(f"hour(timestamp) >= {since} and hour(timestamp) < {hour}")
        within.coalesce(1).write.parquet(str(folder / str(hour)))
        found.append(next((folder / str(hour)).glob("*.parquet")))
        since = hour
    return found


@pytest.fixture
def root(tmp_path, work, monkeypatch):
    monkeypatch.setenv("RANKING_ONLINE", "sqlite")
    feast_store.apply(work.schema, tmp_path / "feast", tmp_path / "lake")
    return tmp_path


def land_part(work, root, built, parts, number):
    folder = root / "landing" / work.schema.name / land.INTRADAY / built.days[DAY].isoformat()
    folder.mkdir(parents=True, exist_ok=True)
    hidden = shutil.copy(parts[number], folder / f".{number}.parquet")
    shutil.move(hidden, folder / f"{number}.parquet")


def follower(work, root):
    freshness = Freshness(
        delay_seconds=60.0,
        mark=root / "measured.txt",
        alerts=root / "alerts",
        dataset=work.schema.name,
    )
    landed = push_day.LandedUsers(work, root / "landing")
    target = Target(work, root / "feast")
    return Follower(work, landed, target, freshness, lambda newest: newest)


def states(work, root):
    """Of every user all that a reader can see, and how often the table was written."""
    rows = open_rows(work.schema, root / "feast", timeout_seconds=5)
    found = rows.read(Role.USER, list(range(150)))
    return {name: values.to_pylist() for name, values in found.items()}


@pytest.fixture(scope="module")
def expected(work, built, parts, tmp_path_factory):
    """What one push of all parts makes of a new store."""
    root = tmp_path_factory.mktemp("expected")
    feast_store.apply(work.schema, root / "feast", root / "lake")
    for number in range(len(parts)):
        land_part(work, root, built, parts, number)
    assert follower(work, root).poll()
    seen = states(work, root)
    assert sum(value is not None for value in seen["user_impressions_all"]) > 50
    return seen


def test_parts_one_by_one_end_where_one_push_of_all_does(work, root, built, parts, expected):
    """Restarted for the second part; the first lands again under another name."""
    land_part(work, root, built, parts, 0)
    assert follower(work, root).poll()
    first = land.landed_files(root / "landing" / work.schema.name, str(built.days[DAY]), "parquet")[
        0
    ]
    shutil.copy(first, first.with_name("again.parquet"))
    land_part(work, root, built, parts, 1)
    running = follower(work, root)
    assert running.poll()
    assert not running.poll()
    assert states(work, root) == expected


def test_a_store_that_is_away_is_retried_and_one_that_was_recreated_is_filled(
    work, root, built, parts, expected, caplog
):
    running = follower(work, root)
    land_part(work, root, built, parts, 0)
    assert running.poll()
    (root / "feast" / work.schema.name).rename(root / "away")
    land_part(work, root, built, parts, 1)
    assert not running.poll()
    assert "retried at each poll" in caplog.text
    # Another store comes back, in which nothing is.
    feast_store.apply(work.schema, root / "feast", root / "lake")
    assert [running.poll() for _ in range(3)] == [False, True, False]
    assert "has lost rows" in caplog.text
    assert states(work, root) == expected


def test_a_file_that_cannot_be_read_is_left_out_and_named(work, root, built, parts, caplog):
    folder = root / "landing" / work.schema.name / land.INTRADAY / built.days[DAY].isoformat()
    folder.mkdir(parents=True)
    (folder / "broken.parquet").write_bytes(b"PAR1, and not what its end promises, PAR1")
    land_part(work, root, built, parts, 0)
    running = follower(work, root)
    assert running.poll()
    assert "broken.parquet: cannot be read" in caplog.text
    assert running.summary()["impressions"] > 100
    assert running.summary()["freshness"]["files"] == 2


def test_metrics_are_offered_at_the_address_that_is_named(work, root, monkeypatch):
    offered = []
    monkeypatch.setattr(
        follow, "start_http_server", lambda port, addr: offered.append((addr, port))
    )
    stopped = threading.Event()
    stopped.set()
    place = {"landing": root / "landing", "store_dir": root / "feast", "alerts": root / "alerts"}
    follow.follow(work, **place, stopped=stopped, metrics_host="0.0.0.0", metrics_port=8083)
    assert offered == [("0.0.0.0", 8083)]
