"""The paths of the DAGs, moved to an empty folder, and tasks of small programs in it."""

import pytest
from support.airflow_dags import TaskInstance, data_set, run_of


@pytest.fixture
def assets(tmp_path, monkeypatch):
    """The paths of the DAGs, moved to an empty folder."""
    import ranking_assets

    var = tmp_path / "var"
    monkeypatch.setattr(ranking_assets, "VAR", var)
    monkeypatch.setattr(ranking_assets, "ROOT", ranking_assets.place(str(var)))
    monkeypatch.setattr(ranking_assets, "LANDING", var / "landing")
    monkeypatch.setattr(ranking_assets, "REPORTS", var / "reports")
    return ranking_assets


@pytest.fixture
def register(monkeypatch):
    """The leases that were taken, in memory instead of Airflow's database."""
    from ranking_launchers import lease as ranking_lease

    leases: list[ranking_lease.Lease] = []

    def add(_register, lease):
        is_free = lease.number not in {taken.number for taken in leases}
        leases.extend([lease] * is_free)
        return is_free

    monkeypatch.setattr(ranking_lease, "newest_lease", lambda _: leases[-1] if leases else None)
    monkeypatch.setattr(ranking_lease, "previous_run", lambda dag_id, day, state: None)
    monkeypatch.setattr(ranking_lease, "add_lease", add)
    monkeypatch.setattr(ranking_lease, "first_number", lambda: 1)
    return leases


@pytest.fixture
def job_task(assets, register, tmp_path, monkeypatch):
    """A task that runs the program given: returns the task, and what executes it."""

    import ranking_jobs

    def run(program: str, *, instance=None, **settings):
        package = tmp_path / "program"
        package.mkdir(exist_ok=True)
        (package / "__main__.py").write_text("import json, os, sys, time\n" + program)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        # Two programs of one second and one size would share what was compiled of the first.
        monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        task = ranking_jobs.JobOperator(
            task_id="ingest",
            data_set=data_set(),
            package="program",
            size="small",
            command="go",
            arguments=["--a=1", ""],
            link="Reports",
            **settings,
        )
        ti = instance or TaskInstance()
        context = {"ti": ti, "dag_run": run_of("1998-04-21"), "params": {}}
        # Airflow's guard against calling execute outside a task is not what is tested here.
        return task, lambda: task.execute.__wrapped__(task, context)

    return run
