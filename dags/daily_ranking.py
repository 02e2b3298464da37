"""# Daily ranking: one day of the log, from its landing to the endpoint.

**What.** Each run works for one day, its data interval's start (`1998-04-20`). It takes the day's
impressions into the lake and builds features, publishes both when they are checked, brings users
and items online, makes examples, trains a candidate, and judges it and the champion on held-out
days. When the gate says so, it answers 5, 25, 50, 95 % of the users, checked, and is promoted.

**Normal.** Green, day after day; missed days are caught up. *Skipped* is normal where the gate kept
the champion (`canary` says why). A skipped `landed`: the day has not landed, and no later day is
built before it. *Waiting for the run lease*: an earlier day, or another run, goes first.

**Look.** Each task's XCom `return_value` is its job's summary; its link opens the job's page.

**Do.** Read the alert in the task's log (`ALERT {…}`; also of a green `evaluate`), open its page of
`infra/runbooks/`, clear the task when the cause is gone. A late run raises the alert of a deadline
(`lake-old`). To run a past day again, clear its run or trigger one: what has changed is made again.
"""

import datetime
import functools

import ranking_assets as assets
import ranking_jobs
from airflow.sdk import DAG, Param, chain
from ranking_dags import daily_start, promotion_params, ranking_dag
from ranking_jobs import AGAIN, ANCHOR, HOLDOUT, MIN_REQUESTS, validation
from ranking_landing.sensor import LandedSensor

RECIPE = "{% if params.recipe %}--recipe={{ params.recipe }}{% endif %}"
AVAILABLE_AT = "{% if params.available_at %}--available-at={{ params.available_at }}{% endif %}"
KEEP_DAYS = "--keep-days={{ params.keep_days }}"
SHORT, LONG = datetime.timedelta(minutes=20), datetime.timedelta(hours=6)


def add_tasks(data_set: assets.DataSet) -> None:
    """The jobs of a day, and their order."""
    job, asset = functools.partial(ranking_jobs.job, data_set), data_set.asset
    landed = LandedSensor(
        data_set=data_set, task_id="landed", outlets=[asset("landed-impressions")],
        timeout=assets.LANDING_TIMEOUT_SECONDS, poke_interval=assets.LANDING_POLL_SECONDS,
    )  # fmt: skip
    apply = job("apply", "features", "apply", folders="lake store", is_dated=False, size="small")
    ingest = job("ingest", "features", "ingest", AVAILABLE_AT, AGAIN, folders="landing lake")
    build = job("build_features", "features", "build", AVAILABLE_AT, folders="landing lake",
                inlets=[asset("impressions")])  # fmt: skip
    materialize = job(
        "materialize", "features", "materialize", folders="lake store",
        inlets=[asset("features")], outlets=[asset("online-features")],
    )  # fmt: skip
    examples = job(
        "examples", "features", "examples", folders="lake",
        inlets=[asset("impressions"), asset("features")], outlets=[asset("examples")],
    )  # fmt: skip
    train = job(
        "train", "training", "train", HOLDOUT, RECIPE, folders="lake checkpoints tracking reports",
        link="Training curve", inlets=[asset("examples")], outlets=[asset("checkpoint")],
        execution_timeout=LONG, size="train",
    )  # fmt: skip
    export = job(
        "export", "training", "export", folders="lake checkpoints artifacts tracking",
        inlets=[asset("checkpoint")], outlets=[asset("artifact")], execution_timeout=SHORT,
    )  # fmt: skip
    evaluate = job(
        "evaluate", "training", "evaluate", ANCHOR, link="Gate report", inlets=[asset("artifact")],
        folders="lake checkpoints artifacts tracking reports", outlets=[asset("gate-decision")],
    )  # fmt: skip
    canary = job(
        "canary", "serving", "canary", *data_set.target, data_set.storage, assets.LATENCY,
        MIN_REQUESTS, retries=1, folders="tracking reports", execution_timeout=LONG,
        inlets=[asset("gate-decision"), asset("online-features")],
    )  # fmt: skip
    promote = job(
        "promote", "serving", "promote", *data_set.target, folders="tracking reports",
        link="Gate report", outlets=[asset("champion")], execution_timeout=SHORT)  # fmt: skip
    prune_models = job(
        "prune_models", "training", "prune", "--keep={{ params.keep_versions }}", ANCHOR,
        is_dated=False, folders="lake checkpoints artifacts tracking", execution_timeout=SHORT,
    )  # fmt: skip

    checked, published = (validation(data_set, table) for table in ("impressions", "features"))
    chain(landed, ingest, checked, build, published, [materialize, examples])
    landed >> apply >> materialize
    immature = job(
        "train_immature", "training", "train", HOLDOUT, "--immature", link="Training curve",
        folders="lake checkpoints tracking reports", execution_timeout=LONG, size="train",
    ) if data_set.log.learns_immature else None  # fmt: skip
    chain(examples, train, *filter(None, [immature]), export, evaluate)
    [materialize, evaluate] >> canary >> promote
    # Retention is due whatever the gate decides, and spares what is in use: nothing waits for it.
    examples >> job("prune_features", "features", "prune", KEEP_DAYS, folders="lake")
    export >> prune_models
    if assets.LOG:
        landed >> job("prune_log", "serving", "prune-log", f"--log={assets.LOG}", folders="")


def daily_ranking(data_set: assets.DataSet) -> DAG:
    """The DAG of one data set."""
    with ranking_dag(
        data_set,
        "daily_ranking",
        doc=__doc__,
        description="One day of the log: checked, turned into features, learnt from, promoted",
        **daily_start(data_set),
        params={
            **promotion_params(data_set),
            "recipe": Param("", type="string", description="To train; empty: the champion's"),
            "available_at": Param("", type="string", description="When corrected features count"),
            "again": Param(False, type="boolean", description="Though what it was is learnt"),
            "keep_days": Param(assets.KEEP_DAYS, type="integer", minimum=1),
            "keep_versions": Param(assets.KEEP_VERSIONS, type="integer", minimum=2),
        },
    ) as dag:
        add_tasks(data_set)
    return dag


dags = [daily_ranking(data_set) for data_set in assets.DATA_SETS]
