"""Has a day landed? The sensor, and the rule that it applies."""

import asyncio
import dataclasses
import datetime
import json
import pathlib
import threading

import pytest
import ranking_landing
from airflow.sdk import timezone
from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred
from airflow.sdk.module_loading import import_string
from airflow.serialization.serialized_objects import BaseSerialization
from support.airflow_dags import TaskInstance, data_set

from features.places import place, put_whole


def test_a_day_lands_or_is_given_up_with_a_reason_and_an_alert(assets) -> None:
    """Found: the day goes on. Too late: skipped; the reason names the file, the alert the page."""
    sensor = ranking_landing.LandedSensor(
        data_set=data_set(), task_id="landed", day="1998-04-20", timeout=0
    )
    late = TaskInstance(task_id="landed")
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute.__wrapped__(sensor, {"ti": late})
    resume = getattr(sensor, deferred.value.method_name)
    with pytest.raises(AirflowSkipException, match=r"not land within 0 s: no whole .*04-20\.tsv"):
        resume({"ti": late}, _fired(deferred.value.trigger))
    (notice,) = (json.loads(page.read_text()) for page in data_set().alerts.glob("*.json"))
    assert notice["runbook"] == "infra/runbooks/day-not-landed.md"
    assert "1998-04-20.tsv" in notice["error"]
    landed = data_set().landed_file("1998-04-20")
    landed.parent.mkdir(parents=True)
    landed.write_text("example_id\n")
    assert sensor.execute.__wrapped__(sensor, {"ti": late}) == {"landed": "1998-04-20"}


def _fired(trigger):
    """What a trigger fires, read back from what Airflow keeps of it."""
    path, kept = BaseSerialization.deserialize(BaseSerialization.serialize(trigger.serialize()))
    again = import_string(path)(**kept)

    async def first():
        return await anext(again.run())

    return asyncio.run(first()).payload


def test_the_triggerer_finds_a_day_that_lands_while_it_waits(assets, anywhere, monkeypatch) -> None:
    """It looks again and again, on a disk and in an object store, and no worker does."""
    monkeypatch.setattr(assets, "LANDING", anywhere)
    file = data_set().landed_file("1998-04-20")
    until = timezone.utcnow() + datetime.timedelta(seconds=30)
    landing = threading.Timer(0.5, put_whole, (file, b"example_id\n"))
    landing.start()
    trigger = ranking_landing.LandedTrigger(files=[str(file)], until=until, poll_seconds=0.1)
    assert _fired(trigger) is True
    landing.join()
    sensor = ranking_landing.LandedSensor(data_set=data_set(), task_id="landed", day="1998-04-20")
    assert sensor.looked({"ti": TaskInstance()}, True) == {"landed": "1998-04-20"}


def test_a_day_waits_for_the_events_of_its_labels_too(assets) -> None:
    films = data_set()
    late = dataclasses.replace(films, log=dataclasses.replace(films.log, events={"order": "csv"}))
    sensor = ranking_landing.LandedSensor(
        data_set=late, task_id="landed", day="1998-04-20", timeout=0
    )
    impressions, events = sensor.files()
    assert events.parts[-3:] == ("labels", "order", "1998-04-20.csv")
    for file in (impressions, events):
        assert sensor.poke({}) is False
        file.parent.mkdir(parents=True)
        file.write_text("example_id\n")
    assert sensor.poke({}) is True
    events.unlink()
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute.__wrapped__(sensor, {"ti": TaskInstance(task_id="landed")})
    assert _fired(deferred.value.trigger) is False
    with pytest.raises(AirflowSkipException, match=r"no whole .*order/1998-04-20\.csv"):
        sensor.looked({"ti": TaskInstance(task_id="landed")}, False)


@pytest.mark.parametrize(
    ("name", "content", "counts"),
    [
        ("1998-04-20.tsv", "id\n1\n", True),
        ("1998-04-20.tsv", "", False),
        ("1998-04-20.tsv", "id\n1\t2", False),  # cut off in a line
        ("1998-04-20.tsv.part", "id\n1\n", False),
        (".1998-04-20.tsv", "id\n1\n", False),
        ("1998-04-20.tmp", "id\n1\n", False),
        ("1998-04-20.csv", "id\n1\n", False),  # not what the reader reads
        ("1998-04-21.tsv", "id\n1\n", False),
    ],
)
def test_a_file_that_is_still_being_written_has_not_landed(assets, name, content, counts) -> None:
    """It has another name until it is whole, and no proper end where it has not."""
    folder = data_set().landed_file("1998-04-20").parent
    folder.mkdir(parents=True)
    (folder / name).write_text(content)
    sensor = ranking_landing.LandedSensor(data_set=data_set(), task_id="landed", day="1998-04-20")
    assert sensor.poke({}) is counts


@pytest.mark.parametrize(
    ("files", "is_whole"),
    [
        ({"part-0.parquet": b"PAR1..PAR1", "_SUCCESS": b"", ".part-0.parquet.crc": b"x"}, True),
        ({}, True),  # a day without rows
        ({"part-0.parquet": b"PAR1..PAR1", "part-1.parquet": b"PAR1.."}, False),
        ({"part-0.parquet": b"PAR1..PAR1", "_temporary/0/part-1.parquet": b""}, False),
    ],
)
def test_a_folder_has_landed_when_every_file_of_it_is_whole(tmp_path, files, is_whole) -> None:
    """The sensor and the reader have one rule, written twice."""
    from features.spark.landing import is_whole as reader_takes

    folder = tmp_path / "1998-04-20.parquet"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    assert ranking_landing.has_landed(folder) is reader_takes(folder) is is_whole
    assert ranking_landing.has_landed(tmp_path / "none") is reader_takes(tmp_path / "none") is False


def test_the_sensor_and_the_reader_know_the_same_formats() -> None:
    from features.spark import landing

    assert ranking_landing._ENDS == landing._ENDS


@pytest.mark.parametrize(
    ("files", "is_whole"),
    [
        ({"": b"PAR1..PAR1"}, True),
        ({"": b"PAR1.."}, False),
        ({"/part-0.parquet": b"PAR1..PAR1", "/_SUCCESS": b""}, True),
        ({"/part-0.parquet": b"PAR1..PAR1", "/_SUCCESS": b"", "/_temporary/0": b""}, False),
        ({"/part-0.parquet": b"PAR1.."}, False),
    ],
)
def test_a_day_lands_in_an_object_store_too(assets, anywhere, monkeypatch, files, is_whole) -> None:
    """By the reader's rule; there a folder that Spark has not marked is not whole yet."""
    from features.spark.landing import is_whole as reader_takes

    monkeypatch.setattr(assets, "LANDING", anywhere)
    landed = anywhere / "movielens-100k" / "impressions" / "1998-04-20.tsv"
    assert data_set().landed_file("1998-04-20") == landed
    day = landed.with_suffix(".parquet")
    monkeypatch.setattr(assets.DataSet, "landed_file", lambda *_: day)
    for name, content in files.items():
        put_whole(place(f"{day}{name}"), content)
    sensor = ranking_landing.LandedSensor(data_set=data_set(), task_id="landed", day="1998-04-20")
    assert sensor.poke({}) is reader_takes(day) is is_whole
    if "/_SUCCESS" in files and is_whole:
        (day / "_SUCCESS").unlink()
        on_a_disk = isinstance(day, pathlib.Path)
        assert sensor.poke({}) is reader_takes(day) is on_a_disk
