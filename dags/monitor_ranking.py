"""# Monitor ranking: was the right thing served, and what follows from that?

**What.** Each hour, a quarter past. `parity_hour` and `parity_day` compare what the endpoint scored
from, as its log of answers says, with the as-of join replayed over the lake. `quality` judges
what was served by the labels that came, `drift` compares it with what was learnt. `policy` reads
all of them and does what `infra/policy.yaml` says: an alert, a roll-back, a training that
`ask_training` asks for, or nothing. `overview` writes the page of all that. Tasks of a day take the
oldest day of the last week that waits; none takes the lease or delays a run. Without
`RANKING_LOG_FOLDER` there is no log of answers: then drift is that of the examples.

**Normal.** Green, or skipped: no answers in the hour, or no day that waits. `ask_training` is
skipped but for the days on which the policy asks. A share of `late_push` of some per cent is the
time that a push or a build takes.

**Look.** The tab *Ranking* of each DAG. The link on each task: its own page.

**Do.** Alerts name their page of `infra/runbooks/`: `parity-broken` (candidates are held
meanwhile), `quality-broken`, `drift`, `data-at-fault`, `rolled-back`. To look at a past hour or day
again, trigger a run with its `day`, and its `hour` or none.
"""

import datetime
import functools
from collections.abc import Mapping

import ranking_assets as assets
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, CronDataIntervalTimetable, Param, TriggerRule
from airflow.sdk.exceptions import AirflowSkipException
from airflow.sdk.types import DagRunProtocol, OutletEventAccessorsProtocol
from airflow.sdk.types import RuntimeTaskInstanceProtocol as TaskInstance
from ranking_dags import day_param, ranking_dag
from ranking_jobs import job

DUE = "{{ due_flag(params) }}"


def hour_flag(run: DagRunProtocol, params: Mapping[str, object]) -> str:
    """The hour of a run: its param, else that of its interval's start; empty: the whole day."""
    if params.get("hour") is not None:
        return f"--hour={params['hour']}"
    if params.get("day") or not run.data_interval_start:
        return ""
    return f"--hour={run.data_interval_start.hour}"


def due_flag(params: Mapping[str, object]) -> str:
    """The oldest day that waits, where nobody names a day."""
    return "" if params.get("day") else "--due"


def add_tasks(data_set: assets.DataSet) -> None:
    """The jobs of an hour, and their order."""
    look = functools.partial(
        job, data_set, takes_lease=False,
        execution_timeout=datetime.timedelta(minutes=30),
    )  # fmt: skip
    log, found = f"--log={assets.LOG}" if assets.LOG else "", []
    if assets.LOG:
        hour = "{{ hour_flag(dag_run, params) }}"
        for task, flag in (("hour", hour), ("day", "--due")):
            found.append(look(f"parity_{task}", "features", "parity", log, flag,
                              folders="lake docs", link="Parity", size="small"))  # fmt: skip
        found.append(look("quality", "training", "quality", log, DUE, link="Quality",
                          folders="lake artifacts reports"))  # fmt: skip
    found.append(look("drift", "training", "drift", log, DUE, link="Drift",
                      folders="lake artifacts tracking reports"))  # fmt: skip
    policy = look(
        "policy", "serving", "policy", *data_set.target, DUE, link="Decisions",
        folders="lake artifacts tracking reports", trigger_rule=TriggerRule.ALL_DONE,
    )  # fmt: skip
    overview = look(
        "overview", "training", "overview", link="Overview",
        folders="lake checkpoints artifacts tracking reports", trigger_rule=TriggerRule.ALL_DONE,
    )  # fmt: skip
    ask_training = PythonOperator(
        task_id="ask_training", python_callable=ask, outlets=[data_set.asset("backfilled-examples")]
    )
    found >> policy >> [ask_training, overview]


def ask(ti: TaskInstance, outlet_events: OutletEventAccessorsProtocol) -> None:
    """Let `retrain_ranking` run once for the days that the policy names.

    Raises:
        AirflowSkipException: It asks for no training.
    """
    decided = ti.xcom_pull(task_ids="policy") or {}
    if not decided.get("retrain_days"):
        raise AirflowSkipException("the policy asks for no training")
    for outlet in ti.task.outlets:
        outlet_events[outlet].add_partitions(decided["retrain_days"])


def monitor_ranking(data_set: assets.DataSet) -> DAG:
    """The DAG of one data set."""
    with ranking_dag(
        data_set,
        "monitor_ranking",
        doc=__doc__,
        description="Hourly: what was served, against what should have been, and what follows",
        # Answers of an hour are in the log some minutes after it.
        schedule=CronDataIntervalTimetable("15 * * * *", timezone="UTC"),
        macros={"hour_flag": hour_flag, "due_flag": due_flag},
        params={
            "day": day_param(),
            "hour": Param(None, type=["null", "integer"], minimum=0, maximum=23),
        },
    ) as dag:
        add_tasks(data_set)
    return dag


dags = [monitor_ranking(data_set) for data_set in assets.DATA_SETS]
