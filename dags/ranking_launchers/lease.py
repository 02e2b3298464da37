"""The run lease: which DAG run may write a data set, so that two runs never interleave.

A backfill, a schedule and a person can each start a run for the same data set, and Airflow counts
their active runs apart. So the first job of a run takes the data set's lease, and the run keeps it
until it ends: whoever comes next asks Airflow for the holder's state, and takes over only from a
run that is over. A run that crashed is over too, so it blocks nobody.

Days go in order: a run does not take the lease while an earlier day is running. A run that
already holds it never waits for an earlier one, so two runs cannot wait for each other.

Each lease is a run of the data set's DAG ``data_set_lease_…``, a row in Airflow's database that
names its holder. Leases are numbered, and the database has each number once: of two runs that ask
at the same moment, one gets the next number. The number goes with each job, and the lake refuses a
commit under a number lower than one that has written (``features/lake/commit.py``): a job that
outlived its run publishes nothing once the next holder has.
"""

import dataclasses
import datetime
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple, cast

import ranking_assets as assets
from airflow.sdk import Context, timezone
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowRuntimeError,
    ErrorType,
)
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import (
    ErrorResponse,
    GetPreviousDagRun,
    PreviousDagRunResult,
    TriggerDagRun,
)
from airflow.sdk.types import DagRunProtocol
from ranking_assets import DataSet

LEASE = "data_set_lease"
"""Kind of the DAG whose runs are a data set's leases."""
_PREFIX = "lease__"
_ZERO = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
"""A lease's logical date is its number of seconds later: that is how Airflow finds the newest."""
_END = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
"""After all leases, and before a run that a person triggers."""
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """A DAG run by its two names."""

    dag_id: str
    run_id: str

    def __str__(self) -> str:
        """For messages."""
        return f"{self.dag_id}/{self.run_id}"


class Lease(NamedTuple):
    """A lease: the higher its number, the later it was taken."""

    number: int
    holder: Run


class LeaseHeldError(Exception):
    """Another run goes first; the message says which and why."""


class WaitedTooLongError(AirflowFailException):
    """The lease was not to be had in time; trying again would wait as long again."""

    runbook = "lease-waits"
    """For the task's alert."""


def hold(context: Context, data_set: DataSet) -> int:
    """Hold the data set's lease, or give the worker back and ask again a little later.

    Returns:
        The lease's number.
    """
    ti = context["ti"]
    try:
        return take(
            Run(dag_id=ti.dag_id, run_id=ti.run_id),
            data_set.dag_id(LEASE),
            is_active=lambda other: _is_active(context, other),
            earlier=lambda: _earlier_run(context),
        )
    except LeaseHeldError as held:
        now = timezone.utcnow()
        waited = (now - (ti.get_first_reschedule_date(context) or now)).total_seconds()
        if waited > assets.LEASE_TIMEOUT_SECONDS:
            raise WaitedTooLongError(
                f"waited {waited:.0f} s for the run lease; limit {assets.LEASE_TIMEOUT_SECONDS} s; "
                f"{held}"
            ) from held
        log.info("Waiting for the run lease: %s", held)
        again = now + datetime.timedelta(seconds=assets.LEASE_POLL_SECONDS)
        raise AirflowRescheduleException(again) from held


def take(
    run: Run, register: str, *, is_active: Callable[[Run], bool], earlier: Callable[[], str | None]
) -> int:
    """Make ``run`` the holder of the newest lease; returns its number, or raises LeaseHeldError.

    Args:
        run: Who asks; a holder keeps what it has.
        register: The DAG whose runs are the leases.
        is_active: Whether Airflow still runs, or will run, another run.
        earlier: Name of a run of an earlier day that must go first, if there is one.
    """
    newest = newest_lease(register)
    if newest is not None:
        if newest.holder == run:
            return newest.number
        if is_active(newest.holder):
            raise LeaseHeldError(f"run {newest.holder} holds lease {newest.number} and is not over")
    if (first := earlier()) is not None:
        raise LeaseHeldError(f"run {first} of an earlier day goes first")
    lease = Lease(newest.number + 1 if newest else first_number(), run)
    if not add_lease(register, lease):
        taken = newest_lease(register)
        if taken is not None and taken.holder == run:
            return taken.number  # by another task of this run
        raise LeaseHeldError(f"another run took lease {lease.number} at the same moment")
    return lease.number


def first_number() -> int:
    """The number of a lease in a database that has none: the minutes since ``_ZERO``.

    It is higher than those of an earlier database over the same lake, whose log has the highest.
    """
    return int((timezone.utcnow() - _ZERO) / datetime.timedelta(minutes=1))


def newest_lease(register: str) -> Lease | None:
    """The lease that was taken last; None where there was none."""
    question = GetPreviousDagRun(dag_id=register, logical_date=_END)
    answer = cast("PreviousDagRunResult", task_runner.SUPERVISOR_COMMS.send(question))
    if answer.dag_run is None:
        return None
    number = answer.dag_run.run_id.removeprefix(_PREFIX)
    return Lease(int(number), Run(**answer.dag_run.conf or {}))


def add_lease(register: str, lease: Lease) -> bool:
    """Enter a lease in Airflow's database; whether its number was free."""
    entry = TriggerDagRun(
        dag_id=register,
        run_id=f"{_PREFIX}{lease.number}",
        logical_date=_ZERO + datetime.timedelta(seconds=lease.number),
        conf=dataclasses.asdict(lease.holder),
    )
    answer = task_runner.SUPERVISOR_COMMS.send(entry)
    is_taken = isinstance(answer, ErrorResponse) and answer.error == ErrorType.DAGRUN_ALREADY_EXISTS
    return not is_taken


def _is_active(context: Context, run: Run) -> bool:
    try:
        state = context["ti"].get_dagrun_state(dag_id=run.dag_id, run_id=run.run_id)
    except AirflowRuntimeError as error:
        if (error.error.detail or {}).get("status_code") != HTTPStatus.NOT_FOUND:
            raise  # Airflow could not say: then the lease must not be taken over
        log.info("Run %s is gone from Airflow's database", run)
        return False
    return state in {"running", "queued"}


def _earlier_run(context: Context) -> str | None:
    """A run of an earlier day that is under way.

    Of the runs that are only queued, those of a backfill count: they start as soon as Airflow gets
    to them. Others may be queued because this very run is the one that may be active.
    """
    dag_id, day = context["ti"].dag_id, assets.run_day(context["dag_run"], context["params"])
    if day is None:
        return None
    if (running := previous_run(dag_id, day, "running")) is not None:
        return str(running.run_id)
    queued = previous_run(dag_id, day, "queued")
    if queued is not None and queued.run_type == "backfill":
        return str(queued.run_id)
    return None


def previous_run(dag_id: str, day: datetime.date, state: str) -> DagRunProtocol | None:
    """The newest run of a DAG in this state for a day before ``day``."""
    question = GetPreviousDagRun(dag_id=dag_id, logical_date=assets.midnight(day), state=state)
    answer = cast("PreviousDagRunResult", task_runner.SUPERVISOR_COMMS.send(question))
    return cast("DagRunProtocol | None", answer.dag_run)
