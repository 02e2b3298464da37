"""Names and facets of what a job has read and written."""

import datetime
import json
import uuid

import pytest
from openlineage.client.event_v2 import RunState
from support.features import lineage

from features.lineage.events import JobDescription, event, name_of
from features.lineage.observed import (
    Dataset,
    DayRows,
    Kind,
    ModelFacts,
    Observed,
    observing,
    read,
    wrote,
)
from features.lineage.retention import remove_events
from features.lineage.sender import Sender
from features.places import place
from features.spark.landing import note_read

MONDAY, TUESDAY = datetime.date(2025, 1, 6), datetime.date(2025, 1, 7)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("/data/lake/shop/examples", ("file", "/data/lake/shop/examples")),
        ("s3://ranking/lake/shop/examples", ("s3://ranking", "lake/shop/examples")),
        ("redis://:secret@store:6379/0/shop/user", ("redis://store:6379", "0/shop/user")),
        (
            "mlflow://server:5000/ranker-shop@champion",
            ("mlflow://server:5000", "ranker-shop@champion"),
        ),
    ],
)
def test_a_place_has_the_name_of_openlineage(where, expected):
    assert name_of(where) == expected


def test_what_is_seen_twice_is_one_data_set_with_all_days_and_the_newest_version():
    seen = Observed()
    seen.add_input(Dataset(where="a", version="1", days={MONDAY: DayRows("x", 2)}, files=["f"]))
    seen.add_input(Dataset(where="b"))
    seen.add_input(Dataset(where="a", version="2", days={TUESDAY: DayRows("y", 3)}, files=["e"]))
    first, second = seen.inputs
    assert (first.version, list(first.days), first.files) == ("2", [MONDAY, TUESDAY], ["e", "f"])
    assert second.where == "b"


def test_nothing_is_kept_outside_of_a_job():
    read(Dataset(where="before"))
    with observing() as seen:
        wrote(Dataset(where="in"))
    wrote(Dataset(where="after"))
    assert [one.where for one in seen.outputs] == ["in"]
    assert seen.inputs == []


def test_events_of_days_before_one_are_removed_and_nothing_else(tmp_path):
    for name in ("2025-01-05", "2025-01-06", "airflow", "notes"):
        (tmp_path / name).mkdir()
    for name in ("event-20250105-120000.000001.json", "event-20250106-000000.000001.json"):
        (tmp_path / "airflow" / name).touch()
    assert remove_events(MONDAY, place(tmp_path)) == 2
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == ["2025-01-06", "airflow", "airflow/event-20250106-000000.000001.json", "notes"]
    assert remove_events(MONDAY, place(tmp_path / "nowhere")) == 0


MODEL = ModelFacts(recipe="wukong", metrics={"ne": 0.9}, parents=["p"], config={"model": {}})
JOB = JobDescription(
    run_id=str(uuid.uuid4()),
    package="serving",
    command="promote",
    dataset="shop",
    fingerprint="f",
    parameters={"date": "2025-01-06"},
    first_day=MONDAY,
    last_day=TUESDAY,
    environment={},
)


def promotion():
    """The end of a job that read a version of a model and checked rows, and wrote an alias."""
    seen = Observed()
    seen.add_input(Dataset(where="/a/shop", kind=Kind.MODEL, version="v1", model=MODEL))
    broken = {"price:range": "3 rows", "row_count": "0"}
    seen.add_input(Dataset(where="/lake/shop/rows", broken_rules=broken))
    seen.add_input(Dataset(where="/lake/shop/good", broken_rules={}))
    days = {MONDAY: DayRows("x", 2), TUESDAY: DayRows("y", 3)}
    seen.add_output(Dataset(where="/lake/shop/made", version="4", days=days))
    seen.add_output(Dataset(where="/m/ranker-shop@champion", kind=Kind.MODEL, version="v1"))
    moment = datetime.datetime.combine(TUESDAY, datetime.time(), tzinfo=datetime.UTC)
    return event(JOB, RunState.COMPLETE, seen, moment=moment)


def test_an_event_has_a_facet_for_all_that_is_known_and_keeps_the_schemas(tmp_path):
    sender = Sender("run", has_receiver=False, where=place(tmp_path / "lineage"))
    sender.send(promotion())
    sender.close()
    (found,) = map(lineage.checked, lineage.kept(tmp_path))
    model, rows, good = found["inputs"]
    assert model["facets"]["datasetType"]["datasetType"] == "MODEL"
    assert model["facets"]["ranking_model"]["metrics"] == {"ne": 0.9}
    failed = rows["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert [(one["name"], one.get("column"), one["actual"]) for one in failed] == [
        ("price:range", "price", "3 rows"),
        ("row_count", None, "0"),
    ]
    assert [
        one["success"] for one in good["inputFacets"]["dataQualityAssertions"]["assertions"]
    ] == [True]
    made, alias = found["outputs"]
    assert made["outputFacets"]["outputStatistics"]["rowCount"] == 5
    assert (alias["name"], alias["facets"]["version"]["datasetVersion"]) == (
        "/m/ranker-shop@champion",
        "v1",
    )


def test_events_are_kept_on_any_place(anywhere):
    """Where nothing can be appended, each is a file of its own."""
    sender = Sender("run", has_receiver=False, where=anywhere)
    sender.send(promotion())
    sender.send(promotion())
    files = [path for day in anywhere.iterdir() for path in day.iterdir()]
    lines = [line for file in files for line in file.read_text().splitlines()]
    assert [json.loads(line)["run"]["runId"] for line in lines] == [JOB.run_id] * 2


def test_landed_files_are_inputs_by_their_folder():
    with observing() as seen:
        note_read([place(f"/landing/shop/impressions/{day}.csv") for day in (TUESDAY, MONDAY)])
    (folder,) = seen.inputs
    assert (folder.where, folder.kind) == ("/landing/shop/impressions", Kind.FILE)
    assert folder.files == ["2025-01-06.csv", "2025-01-07.csv"]
