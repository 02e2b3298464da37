"""# Retrain ranking: one training after a backfill, however many days that has made.

**What.** Airflow starts it when `backfill_ranking_…` has made days of examples again, or when
`monitor_ranking_…` asks for a training: all events have one partition here, so one run is for all.
It goes on from the newest checkpoint that has learnt none of these days, learns them and all days
after them, and is judged like every candidate; when the gate says so it answers some of the users,
then all.

**Normal.** Green. `canary` and `promote` are *skipped* where the gate kept the champion, and where
the champion is of the same day. Then the next run of `daily_ranking_…` goes on from what was
trained here, and is judged in its place. One that trains meanwhile goes on from the old rows and
raises the alert `rebuilt-not-retrained`.

**Look.** The extra link on `evaluate`: the gate's report. `parent` in the XCom `return_value` of
`train`: what it went on from.

**Do.** Unpause it before the backfill: Airflow keeps no events for a paused DAG. Without one,
trigger a run by hand with `day`, the newest day of examples, and `changed_since`, the first day
that was made again. Else read the alert in the task's log (`ALERT {…}`), open its page of
`infra/runbooks/`, clear the task when the cause is gone.
"""

import datetime
import functools
from collections.abc import Mapping, Sequence
from typing import Protocol

import ranking_assets as assets
import ranking_jobs
from airflow.sdk import DAG, FixedKeyMapper, Param, PartitionedAssetTimetable, chain
from ranking_dags import promotion_params, ranking_dag
from ranking_jobs import ANCHOR, HOLDOUT, MIN_REQUESTS

SHORT, LONG = datetime.timedelta(minutes=20), datetime.timedelta(hours=6)
DATE = "--date={{ newest_day(dag_run, params) }}"
CHANGED = "--changed-since={{ changed_since(dag_run, params) }}"


class _Event(Protocol):
    partition_key: str | None


class _Run(Protocol):
    consumed_asset_events: Sequence[_Event]


def days_of(run: _Run, params: Mapping[str, object]) -> list[str]:
    """The days that were made again, oldest first; of a run by hand the first and the last.

    Raises:
        ValueError: A run by hand that does not name both.
    """
    named = [str(params[name]) for name in ("changed_since", "day") if params[name]]
    days = named or sorted({str(event.partition_key) for event in run.consumed_asset_events})
    if not days or len(named) == 1 or days != sorted(days):
        raise ValueError(
            f"params.changed_since {params['changed_since']}, day {params['day']}: a run by hand "
            "needs both, in this order"
        )
    return days


def add_tasks(data_set: assets.DataSet) -> None:
    """Train, judge, and let the winner answer."""
    job = functools.partial(ranking_jobs.job, data_set, is_dated=False)
    asset = data_set.asset
    train = job(
        "train", "training", "train", DATE, CHANGED, HOLDOUT, link="Training curve", size="train",
        folders="lake checkpoints tracking reports", inlets=[asset("backfilled-examples")],
        outlets=[asset("checkpoint")], execution_timeout=LONG,
    )  # fmt: skip
    export = job(
        "export", "training", "export", DATE, folders="lake checkpoints artifacts tracking",
        outlets=[asset("artifact")], execution_timeout=SHORT,
    )  # fmt: skip
    evaluate = job(
        "evaluate", "training", "evaluate", DATE, ANCHOR, link="Gate report",
        folders="lake checkpoints artifacts tracking reports", outlets=[asset("gate-decision")],
    )  # fmt: skip
    canary = job(
        "canary", "serving", "canary", DATE, *data_set.target, data_set.storage, assets.LATENCY,
        MIN_REQUESTS, retries=1, folders="tracking reports", execution_timeout=LONG,
    )  # fmt: skip
    promote = job(
        "promote", "serving", "promote", DATE, *data_set.target, folders="tracking reports",
        link="Gate report", outlets=[asset("champion")], execution_timeout=SHORT,
    )  # fmt: skip
    chain(train, export, evaluate, canary, promote)


def retrain_ranking(data_set: assets.DataSet) -> DAG:
    """The DAG of one data set."""
    with ranking_dag(
        data_set,
        "retrain_ranking",
        doc=__doc__,
        description="After a backfill: one training on all days that it has made again",
        schedule=PartitionedAssetTimetable(
            assets=data_set.asset("backfilled-examples"),
            default_partition_mapper=FixedKeyMapper("backfill"),
        ),
        macros={
            "newest_day": lambda run, params: days_of(run, params)[-1],
            "changed_since": lambda run, params: days_of(run, params)[0],
        },
        params={
            **promotion_params(data_set),
            "changed_since": Param(None, type=["null", "string"], format="date"),
        },
    ) as dag:
        add_tasks(data_set)
    return dag


dags = [retrain_ranking(data_set) for data_set in assets.DATA_SETS]
