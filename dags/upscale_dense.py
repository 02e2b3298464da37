"""# Upscale dense: is a larger ranker better?

**What.** Started by hand, for a day that `daily_ranking` has done. A trial in three rankers:

- *grown*: a checkpoint of the source's family, made larger without changing what it computes
  (`grow` proves it: no logit moves by more than 1e-5), then trained on;
- *control*: the same checkpoint, not grown, trained on the same days;
- the *champion*, as it is.

The source's own newest checkpoint has seen every day before the holdout, so an older one of its
family grows: the oldest that leaves at most `budget_days` days up to the holdout. Both trainings
take those days, `passes` times. That is the budget; it is known before anything is trained, and
cuts nothing short. The gate judges on the holdout, which none of the three has seen, and lets
through only what is shown to be better than the champion *and* the control. That one answers 5, 25,
50 and 95 % of the users, each step checked, and is promoted.

**Normal.** Green to `evaluate`, then skipped: *hold* means that growing was not shown to help.
`grow` skipped: the champion has grown on this day already, or no advice says what to grow. After a
promotion `daily_ranking`, its `recipe` left empty, trains the champion's recipe, so it goes on from
the larger ranker.

**Look.** The link on `evaluate`: both comparisons and the family tree. XCom `return_value` of
`grow`: what grew, by how much the logits moved, who was the parent.

**Do.** `grow` failed with *no checkpoint leaves 1 to … days*: the family is too young or pruned;
take a later day or a larger budget. For other failures read the alert in the task's log
(`ALERT {…}`) and open the page of `infra/runbooks/` that it names. Clearing the run repeats it.
"""

import datetime

import ranking_assets as assets
from airflow.sdk import DAG, Param, chain
from ranking_jobs import ANCHOR, DEFAULTS, MACROS, job

HOLDOUT = "--holdout-days={{ params.holdout_days }}"
MIN_REQUESTS = "--min-requests={{ params.min_requests }}"
SHORT = datetime.timedelta(minutes=20)
LONG = datetime.timedelta(hours=6)


def summary(task_id: str, key: str) -> str:
    """Template of a value in an earlier task's summary."""
    return f"{{{{ ti.xcom_pull(task_ids='{task_id}')['{key}'] }}}}"


def train(task_id: str, role: str, name: str, recipe: str) -> object:
    """The task that trains one side of the comparison."""
    return job(
        task_id, "training", "train", HOLDOUT, f"--trial={role}", "--epochs={{ params.passes }}",
        f"--from={summary('grow', name)}", f"--recipe={summary('grow', recipe)}",
        folders="lake checkpoints tracking reports", link="Training curve",
        inlets=[assets.EXAMPLES], execution_timeout=LONG, size="train",
    )  # fmt: skip


def export(task_id: str, trained: str) -> object:
    """The task that makes one of them an artifact."""
    return job(
        task_id, "training", "export", f"--checkpoint={summary(trained, 'name')}", is_dated=False,
        folders="lake checkpoints artifacts tracking", execution_timeout=SHORT,
    )  # fmt: skip


with DAG(
    dag_id="upscale_dense",
    description="By hand: grow a ranker, and promote it where it is shown to be better",
    doc_md=__doc__,
    schedule=None,
    start_date=assets.midnight(assets.FIRST_DAY),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=datetime.timedelta(hours=20),
    default_args=DEFAULTS,
    user_defined_macros=MACROS,
    params={
        "source": Param("champion", type="string", enum=["champion", "challenger"]),
        "target": Param(
            "2", type="string", pattern="^([2-9]|advice|[a-z0-9]+(-[a-z0-9]+)+)$",
            description="2 to 9: so many times the source's size; a recipe's name; or advice: what "
            "the newest scaling study recommends",
        ),
        "budget_days": Param(14, type="integer", minimum=1, description="Most days to train on"),
        "passes": Param(1, type="integer", minimum=1, maximum=20, description="Over those days"),
        "holdout_days": Param(assets.LOG.holdout_days, type="integer", minimum=1, maximum=60),
        "anchor_days": Param(assets.ANCHOR_DAYS, type="integer", minimum=0),
        "min_requests": Param(assets.MIN_REQUESTS, type="integer", minimum=100),
        "max_p95_ratio": Param(
            2.0, type="number", exclusiveMinimum=1, description="To score, grown over champion"
        ),
    },
    tags=["ranking", assets.DATASET],
) as dag:  # fmt: skip
    grow = job(
        "grow", "training", "upscale", "--from={{ params.source }}", "--to={{ params.target }}",
        "--budget-days={{ params.budget_days }}", HOLDOUT, inlets=[assets.CHECKPOINT],
        folders="lake checkpoints tracking study",
    )  # fmt: skip
    train_grown = train("train_grown", "grown", "name", "recipe")
    train_control = train("train_control", "control", "parent", "parent_recipe")
    export_grown = export("export_grown", "train_grown")
    export_control = export("export_control", "train_control")
    evaluate = job(
        "evaluate", "training", "evaluate", f"--candidate={summary('export_grown', 'version')}",
        f"--control={summary('export_control', 'version')}", ANCHOR, link="Gate report",
        folders="lake checkpoints artifacts tracking reports",
    )  # fmt: skip
    canary = job(
        "canary", "serving", "canary", "--upscaled", *assets.TARGET, assets.STORAGE, MIN_REQUESTS,
        "--max-p95-ratio={{ params.max_p95_ratio }}", retries=1, execution_timeout=LONG,
        folders="tracking reports", inlets=[assets.ONLINE_FEATURES],
    )  # fmt: skip
    promote = job(
        "promote", "serving", "promote", "--upscaled", *assets.TARGET, link="Gate report",
        folders="tracking reports", outlets=[assets.CHAMPION], execution_timeout=SHORT,
    )  # fmt: skip

    chain(grow, [train_grown, train_control], [export_grown, export_control])
    chain([export_grown, export_control], evaluate, canary, promote)
