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
`infra/runbooks/`, clear the task when the cause is gone. To run a past day again, clear its run, or
`airflow backfill create --dag-id daily_ranking --from-date D --to-date D --reprocess-behavior
completed`: it rewrites that day's partitions; not the champion, the server, newer online values.
"""

import datetime

import ranking_assets as assets
from airflow.sdk import DAG, CronDataIntervalTimetable, Param, chain
from ranking_jobs import ANCHOR, DAY, DEFAULTS, MACROS, job
from ranking_landing import LandedSensor

HOLDOUT = "--holdout-days={{ params.holdout_days }}"
RECIPE = "{% if params.recipe %}--recipe={{ params.recipe }}{% endif %}"
AVAILABLE_AT = "{% if params.available_at %}--available-at={{ params.available_at }}{% endif %}"
QUALITY = f"{assets.DATASET}/quality/{DAY}"  # a day that is stopped has a page too
KEEP_DAYS = "--keep-days={{ params.keep_days }}"
MIN_REQUESTS = "--min-requests={{ params.min_requests }}"
SHORT, LONG = datetime.timedelta(minutes=20), datetime.timedelta(hours=6)

with DAG(
    dag_id="daily_ranking",
    description="One day of the log: checked, turned into features, learnt from, promoted",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=assets.midnight(assets.FIRST_DAY),
    end_date=assets.midnight(assets.LAST_DAY) if assets.LAST_DAY else None,
    catchup=True,  # later days build on one that was missed
    max_active_runs=1,
    dagrun_timeout=datetime.timedelta(hours=20),
    default_args=DEFAULTS,
    user_defined_macros=MACROS,
    params={
        "recipe": Param("", type="string", description="Training recipe; empty: the champion's"),
        "holdout_days": Param(assets.LOG.holdout_days, type="integer", minimum=1, maximum=60),
        "available_at": Param("", type="string", description="From when corrected features count"),
        "anchor_days": Param(assets.ANCHOR_DAYS, type="integer", minimum=0),
        "min_requests": Param(assets.MIN_REQUESTS, type="integer", minimum=100),
        "keep_days": Param(assets.KEEP_DAYS, type="integer", minimum=1),
        "keep_versions": Param(assets.KEEP_VERSIONS, type="integer", minimum=2),
    },
    tags=["ranking", assets.DATASET],
) as dag:
    landed = LandedSensor(
        task_id="landed", outlets=[assets.LANDED_IMPRESSIONS],
        timeout=assets.LANDING_TIMEOUT_SECONDS, poke_interval=assets.LANDING_POLL_SECONDS,
    )  # fmt: skip
    apply = job("apply", "features", "apply", folders="lake store", is_dated=False, size="small")
    ingest = job("ingest", "features", "ingest", AVAILABLE_AT, folders="landing lake")
    validate_impressions = job(
        "validate_impressions", "features", "validate", "--table=impressions", folders="lake docs",
        link="Data Docs", page=f"{QUALITY}-impressions.html", outlets=[assets.IMPRESSIONS],
        execution_timeout=SHORT,
    )  # fmt: skip
    build = job(
        "build_features", "features", "build", AVAILABLE_AT,
        folders="landing lake", inlets=[assets.IMPRESSIONS],
    )  # fmt: skip
    validate_features = job(
        "validate_features", "features", "validate", "--table=features", folders="lake docs",
        link="Data Docs", page=f"{QUALITY}-features.html", outlets=[assets.FEATURES],
        execution_timeout=SHORT,
    )  # fmt: skip
    materialize = job(
        "materialize", "features", "materialize", folders="lake store",
        inlets=[assets.FEATURES], outlets=[assets.ONLINE_FEATURES],
    )  # fmt: skip
    examples = job(
        "examples", "features", "examples", folders="lake",
        inlets=[assets.IMPRESSIONS, assets.FEATURES], outlets=[assets.EXAMPLES],
    )  # fmt: skip
    train = job(
        "train", "training", "train", HOLDOUT, RECIPE, folders="lake checkpoints tracking reports",
        link="Training curve", inlets=[assets.EXAMPLES], outlets=[assets.CHECKPOINT],
        execution_timeout=LONG, size="train",
    )  # fmt: skip
    export = job(
        "export", "training", "export", folders="lake checkpoints artifacts tracking",
        inlets=[assets.CHECKPOINT], outlets=[assets.ARTIFACT], execution_timeout=SHORT,
    )  # fmt: skip
    evaluate = job(
        "evaluate", "training", "evaluate", ANCHOR, link="Gate report", outlets=[assets.DECISION],
        folders="lake checkpoints artifacts tracking reports", inlets=[assets.ARTIFACT],
    )  # fmt: skip
    canary = job(
        "canary", "serving", "canary", *assets.TARGET, assets.STORAGE, assets.LATENCY, MIN_REQUESTS,
        retries=1, folders="tracking reports", execution_timeout=LONG,
        inlets=[assets.DECISION, assets.ONLINE_FEATURES],
    )  # fmt: skip
    promote = job(
        "promote", "serving", "promote", *assets.TARGET, folders="tracking reports",
        link="Gate report", outlets=[assets.CHAMPION], execution_timeout=SHORT,
    )  # fmt: skip
    prune_features = job("prune_features", "features", "prune", KEEP_DAYS, folders="lake")
    prune_models = job(
        "prune_models", "training", "prune", "--keep={{ params.keep_versions }}", ANCHOR,
        is_dated=False, folders="lake checkpoints artifacts tracking", execution_timeout=SHORT,
    )  # fmt: skip

    chain(landed, ingest, validate_impressions, build, validate_features, [materialize, examples])
    landed >> apply >> materialize
    examples >> train >> export >> evaluate
    [materialize, evaluate] >> canary >> promote
    # Retention is due whatever the gate decides, and spares what is in use: nothing waits for it.
    examples >> prune_features
    export >> prune_models
