"""The demo's replay of a day: every impression is found by the endpoint's reader, and timed."""

import dataclasses
import threading

import pytest
import replay

from features import jobs, online, store
from features.catalog import schema_of
from features.follow import follow
from features.tables import Lake

pytestmark = pytest.mark.spark


class Thread:
    """Runs the push in this process, on the Spark session of the suite."""

    def __init__(self, work, first_day, folder):
        self.work = work
        self.folder = folder
        self.first_day = first_day
        self.stopped = threading.Event()
        self.summary = {}

    def start(self, _name, command, environment, _directory):
        flags = dict(
            word[2:].split("=") for word in command if word.startswith("--") and "=" in word
        )
        assert environment["RANKING_ONLINE"] == "sqlite"
        assert flags["first-day"] == str(self.first_day)
        self.thread = threading.Thread(target=self.run, args=[flags])
        self.thread.start()

    def log(self, name):
        path = self.folder / f"{name}.log"
        path.write_text("following")
        return path

    def run(self, flags):
        self.summary = follow(
            self.work,
            landing=replay.Path(flags["landing"]),
            store_dir=replay.Path(flags["store"]),
            alerts=replay.Path(flags["docs"]),
            first_day=self.first_day,
            is_replay=True,
            interval_seconds=0.1,
            stopped=self.stopped,
        )


def test_a_day_lands_again_and_every_impression_is_timed(spark, built, tmp_path, monkeypatch):
    monkeypatch.setenv("RANKING_ONLINE", "sqlite")
    monkeypatch.setattr(replay, "DURATION_SECONDS", 1.0)
    for name in ("landing", "lake"):
        (tmp_path / name).symlink_to(built.root / name)
    work = jobs.Workspace(spark, built.schema, Lake(tmp_path / "lake", built.schema.name))
    store.apply(built.schema, tmp_path / "feast", tmp_path / "lake")
    online.materialize_days(work, tmp_path / "feast", built.days[:2])
    day = built.days[-1]
    one = replay.Replay(built.schema, var=tmp_path, day=day)
    one.keep_store()
    thread = Thread(work, day, tmp_path)
    one.start_push(thread, {})
    try:
        told = one.run()
    finally:
        thread.stopped.set()
        thread.thread.join(30)
    assert told["impressions"] == 1_000
    assert 0 < told["p50_seconds"] <= told["p99_seconds"] < 60
    assert (told["declared_delay_seconds"], told["late"]) == (60, 0)
    assert thread.summary["impressions"] == 1_000


@pytest.mark.parametrize(
    ("dataset", "store_name", "note"),
    [
        ("open-bandit", "sqlite", "no users"),
        ("synthetic", "redis://127.0.0.1:6379", "no file that could be copied"),
    ],
)
def test_without_users_or_a_copy_of_the_store_nothing_is_replayed(
    tmp_path, monkeypatch, dataset, store_name, note
):
    monkeypatch.setenv("RANKING_ONLINE", store_name)
    schema = schema_of(dataset)
    one = replay.Replay(schema, var=tmp_path, day=schema.first_day)
    one.keep_store()
    one.start_push(dataclasses.make_dataclass("Nothing", [])(), {})
    assert note in one.run()["note"]
