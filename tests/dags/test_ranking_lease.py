"""The run lease: one run at a time writes a data set."""

import subprocess
import sys

import pytest
import ranking_lease as leases

FIRST = leases.Run(dag_id="daily_ranking", run_id="backfill__1998-04-21")
SECOND = leases.Run(dag_id="daily_ranking", run_id="manual__1998-04-20")


def _take(path, run, *, active=(), earlier=None) -> None:
    leases.take(path, run=run, is_active=lambda other: other in active, earlier=lambda: earlier)


def test_two_runs_cannot_interleave(tmp_path) -> None:
    """While the holder runs, another run waits, again and again; the holder's own jobs do not."""
    lease = tmp_path / "synthetic.json"
    _take(lease, FIRST)
    for _ in range(2):
        with pytest.raises(leases.LeaseHeldError, match=r"holds synthetic\.json and is not over"):
            _take(lease, SECOND, active={FIRST})
    _take(lease, FIRST, active={FIRST, SECOND})
    assert leases.holder_of(lease) == FIRST


def test_a_run_that_is_over_is_taken_over(tmp_path) -> None:
    """A crashed run must not block the days after it."""
    lease = tmp_path / "synthetic.json"
    _take(lease, FIRST)
    _take(lease, SECOND, active=set())
    assert leases.holder_of(lease) == SECOND


@pytest.mark.process
def test_a_living_process_of_a_run_that_is_over_keeps_the_lease(tmp_path) -> None:
    """Airflow may think that a run is over while its job still writes."""
    lease = tmp_path / "synthetic.json"
    _take(lease, FIRST)
    with leases.process_lock(lease) as lock:
        job = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock,)
        )
    with pytest.raises(leases.LeaseHeldError, match="a process of it is still alive"):
        _take(lease, SECOND)
    job.communicate(b"\n")
    _take(lease, SECOND)
    assert leases.holder_of(lease) == SECOND


def test_an_earlier_day_goes_first_but_never_before_the_holder(tmp_path) -> None:
    """Days in order; a holder that waited for an earlier day would wait for ever."""
    lease = tmp_path / "synthetic.json"
    with pytest.raises(leases.LeaseHeldError, match="manual__1998-04-20 of an earlier day"):
        _take(lease, FIRST, earlier=SECOND.run_id)
    assert leases.holder_of(lease) is None
    _take(lease, FIRST)
    _take(lease, FIRST, earlier=SECOND.run_id)
    assert leases.holder_of(lease) == FIRST


@pytest.mark.process
def test_only_one_of_many_gets_a_free_lease(tmp_path) -> None:
    """Processes that ask at once: between reading and writing, the lock keeps the others out."""
    program = (
        "import sys, time; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
        "import ranking_lease as l;"
        "run = l.Run(dag_id='d', run_id=sys.argv[3]);"
        "ask = lambda: l.take(Path(sys.argv[2]), run=run, is_active=lambda o: True,"
        " earlier=lambda: time.sleep(0.5));"
        "ask(); print('mine')"
    )
    folder = leases.__file__.rpartition("/")[0]
    command = [sys.executable, "-c", program, folder, str(tmp_path / "l.json")]
    asking = [
        subprocess.Popen([*command, str(n)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for n in range(6)
    ]
    answers = [process.communicate()[0] for process in asking]
    assert sorted(answers) == [b""] * 5 + [b"mine\n"]
