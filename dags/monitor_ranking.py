"""# Monitor ranking: was the model given what it should have been?

**What.** Each hour, a quarter past: what the endpoint scored from in the hour before, as its log of
answers says, is compared with the as-of join replayed over the lake (`parity_hour`). An hour judges
daily tables and attributes; users' state within the day is judged with its day, by `parity_day`:
the oldest day of the last week that is built and was not compared yet. It reads what others write,
takes no lease, and delays no run. It exists where `RANKING_LOG_FOLDER` is set.

**Normal.** Green, or skipped: no answers in the hour, or no day that is due. A share of
`late_push` of some per cent is the time that a push or a build takes.

**Look.** The link on the task: differences by feature and cause, with examples. The XCom
`return_value` has the same figures, and the lake's table `parity_results` those of each day.

**Do.** The alert `parity-broken` says that differences have no cause: open
`infra/runbooks/parity-broken.md`. Candidates are held meanwhile. To compare a past hour or day
again, trigger a run with its `day`, and its `hour` or none.
"""

import datetime
from collections.abc import Mapping

import ranking_assets as assets
from airflow.sdk import DAG, CronDataIntervalTimetable, Param
from airflow.sdk.types import DagRunProtocol
from ranking_dags import day_param, ranking_dag
from ranking_jobs import job


def hour_flag(run: DagRunProtocol, params: Mapping[str, object]) -> str:
    """The hour of a run: its param, else that of its interval's start; empty: the whole day."""
    if params.get("hour") is not None:
        return f"--hour={params['hour']}"
    if params.get("day") or not run.data_interval_start:
        return ""
    return f"--hour={run.data_interval_start.hour}"


def monitor_ranking(data_set: assets.DataSet) -> DAG:
    """The DAG of one data set."""
    with ranking_dag(
        data_set,
        "monitor_ranking",
        doc=__doc__,
        description="Hourly: what was served, against what should have been",
        # Answers of an hour are in the log some minutes after it.
        schedule=CronDataIntervalTimetable("15 * * * *", timezone="UTC"),
        macros={"hour_flag": hour_flag},
        params={
            "day": day_param(),
            "hour": Param(None, type=["null", "integer"], minimum=0, maximum=23),
        },
    ) as dag:
        for task, flag in (("hour", "{{ hour_flag(dag_run, params) }}"), ("day", "--due")):
            job(
                data_set, f"parity_{task}", "features", "parity", f"--log={assets.LOG}", flag,
                folders="lake docs", link="Parity", size="small", takes_lease=False,
                execution_timeout=datetime.timedelta(minutes=30),
            )  # fmt: skip
    return dag


dags = [monitor_ranking(data_set) for data_set in assets.DATA_SETS if assets.LOG]
