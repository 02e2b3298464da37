"""The main job itself, small: a history, a day by Airflow's own scheduler, a ranked answer."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.airflow_dags import dag_of

from infra.local.servers import free_ports
from infra.local.settings import PORT_VARIABLES

REPOSITORY = Path(__file__).resolve().parents[2]
SIZES = ("--rows=20000", "--users=500", "--items=300", "--days=4", "--daily=1")
TASKS_BY_DECISION = {"canary", "promote"}


@pytest.mark.spark
@pytest.mark.distributed
@pytest.mark.timeout(1800)
def test_a_day_runs_from_landing_to_a_ranked_answer(tmp_path) -> None:
    """Every task runs its real job; canary and promote are skipped where the gate says so."""
    with (tmp_path / "demo.log").open("w+") as log:
        command = [sys.executable, "-m", "infra.demo.demo", "--dataset=synthetic", *SIZES]
        done = subprocess.run(
            command, env=_environment(tmp_path), stdout=subprocess.DEVNULL, stderr=log, check=False
        )
        log.seek(0)
        assert done.returncode == 0, log.read()[-5000:]
    report = json.loads((tmp_path / "demo" / "report.json").read_text())
    states = {task["task"]: task["state"] for task in report["tasks"]}
    by_decision = {states.pop(task) for task in TASKS_BY_DECISION}
    assert set(states.values()) == {"success"}
    assert set(_dag_tasks()) == states.keys() | TASKS_BY_DECISION
    (gate,) = report["gates"]
    assert by_decision == {"success" if gate["decision"] == "promote" else "skipped"}
    assert (tmp_path / "reports" / gate["report"]).exists()
    assert report["drill"]["decision"] == "refuse"
    replay = report["freshness"]
    assert replay["impressions"] == 5_000
    assert 0 < replay["p50_seconds"] <= replay["p99_seconds"]
    assert replay["declared_delay_seconds"] == 60
    assert {"ingest", "build", "examples", "train", "evaluate"} <= _jobs_with_events(tmp_path)
    scores = [item["score"] for item in report["answer"]["items"]]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) > 1
    assert not (tmp_path / "airflow" / "stack.json").exists(), "a part of the stack was left behind"


def _jobs_with_events(var: Path) -> set[str]:
    """Commands that left events of lineage, in files named by data set, package and command."""
    return {file.name.split(".")[2] for file in (var / "lineage").rglob("synthetic.*.jsonl")}


def _environment(var: Path) -> dict[str, str]:
    variables = PORT_VARIABLES.values()
    ports = dict(zip(variables, map(str, free_ports(len(variables))), strict=True))
    # As a user has it: the other tests write no events of lineage.
    given = {name: text for name, text in os.environ.items() if name != "OPENLINEAGE_DISABLED"}
    # The jobs too are this checkout's, wherever the packages were installed from.
    return {**given, **ports, "RANKING_VAR": str(var), "PYTHONPATH": _path()}


def _path() -> str:
    given = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join([str(REPOSITORY), *filter(None, [given])])


def _dag_tasks() -> list[str]:
    return dag_of("daily_ranking.py").task_ids
