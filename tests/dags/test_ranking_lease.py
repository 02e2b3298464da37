"""The run lease: one run at a time writes a data set."""

import datetime
import os
import subprocess
import sys

import pytest
from ranking_launchers import lease as leases
from support.airflow_dags import DAGS

FIRST = leases.Run(dag_id="daily_ranking_shop", run_id="backfill__1998-04-21")
REGISTER = "data_set_lease_shop"
SECOND = leases.Run(dag_id="daily_ranking_shop", run_id="manual__1998-04-20")


def _take(run, *, active=(), earlier=None) -> int:
    return leases.take(
        run, REGISTER, is_active=lambda other: other in active, earlier=lambda: earlier
    )


def test_two_runs_cannot_interleave(register) -> None:
    """While the holder runs, another run waits, again and again; the holder's own jobs do not."""
    assert _take(FIRST) == 1
    for _ in range(2):
        with pytest.raises(leases.LeaseHeldError, match="21 holds lease 1 and is not over"):
            _take(SECOND, active={FIRST})
    assert _take(FIRST, active={FIRST, SECOND}) == 1
    assert register == [leases.Lease(1, FIRST)]


def test_a_run_that_is_over_is_taken_over_under_a_higher_number(register) -> None:
    """A crashed run must not block the days after it, and cleared later it gets a new number."""
    _take(FIRST)
    assert _take(SECOND, active=set()) == 2
    assert _take(FIRST, active=set()) == 3


def test_an_earlier_day_goes_first_but_never_before_the_holder(register) -> None:
    """Days in order; a holder that waited for an earlier day would wait for ever."""
    with pytest.raises(leases.LeaseHeldError, match="manual__1998-04-20 of an earlier day"):
        _take(FIRST, earlier=SECOND.run_id)
    assert register == []
    _take(FIRST)
    assert _take(FIRST, earlier=SECOND.run_id) == 1


def test_a_number_that_another_run_got_meanwhile_is_waited_for(register) -> None:
    """Between the look at the newest lease and the entry of the next."""
    earlier = lambda: leases.add_lease(REGISTER, leases.Lease(1, SECOND)) and None  # noqa: E731
    with pytest.raises(leases.LeaseHeldError, match="another run took lease 1 at the same moment"):
        leases.take(FIRST, REGISTER, is_active=lambda _: True, earlier=earlier)


def test_two_tasks_of_a_run_that_ask_at_the_same_moment_have_the_same_lease(register) -> None:
    """The first jobs of a day start together; none of them waits for itself."""
    earlier = lambda: leases.add_lease(REGISTER, leases.Lease(1, FIRST)) and None  # noqa: E731
    assert leases.take(FIRST, REGISTER, is_active=lambda _: True, earlier=earlier) == 1


def test_an_empty_database_goes_on_above_an_earlier_one(monkeypatch) -> None:
    """Over the same lake: a database that was lost, or one of another Airflow."""
    now = datetime.datetime(2026, 11, 29, 12, 0, 30, tzinfo=datetime.UTC)
    monkeypatch.setattr(leases.timezone, "utcnow", lambda: now)
    assert leases.first_number() == 14_154_480


_REAL = """
import os, sys, time
from pathlib import Path
from types import SimpleNamespace
import airflow.settings
from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
sys.path.insert(0, sys.argv[1])
if sys.argv[2] == "make":
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.utils.db import initdb
    initdb()
    DagBundlesManager().sync_bundles_to_db()
    folder = Path(sys.argv[1])
    file = str(folder / "data_set_lease.py")
    bag = BundleDagBag(file, bundle_path=folder, bundle_name="dags-folder")
    assert not bag.import_errors, bag.import_errors
    sync_bag_to_db(bag, "dags-folder", None)
    sys.exit()
from ranking_launchers import lease as leases
from airflow.sdk.api.client import Client
from airflow.sdk.execution_time import comms, supervisor, task_runner
client = supervisor.InProcessTestSupervisor._api_client()
def send(msg):
    if isinstance(msg, comms.TriggerDagRun):
        return client.dag_runs.trigger(msg.dag_id, msg.run_id, msg.conf, msg.logical_date)
    found = client.dag_runs.get_previous(msg.dag_id, msg.logical_date)
    return found if hasattr(found, "dag_run") else comms.PreviousDagRunResult(dag_run=found)
task_runner.SUPERVISOR_COMMS = SimpleNamespace(send=send)
REGISTER = "data_set_lease_movielens_100k"
leases.newest_lease(REGISTER)  # everything is loaded
leases.first_number = lambda: 1  # a minute may end while they ask
print("ready", flush=True)
sys.stdin.readline()
run = leases.Run(dag_id="daily_ranking_shop", run_id=sys.argv[2])
try:
    asked = {"is_active": lambda other: True, "earlier": lambda: time.sleep(0.5)}
    number = leases.take(run, REGISTER, **asked)
    assert leases.newest_lease(REGISTER) == (number, run)
    print("lease", number)
except leases.LeaseHeldError as held:
    print(held)
"""
"""Asks Airflow's execution API, in its own process, on one database; without a scheduler."""


@pytest.mark.process
def test_airflows_database_has_each_number_once(tmp_path) -> None:
    """Of runs that ask at the same moment one gets the lease; the others learn who was first."""
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    command = [sys.executable, "-W", "ignore", "-c", _REAL, str(DAGS)]
    made = subprocess.run([*command, "make"], env=environment, capture_output=True, check=False)
    assert made.returncode == 0, made.stderr.decode()[-3000:]
    asking = [
        subprocess.Popen(
            [*command, f"run-{n}"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for n in range(2)
    ]
    for process in asking:
        while (line := process.stdout.readline()) != "ready\n":
            assert line, "it ended before it asked"
    for process in asking:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = sorted(process.communicate()[0].splitlines()[-1] for process in asking)
    assert answers == ["another run took lease 1 at the same moment", "lease 1"]
