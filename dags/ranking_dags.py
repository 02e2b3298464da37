"""What all DAGs of a data set have in common: their day, their params, their defaults."""

import datetime
import functools
from collections.abc import Mapping
from typing import TypedDict

import ranking_alerts
import ranking_assets as assets
from airflow.sdk import DAG, CronDataIntervalTimetable, Param
from airflow.sdk.definitions.deadline import DeadlineAlert
from airflow.timetables.base import Timetable
from ranking_assets import DataSet


def day_param() -> Param:
    """The day of a run that a person starts."""
    text = "The day for which a run by hand works; a run of the schedule has its own"
    return Param(None, type=["null", "string"], format="date", description=text)


def promotion_params(data_set: DataSet) -> dict[str, Param]:
    """Params of a DAG that may end with another champion."""
    return {
        "day": day_param(),
        "holdout_days": Param(data_set.log.holdout_days, type="integer", minimum=1, maximum=60),
        "anchor_days": Param(assets.ANCHOR_DAYS, type="integer", minimum=0),
        "min_requests": Param(assets.MIN_REQUESTS, type="integer", minimum=100),
    }


class DailyStart(TypedDict, total=False):
    """Arguments of a DAG that works for one day."""

    schedule: Timetable | None
    catchup: bool
    deadline: list[DeadlineAlert]


def daily_start(data_set: DataSet) -> DailyStart:
    """What starts the runs of a DAG that works for one day: the schedule, or a call of the API.

    Who calls the API need not give the logical date from which a deadline counts.
    """
    if assets.DAILY_START == "api":
        return {"schedule": None}
    return {
        "schedule": CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
        "catchup": True,  # later days build on one that was missed
        "deadline": ranking_alerts.deadlines(data_set),
    }


def last_day(data_set: assets.DataSet, params: dict[str, str]) -> str:
    """The last day of a range that a person asks for.

    Raises:
        ValueError: It is not named, before the first day, or not one of the log.
    """
    first = datetime.date.fromisoformat(params["first_day"])
    last = datetime.date.fromisoformat(params["last_day"]) if params["last_day"] else None
    log = data_set.log
    if last is None or not log.first_day <= first <= last <= (log.last_day or last):
        raise ValueError(
            f"params.first_day {first}, last_day {last}: a range of days from {log.first_day} to "
            f"{log.last_day or 'today'}, the days of {data_set.name}"
        )
    return str(last)


def ranking_dag(
    data_set: DataSet,
    kind: str,
    *,
    doc: str | None,
    schedule: Timetable | None = None,
    macros: Mapping[str, object] | None = None,
    **rest: object,
) -> DAG:
    """The DAG of a kind for a data set, with what all DAGs have in common.

    Args:
        data_set: Its name ends the DAG's, its days bound the schedule.
        kind: Such as ``daily_ranking``.
        doc: What the person on call reads: the docstring of the file.
        schedule: When it runs; None: when somebody starts it.
        macros: What its templates may call besides ``day``.
        **rest: Passed to the DAG.
    """
    # What starts for another reason than the clock has no last day.
    ends = data_set.last_day if isinstance(schedule, CronDataIntervalTimetable) else None
    defaults: dict[str, object] = {
        "owner": "ranking",
        "retries": 2,
        "retry_delay": datetime.timedelta(seconds=assets.RETRY_SECONDS),
        "execution_timeout": datetime.timedelta(hours=1),
        "on_failure_callback": functools.partial(ranking_alerts.alert, data_set=data_set),
        "pool": data_set.pool,
    }
    return DAG(
        dag_id=data_set.dag_id(kind),
        doc_md=doc,
        schedule=schedule,
        start_date=assets.midnight(data_set.first_day),
        end_date=assets.midnight(ends) if ends else None,
        max_active_runs=1,
        dagrun_timeout=datetime.timedelta(hours=20),
        default_args=defaults,
        user_defined_macros={
            "day": data_set.day_of,
            "learnt_day": data_set.learnt_day_of,
            **(macros or {}),
        },
        tags=["ranking", data_set.name],
        **{"catchup": False, **rest},
    )
