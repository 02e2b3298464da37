"""# Bootstrap ranking: the days before the first daily one.

**What.** Started by hand, once for a log that is there already. `history` makes examples of the
days from `first_day` to `last_day` by the jobs of `daily_ranking_…`, each over `days_per_chunk`
days at once, in order; the newest feature rows go online; the first ranker is trained on them,
judged on the newest `holdout_days`, and promoted: the first one needs to beat the base rate. Then
set `RANKING_FIRST_DAY` to the day after `last_day`, and unpause `daily_ranking_…`. The demo runs
the same jobs over one range, each as a process of its own, and the same training and gate.

**Normal.** Green once. `history` leaves out what is there, of this schema and not older than what
it was made from, so a run that was killed goes on where it stopped: clear its task. A day whose
checks fail stops it, with the days before it done. `promote` is skipped where the gate said *hold*
or *refuse*, or where a champion is as new.

**Look.** The log of `history` says which chunk it is at, and `days_made` in its XCom `return_value`
what it made. The link on `evaluate`: the gate's report.

**Do.** Read the alert in the task's log (`ALERT {…}`), open its page of `infra/runbooks/`, clear
the task when the cause is gone. Out of memory in `history`: a run with fewer `days_per_chunk`.
`begins_here`: the lake is to begin with `first_day` although the log is older.
"""

import datetime
import functools

import ranking_assets as assets
import ranking_jobs
from airflow.sdk import DAG, Param, chain
from ranking_dags import last_day, promotion_params, ranking_dag
from ranking_jobs import HOLDOUT

SHORT, LONG = datetime.timedelta(minutes=20), datetime.timedelta(hours=6)
SPAN = ("--date={{ params.first_day }}", "--to={{ last_day(params) }}")
LEARNT = "--date={{ last_learnt_day(params) }}"
BEGINS = "{% if params.begins_here %}--first-day{% endif %}"


def last_learnt_day(data_set: assets.DataSet, params: dict[str, str]) -> str:
    """The newest day whose labels are final when the last day is over; raises as ``last_day``."""
    return str(data_set.learnt_day(datetime.date.fromisoformat(last_day(data_set, params))))


def add_tasks(data_set: assets.DataSet) -> None:
    """The jobs of the range, and their order."""
    job = functools.partial(ranking_jobs.job, data_set, is_dated=False)
    asset = data_set.asset
    history = job(
        "history", "features", "history", *SPAN, "--days-per-chunk={{ params.days_per_chunk }}",
        BEGINS, folders="landing lake docs", execution_timeout=LONG, outlets=[asset("examples")],
    )  # fmt: skip
    apply = job("apply", "features", "apply", folders="lake store", size="small")
    materialize = job(
        "materialize", "features", "materialize", *SPAN, folders="lake store",
        outlets=[asset("online-features")], execution_timeout=LONG,
    )  # fmt: skip
    train = job(
        "train", "training", "train", LEARNT, HOLDOUT, folders="lake checkpoints tracking reports",
        link="Training curve", inlets=[asset("examples")], outlets=[asset("checkpoint")],
        execution_timeout=LONG, size="train",
    )  # fmt: skip
    export = job(
        "export", "training", "export", LEARNT, folders="lake checkpoints artifacts tracking",
        outlets=[asset("artifact")], execution_timeout=SHORT,
    )  # fmt: skip
    evaluate = job(
        "evaluate", "training", "evaluate", LEARNT, "--first", link="Gate report",
        folders="lake checkpoints artifacts tracking reports", outlets=[asset("gate-decision")],
    )  # fmt: skip
    promote = job(
        "promote", "serving", "promote", LEARNT, *data_set.target, folders="tracking reports",
        link="Gate report", outlets=[asset("champion")], execution_timeout=SHORT,
    )  # fmt: skip
    chain(history, [materialize, train])
    chain(apply, materialize, promote)
    chain(train, export, evaluate, promote)


def bootstrap_ranking(data_set: assets.DataSet) -> DAG:
    """The DAG of one data set."""
    log, before = data_set.log, data_set.first_day - datetime.timedelta(days=1)
    newest = str(before) if before >= log.first_day else None
    with ranking_dag(
        data_set,
        "bootstrap_ranking",
        doc=__doc__,
        description="By hand: the days before the first daily one, and the first ranker",
        macros={
            "last_day": functools.partial(last_day, data_set),
            "last_learnt_day": functools.partial(last_learnt_day, data_set),
        },
        params={
            "first_day": Param(str(log.first_day), type="string", format="date"),
            "last_day": Param(newest, type=["null", "string"], format="date"),
            "days_per_chunk": Param(28, type="integer", minimum=1, description="Days at once"),
            "begins_here": Param(False, type="boolean", description="No days before are needed"),
            "holdout_days": promotion_params(data_set)["holdout_days"],
        },
    ) as dag:
        add_tasks(data_set)
    return dag


dags = [bootstrap_ranking(data_set) for data_set in assets.DATA_SETS]
