"""Parts of the drill over many days that need no stack; the drill is `make drill-life`."""

import datetime
import json
import shutil

import pytest

from infra.drills.life import disk
from infra.drills.life.__main__ import LifeRequest
from infra.drills.life.days import is_well
from infra.drills.life.faults.catalog import KINDS, planned
from infra.drills.life.page import MUST_BE_EMPTY
from infra.drills.life.recorder import Recorder
from infra.drills.life.runs import Run, Runs
from infra.local.airflow_client import dag_of
from infra.local.settings import REPOSITORY, Settings

FIRST = datetime.date(2025, 1, 4)
DAYS = [FIRST + datetime.timedelta(days=number) for number in range(60)]
WELL = {
    "hashes_equal": True,
    "faults": 2,
    "named": 2,
    "healed": 2,
    "requests": 7,
    "requests_answered": 7,
    "requests_lost": 0,
    "looks_at_the_lake": 3,
    **dict.fromkeys(MUST_BE_EMPTY, ()),
}


def test_a_seed_gives_the_same_faults_each_kind_once_before_one_comes_again():
    plan = planned(DAYS, KINDS, faults=30, seed=1)
    kinds = [type(fault) for fault in plan.values()]
    assert len(plan) == 30
    assert set(kinds) == set(KINDS)
    assert max(kinds.count(kind) for kind in kinds) == 2
    assert list(plan) == sorted(plan)
    assert DAYS[0] not in plan
    assert all(DAYS.index(day) >= fault.first_day for day, fault in plan.items())
    again = planned(DAYS, KINDS, faults=30, seed=1)
    assert [fault.name for fault in again.values()] == [fault.name for fault in plan.values()]
    other = planned(DAYS, KINDS, faults=30, seed=2)
    assert [fault.name for fault in other.values()] != [fault.name for fault in plan.values()]


def test_more_faults_than_days_are_refused_with_the_limit():
    with pytest.raises(ValueError, match="faults: 10; from 0 to 9"):
        planned(DAYS[:10], KINDS, faults=10, seed=0)


def test_where_no_kind_fits_there_is_no_plan():
    late = [kind for kind in KINDS if kind.first_day >= 9]
    assert late
    with pytest.raises(ValueError, match="faults: 1; no kind is possible here in 9 days"):
        planned(DAYS[:9], late, faults=1, seed=0)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"days": 0}, "--days: 0; at least 1"),
        ({"days": 10, "faults": 10}, "--faults: 10; from 0 to 9"),
        ({"kinds": "late-day,none"}, r"--kinds \['none'\]: unknown"),
    ],
)
def test_what_cannot_be_lived_is_refused_with_the_limit(asked, words):
    with pytest.raises(ValueError, match=words):
        LifeRequest(**asked)
    assert LifeRequest(days=10).num_faults == 5


def test_each_kind_has_a_name_of_its_own_and_an_alert_with_a_page():
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    pages = {path.stem for path in (REPOSITORY / "infra" / "runbooks").glob("*.md")}
    assert {kind.alert for kind in KINDS} - pages == {"scheduler unhealthy"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hashes_equal", False),
        ("named", 1),
        ("healed", 1),
        ("requests_answered", 6),
        ("looks_at_the_lake", 0),
        *((name, ["something"]) for name in MUST_BE_EMPTY),
    ],
)
def test_anything_that_is_not_as_it_must_be_fails_the_drill(name, value):
    assert is_well(WELL)
    assert not is_well({**WELL, name: value})


def test_alerts_are_read_from_the_logs_of_tasks(tmp_path):
    settings = Settings(var=tmp_path)
    runs, run = Runs(settings), Run(dag_of("daily_ranking", "life"), "day__2025-01-04")
    log = runs.log_folder(run) / "task_id=ingest" / "attempt=3.log"
    log.parent.mkdir(parents=True)
    notice = {"alert": "disk-full", "runbook": "infra/runbooks/disk-full.md", "task": "ingest"}
    events = ["Starting", f"ALERT {json.dumps({**notice, 'error': 'no space'})}", "ALERT {broken"]
    log.write_text("".join(json.dumps({"event": event}) + "\n" for event in events))
    (alert,) = runs.alerts(run)
    assert (alert.name, alert.task, alert.error) == ("disk-full", "ingest", "no space")


@pytest.mark.process
@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool")
def test_a_rule_fires_on_what_was_recorded_of_its_fault_and_else_not():
    recorder = Recorder("http://127.0.0.1:9/metrics")
    name = 'ranking_worker_restarts_total{pod="a"}'
    metrics = "ranking_worker_restarts_total"
    recorder._scrapes = [{name: "0"}] * 4
    assert not recorder.firing("workers-restart", metrics=metrics, since=0)
    recorder._scrapes += [{}, {name: "1"}, {name: "1"}]
    assert recorder.firing("workers-restart", metrics=metrics, since=0)


@pytest.mark.process
def test_a_full_disk_has_no_byte_left_and_is_empty_afterwards(tmp_path):
    """A small one, in a process whose mounts nobody else sees; where it may mount at all."""
    import multiprocessing

    process = multiprocessing.get_context("fork").Process(target=_fill, args=(tmp_path,))
    process.start()
    process.join(60)
    assert process.exitcode == 0


def _fill(folder) -> None:
    if not disk.mount(folder / "small", megabytes=2):
        return  # this process may not mount
    spared = folder / "small" / "spared"
    spared.write_bytes(b"x" * 8192)
    with disk.full(folder / "small") as fill:
        assert disk.free_bytes(folder / "small") == 0
        spared.unlink()
        assert disk.free_bytes(folder / "small") > 0
        fill()
        with pytest.raises(OSError, match="No space left on device"):
            (folder / "small" / "more").write_bytes(b"x" * 8192)
    assert disk.free_bytes(folder / "small") > 2**20
