"""# Backfill ranking: past days made again, and one training at the end.

**What.** Started by hand when past days have changed: `python -m features stale` names them.
`history` makes again what is stale between `first_day` and `last_day` by the jobs of
`daily_ranking_…`, `days_per_chunk` days at once, in order, and leaves the rest. Then the newest
feature rows go online. For each day whose examples are not those that the newest training has read
there is an event of the asset `backfilled-examples`, with the day as its partition; thirty events
of one backfill start one run of `retrain_ranking_…`, once that is unpaused.

**Normal.** Green, or *skipped* where nothing has changed: then nobody is asked to train. A run that
was killed goes on where it stopped: clear its task. While it runs, daily runs wait.

**Look.** `days_made`, `unchanged` and `to_learn` in the XCom `return_value` of `history`.

**Do.** `last_day` is the newest day of the lake: days after one that is made again are stale. A day
that landed again with other rows after they were learnt stops `history`: run it with `again`, or
take the day as a correction (`docs/backfill.md`). Else read the alert in the task's log, open its
page of `infra/runbooks/`, clear the task when the cause is gone.
"""

import datetime
import functools

import ranking_assets as assets
import ranking_jobs
from airflow.sdk import DAG, Param, PartitionedAtRuntime, TriggerRule, chain
from ranking_dags import last_day, ranking_dag
from ranking_jobs import AGAIN

LONG = datetime.timedelta(hours=6)
SPAN = ("--date={{ params.first_day }}", "--to={{ last_day(params) }}")


def add_tasks(data_set: assets.DataSet) -> None:
    """The jobs of the range, and their order."""
    job = functools.partial(ranking_jobs.job, data_set, is_dated=False)
    history = job(
        "history", "features", "history", *SPAN, "--days-per-chunk={{ params.days_per_chunk }}",
        AGAIN, folders="landing lake docs", execution_timeout=LONG, partitions="to_learn",
        outlets=[data_set.asset("backfilled-examples")],
    )  # fmt: skip
    apply = job("apply", "features", "apply", folders="lake store", size="small")
    materialize = job(
        "materialize", "features", "materialize", *SPAN, folders="lake store",
        outlets=[data_set.asset("online-features")], execution_timeout=LONG,
        trigger_rule=TriggerRule.NONE_FAILED,  # features may change where no day is to be learnt
    )  # fmt: skip
    chain([history, apply], materialize)


def backfill_ranking(data_set: assets.DataSet) -> DAG:
    """The DAG of one data set."""
    with ranking_dag(
        data_set,
        "backfill_ranking",
        doc=__doc__,
        description="By hand: past days made again where something has changed, then one training",
        schedule=PartitionedAtRuntime(),
        macros={"last_day": functools.partial(last_day, data_set)},
        params={
            "first_day": Param(str(data_set.log.first_day), type="string", format="date"),
            "last_day": Param(None, type=["null", "string"], format="date"),
            "days_per_chunk": Param(28, type="integer", minimum=1, description="Days at once"),
            "again": Param(False, type="boolean", description="Though what it was is learnt"),
        },
    ) as dag:
        add_tasks(data_set)
    return dag


dags = [backfill_ranking(data_set) for data_set in assets.DATA_SETS]
