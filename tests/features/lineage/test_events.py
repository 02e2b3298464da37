"""Names and facets of what a job has read and written."""

import datetime

import pytest

from features.lineage.events import name_of
from features.lineage.observed import Dataset, DayRows, Observed, observing, read, wrote
from features.lineage.retention import remove_events
from features.places import place

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
