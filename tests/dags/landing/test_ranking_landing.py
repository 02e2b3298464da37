"""Has a day landed? The sensor, and the rule that it applies."""

import asyncio
import dataclasses
import datetime
import json
import pathlib
import threading

import pyarrow as pa
import pytest
from airflow.sdk import timezone
from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred
from airflow.sdk.module_loading import import_string
from airflow.serialization.serialized_objects import BaseSerialization
from deltalake import write_deltalake
from ranking_landing import files as landed_files
from ranking_landing import sensor as landing_sensor
from support.airflow_dags import TaskInstance, data_set

from features.places import place, put_whole


def test_a_day_lands_or_is_given_up_with_a_reason_and_an_alert(assets) -> None:
    """Found: the day goes on. Too late: skipped; the reason names the file, the alert the page."""
    sensor = landing_sensor.LandedSensor(
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
    trigger = landing_sensor.LandedTrigger(file=str(file), until=until, poll_seconds=0.1)
    assert _fired(trigger) is True
    landing.join()
    sensor = landing_sensor.LandedSensor(data_set=data_set(), task_id="landed", day="1998-04-20")
    assert sensor.looked({"ti": TaskInstance()}, True) == {"landed": "1998-04-20"}


@pytest.mark.usefixtures("assets")
def test_a_day_waits_for_the_events_of_its_labels_too() -> None:
    shop = data_set()
    shop = dataclasses.replace(shop, log=dataclasses.replace(shop.log, events={"order": "csv"}))
    sensor = landing_sensor.LandedSensor(
        data_set=shop, task_id="landed", day="1998-04-20", timeout=0
    )
    impressions, (events,) = shop.landed_file("1998-04-20"), shop.event_files("1998-04-20")
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
    sensor = landing_sensor.LandedSensor(data_set=data_set(), task_id="landed", day="1998-04-20")
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
    assert landed_files.has_landed(folder) is reader_takes(folder) is is_whole
    assert landed_files.has_landed(tmp_path / "none") is reader_takes(tmp_path / "none") is False


def test_the_sensor_and_the_reader_know_the_same_formats() -> None:
    from features.spark import landing

    assert landed_files.ENDS == landing._ENDS


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
    sensor = landing_sensor.LandedSensor(data_set=data_set(), task_id="landed", day="1998-04-20")
    assert sensor.poke({}) is reader_takes(day) is is_whole
    if "/_SUCCESS" in files and is_whole:
        (day / "_SUCCESS").unlink()
        on_a_disk = isinstance(day, pathlib.Path)
        assert sensor.poke({}) is reader_takes(day) is on_a_disk


@pytest.mark.parametrize(
    ("marker", "name", "files", "lands"),
    [
        ("{day}.done", "1998-04-20.tsv", {"1998-04-20.tsv": b"id\n"}, False),
        ("{day}.done", "1998-04-20.tsv", {"1998-04-20.done": b""}, False),
        ("{day}.done", "1998-04-20.tsv", {"1998-04-20.tsv": b"i", "1998-04-20.done": b""}, False),
        ("{day}.done", "1998-04-20.tsv", {"1998-04-20.tsv": b"i\n", "1998-04-20.done": b""}, True),
        ("_DONE", "1998-04-20.parquet", {"1998-04-20.parquet/a.parquet": b"PAR1"}, False),
        (
            *("_DONE", "1998-04-20.parquet"),
            {"1998-04-20.parquet/a.parquet": b"PAR1", "1998-04-20.parquet/_DONE": b""},
            True,
        ),
    ],
)
def test_a_day_counts_when_its_marker_is_there(anywhere, marker, name, files, lands) -> None:
    """By sensor and reader, on a disk and in an object store; no _SUCCESS is asked for then."""
    from features.spark import landing

    for path, content in files.items():
        put_whole(anywhere / "impressions" / path, content)
    day = anywhere / "impressions" / name
    source = {"format": "tsv", "marker": marker}
    assert landing_sensor.has_day(str(day), "1998-04-20", source) is lands
    assert landing.has_landed(day, marker) is lands


def test_a_topics_day_has_landed_when_it_is_over() -> None:
    today = timezone.utcnow().date()
    for days, over in ((0, False), (-1, True), (1, False)):
        day = (today + datetime.timedelta(days=days)).isoformat()
        assert landing_sensor.has_day("", day, {"format": "kafka"}) is over


@pytest.mark.usefixtures("assets")
def test_the_sensor_waits_for_a_table_that_has_come_so_far(tmp_path) -> None:
    """What it defers with says of the table all that the triggerer needs."""
    source = {"format": "delta", "partition": "", "column": "at", "unit": "", "marker": ""}
    source["path"] = str(tmp_path / "visits")
    visits = data_set()
    visits = dataclasses.replace(visits, log=dataclasses.replace(visits.log, source=source))
    sensor = landing_sensor.LandedSensor(
        data_set=visits, task_id="landed", day="2025-03-02", timeout=0
    )
    late = TaskInstance(task_id="landed")
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute.__wrapped__(sensor, {"ti": late})
    with pytest.raises(AirflowSkipException, match=r"visits \(delta\) with rows of it or of a l"):
        sensor.looked({"ti": late}, _fired(deferred.value.trigger))
    moment = datetime.datetime(2025, 3, 2, 10, tzinfo=datetime.UTC)
    write_deltalake(tmp_path / "visits", pa.table({"at": [moment]}))
    assert _fired(deferred.value.trigger) is True
