"""One whole day of ``daily_ranking`` with the real jobs, on a small generated log."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SIZES = ("--rows=1500", "--users=60", "--items=40", "--days=3", "--seed=1")
HISTORY = ("--date=2025-01-01", "--to=2025-01-02")
DAY = "2025-01-03"
_RUN_THE_DAY = """
import datetime, json, sys
import daily_ranking
day = datetime.datetime.fromisoformat(sys.argv[1]).replace(tzinfo=datetime.UTC)
run = daily_ranking.dag.test(logical_date=day)
states = {ti.task_id: ti.state for ti in run.get_task_instances()}
results = {ti.task_id: ti.xcom_pull(task_ids=ti.task_id) for ti in run.get_task_instances()}
print("RESULT " + json.dumps({"run": run.state, "states": states, "results": results}))
"""


@pytest.mark.spark
@pytest.mark.distributed
def test_a_day_runs_from_landing_to_retention(tmp_path) -> None:
    """Every task runs its real job; canary and promote are skipped where the gate says so."""
    environment = _environment(tmp_path)
    _door(environment, "fetch", "--landing", *SIZES)
    _door(environment, "ingest", "--landing", "--lake", *HISTORY)
    _door(environment, "validate", "--lake", "--docs", "--table=impressions", *HISTORY)
    _door(environment, "build", "--landing", "--lake", *HISTORY)
    _door(environment, "apply", "--lake", "--store")
    _door(environment, "examples", "--lake", *HISTORY)
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], env=environment, check=True)
    done = subprocess.run(
        [sys.executable, "-c", _RUN_THE_DAY, DAY],
        # The jobs too are this checkout's, wherever the packages were installed from.
        env={**environment, "PYTHONPATH": f"{REPOSITORY / 'dags'}{os.pathsep}{REPOSITORY}"},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, done.stdout[-3000:] + done.stderr[-3000:]
    seen = json.loads(lines[0].removeprefix("RESULT "))
    canary, promoted = (seen["states"].pop(task) for task in ("canary", "promote"))
    assert set(seen["states"].values()) == {"success"}, done.stdout[-3000:]
    assert seen["run"] == "success"
    decision = seen["results"]["evaluate"]["decision"]
    assert canary == promoted == {"promote": "success"}.get(decision, "skipped")
    assert (tmp_path / "reports" / seen["results"]["evaluate"]["report"]).exists()


def _environment(var: Path) -> dict[str, str]:
    from settings import Settings, airflow_environment

    environment = airflow_environment(Settings(var=var, dataset="synthetic"))
    # Without an endpoint, promotion moves the alias and says that nobody follows.
    return {**environment, "RANKING_ENDPOINT": "none", "RANKING_LAST_DAY": DAY}


def _door(environment: dict[str, str], verb: str, *arguments: str) -> None:
    var = Path(environment["RANKING_VAR"])
    folders = {"--landing": "landing", "--lake": "lake", "--store": "feast", "--docs": "reports"}
    flags = [f"{name}={var / folders[name]}" if name in folders else name for name in arguments]
    command = [sys.executable, "-m", "features", verb, "--dataset=synthetic", *flags]
    subprocess.run(command, env=environment, cwd=var, check=True, capture_output=True, text=True)
