"""Bad days: each stops at a gate that names the reason and a runbook, and is repaired completely.

Every drill ends with the content hashes of a run in which nothing went wrong.
"""

import datetime
import shutil
import time

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from features.datasets.schema_files import discovery
from features.lake.lake import EXAMPLES, IMPRESSIONS

pytestmark = pytest.mark.spark

DATASET = "--dataset synthetic"


def test_a_missed_day_is_run_before_the_next_whose_check_needs_a_build_and_is_done_once(
    sandbox, built, page_of
):
    missed, day = built.days[-2:]
    sandbox.remove_days(missed, day)
    for command in ("ingest", "validate --table impressions"):
        assert sandbox.run(f"{command} {DATASET} --date {day}")["code"] == 0
    stopped = sandbox.run(f"build {DATASET} --date {day}")
    assert stopped["code"] == 1
    assert f"table user_state: day {missed} is missing, and {day} builds on it" in stopped["error"]
    assert page_of("build_features", stopped) == "day-missing"
    assert day not in sandbox.lake.days("user_state")
    unbuilt = sandbox.run(f"examples {DATASET} --date {day}")
    assert page_of("examples", unbuilt) == "day-missing"
    sandbox.repair(stopped["error"])
    a_check_needs_a_build_and_is_done_once(sandbox, day, page_of)
    assert sandbox.run(f"examples {DATASET} --date {day}")["code"] == 0
    assert sandbox.equals_the_undisturbed_run(missed, day)


def a_check_needs_a_build_and_is_done_once(sandbox, day, page_of):
    """Of a day that has landed and is not built."""
    check = f"validate --table features {DATASET} --date {day}"
    stopped = sandbox.run(check)
    assert stopped["code"] == 1
    assert f"features of {day}: no build of exactly these days waits" in stopped["error"]
    assert page_of("validate_features", stopped) == "day-missing"
    sandbox.repair(stopped["error"])
    assert day not in sandbox.lake.days("user_state")
    assert sandbox.run(check)["code"] == 0
    version = sandbox.lake.snapshot("user_state").version
    again = sandbox.run(check)
    assert (again["code"], again["published"]) == (
        0,
        "before, and nothing of these days has changed since",
    )
    assert sandbox.lake.snapshot("user_state").version == version


def land(sandbox, day: datetime.date, table: pa.Table) -> None:
    """Write a day again."""
    pq.write_table(table, sandbox.landed(day))


def test_a_log_that_must_not_be_read_or_published_stops_until_the_right_one_lands(
    sandbox, built, page_of, monkeypatch
):
    """One after the other on one day, and on a machine whose clock is a day ahead in the end.

    The jobs read no clock: there they make of the right log what any other machine makes of it.
    """
    day, now = built.days[-1], time.time
    sandbox.remove_days(day)
    good = pq.read_table(sandbox.landed(day), partitioning=None)
    half_of_it_is_written(sandbox, day, page_of)
    a_column_has_another_type(sandbox, day, page_of, good)
    land(sandbox, day, no_device(good, share=0.99))
    little_would_be_published(sandbox, day, page_of, '"observed_value": 0.99')
    monkeypatch.setattr(time, "time", lambda: now() + 24 * 3600)
    land(sandbox, day, a_day_later(good))
    little_would_be_published(sandbox, day, page_of, '"observed_value": 1.0')
    land(sandbox, day, good)
    sandbox.day(day)
    assert sandbox.equals_the_undisturbed_run(day)


def half_of_it_is_written(sandbox, day, page_of):
    """Under its own name, and under the one that a file has until it is whole."""
    whole = sandbox.landed(day).read_bytes()
    sandbox.landed(day).write_bytes(whole[: len(whole) // 2])
    stopped = sandbox.run(f"ingest {DATASET} --date {day}")
    assert stopped["code"] == 1
    assert f"{day}.parquet: is cut off or still being written" in stopped["error"]
    assert page_of("ingest", stopped) == "day-not-landed"
    sandbox.landed(day).rename(sandbox.landed(day).with_name(f".{day}.part"))
    assert "has not landed" in sandbox.run(f"ingest {DATASET} --date {day}")["error"]


def a_column_has_another_type(sandbox, day, page_of, good):
    """It is seen before a row is read."""
    column = good.column_names.index("click")
    land(sandbox, day, good.set_column(column, "click", good["click"].cast(pa.string())))
    stopped = sandbox.run(f"ingest {DATASET} --date {day}")
    assert stopped["code"] == 1
    assert "column click is string; the schema has int64" in stopped["error"]
    assert page_of("ingest", stopped) == "critical-validation"


def little_would_be_published(sandbox, day, page_of, words):
    """99 % of the rows have no device, or all are of the next day."""
    assert sandbox.run(f"ingest {DATASET} --date {day}")["code"] == 0
    stopped = sandbox.run(f"validate {DATASET} --table impressions --date {day}")
    assert stopped["code"] == 1
    assert "largest share of a day's rows in quarantine" in stopped["error"]
    assert words in stopped["error"]
    listed = stopped["candidates"]["impressions"]["manifest"]
    assert listed.endswith(f"_candidates/impressions/{day}_{day}.json")
    assert f"nothing was published, the candidate stays: {listed} (1 files)" in stopped["error"]
    assert page_of("validate_impressions", stopped) == "critical-validation"
    assert not sandbox.lake.has(IMPRESSIONS, day)


def no_device(table: pa.Table, *, share: float) -> pa.Table:
    count = round(share * len(table))
    devices = [None] * count + table["device"].to_pylist()[count:]
    index = table.column_names.index("device")
    return table.set_column(index, "device", pa.array(devices, pa.string()))


def a_day_later(table: pa.Table) -> pa.Table:
    index = table.column_names.index("timestamp")
    later = pc.add(table["timestamp"], pa.scalar(datetime.timedelta(days=1)))
    return table.set_column(index, "timestamp", later.cast(table["timestamp"].type))


def test_a_feature_that_is_added_makes_the_old_days_stale_until_they_are_made_again(
    sandbox, built, page_of, monkeypatch, tmp_path
):
    """The named command rebuilds them, and they are what they would be from the start."""
    days, later = built.days[:4], built.days[4:]
    day = days[-1]
    sandbox.remove_days(day, *later)
    declared = (discovery.BUILT_IN / "synthetic.yaml").read_text()
    wider = declared.replace("windows_days: [1, 7, 28]", "windows_days: [1, 3, 7, 28]")
    assert wider != declared
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "synthetic.yaml").write_text(wider)
    monkeypatch.setattr(discovery, "BUILT_IN", tmp_path / "schemas")
    for command in ("ingest", "validate --table impressions"):
        assert sandbox.run(f"{command} {DATASET} --date {day}")["code"] == 0
    stopped = sandbox.run(f"build {DATASET} --date {day}")
    assert stopped["code"] == 1
    assert "were made by another schema" in stopped["error"]
    assert page_of("build_features", stopped) == "schema-changed"
    sandbox.repair(stopped["error"])
    sandbox.day(day)
    healed = sandbox.hashes(*days)
    for table in ("user_state", "item_daily", EXAMPLES):
        shutil.rmtree(sandbox.lake.root / table)
    for command in ("build", "validate --table features", "examples"):
        sandbox.run(f"{command} {DATASET} --date {days[0]} --to {day}")
    assert healed == sandbox.hashes(*days)
