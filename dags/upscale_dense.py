"""# Upscale dense: is a larger ranker better?

**What.** Started by hand, for a `day` that `daily_ranking_…` has done. A trial in three rankers:

- *grown*: a checkpoint of the source's family, made larger, then trained on. `operator` says how:
  *exact* (no logit moves by more than 1e-5), *fresh-head*, or the better one after 200 steps;
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
promotion `daily_ranking_…`, its `recipe` left empty, trains the champion's recipe, so it goes on
from the larger ranker.

**Look.** The link on `evaluate`: both comparisons and the family tree. XCom `return_value` of
`grow`: what grew, by how much the logits moved, who was the parent.

**Do.** `grow` failed with *no checkpoint leaves 1 to … days*: the family is too young or pruned;
take a later day or a larger budget. For other failures read the alert in the task's log
(`ALERT {…}`) and open the page of `infra/runbooks/` that it names. Clearing the run repeats it.
"""

import datetime
import functools

import ranking_assets as assets
import ranking_jobs
from airflow.sdk import DAG, BaseOperator, Param, chain
from ranking_dags import promotion_params, ranking_dag
from ranking_jobs import ANCHOR, HOLDOUT, MIN_REQUESTS

SHORT, LONG = datetime.timedelta(minutes=20), datetime.timedelta(hours=6)
SIZE = "^([2-9]|advice|[a-z0-9]+(-[a-z0-9]+)+)$"
TARGET = (
    "2 to 9: so many times the source's size; a recipe's name; or advice: what the newest scaling "
    "study recommends"
)


def summary(task_id: str, key: str) -> str:
    """Template of a value in an earlier task's summary."""
    return f"{{{{ ti.xcom_pull(task_ids='{task_id}')['{key}'] }}}}"


def side(data_set: assets.DataSet, role: str, name: str, recipe: str) -> list[BaseOperator]:
    """The tasks that train one side of the comparison and make it an artifact."""
    train = ranking_jobs.job(
        data_set, f"train_{role}", "training", "train", HOLDOUT, f"--trial={role}",
        "--epochs={{ params.passes }}", f"--from={summary('grow', name)}",
        f"--recipe={summary('grow', recipe)}", folders="lake checkpoints tracking reports",
        link="Training curve", inlets=[data_set.asset("examples")], execution_timeout=LONG,
        size="train",
    )  # fmt: skip
    export = ranking_jobs.job(
        data_set, f"export_{role}", "training", "export",
        f"--checkpoint={summary(train.task_id, 'name')}", is_dated=False, execution_timeout=SHORT,
        folders="lake checkpoints artifacts tracking",
    )  # fmt: skip
    return [train, export]


def add_tasks(data_set: assets.DataSet) -> None:
    """Grow, train both sides, judge, and let the winner answer."""
    job, asset = functools.partial(ranking_jobs.job, data_set), data_set.asset
    grow = job(
        "grow", "training", "upscale", "--from={{ params.source }}", "--to={{ params.target }}",
        "--budget-days={{ params.budget_days }}", "--operator={{ params.operator }}", HOLDOUT,
        inlets=[asset("checkpoint")], folders="lake checkpoints tracking study",
        execution_timeout=LONG, size="train",
    )  # fmt: skip
    grown = side(data_set, "grown", "name", "recipe")
    control = side(data_set, "control", "parent", "parent_recipe")
    evaluate = job(
        "evaluate", "training", "evaluate", f"--candidate={summary('export_grown', 'version')}",
        f"--control={summary('export_control', 'version')}", ANCHOR, link="Gate report",
        folders="lake checkpoints artifacts tracking reports",
    )  # fmt: skip
    canary = job(
        "canary", "serving", "canary", "--upscaled", *data_set.target, data_set.storage,
        MIN_REQUESTS, "--max-p95-ratio={{ params.max_p95_ratio }}", retries=1,
        execution_timeout=LONG, folders="tracking reports", inlets=[asset("online-features")],
    )  # fmt: skip
    promote = job(
        "promote", "serving", "promote", "--upscaled", *data_set.target, link="Gate report",
        folders="tracking reports", outlets=[asset("champion")], execution_timeout=SHORT,
    )  # fmt: skip
    chain(grow, *map(list, zip(grown, control, strict=True)), evaluate, canary, promote)


def upscale_dense(data_set: assets.DataSet) -> DAG:
    """The DAG of one data set."""
    with ranking_dag(
        data_set,
        "upscale_dense",
        doc=__doc__,
        description="By hand: grow a ranker, and promote it where it is shown to be better",
        params={
            **promotion_params(data_set),
            "source": Param("champion", type="string", enum=["champion", "challenger"]),
            "target": Param("2", type="string", pattern=SIZE, description=TARGET),
            "operator": Param("probe", type="string", enum=["probe", "exact", "fresh-head"]),
            "budget_days": Param(14, type="integer", minimum=1, description="Most days to train"),
            "passes": Param(1, type="integer", minimum=1, maximum=20, description="Over them"),
            "max_p95_ratio": Param(
                2.0, type="number", exclusiveMinimum=1, description="To score, grown over champion"
            ),
        },
    ) as dag:
        add_tasks(data_set)
    return dag


dags = [upscale_dense(data_set) for data_set in assets.DATA_SETS]
