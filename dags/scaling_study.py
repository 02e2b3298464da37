"""# Scaling study: what would the next unit of data, parameters or compute buy?

**What.** Once a week, within a budget: rankers of several sizes are trained on the lake's days, one
resource at a time, every size with its own learning rate and seeds, and judged on the newest days.
A law fitted to them says how far the floor is and what to grow next. It is advice: nothing is
promoted. `upscale_dense` takes it with `target` *advice*. Paused until somebody unpauses it, for it
keeps the machine busy.

**Normal.** One green task. The points stay. The next run continues one that was interrupted or
whose budget was too small, the smallest sizes first (`left_out` in the task's XCom `return_value`
names the rest). After a change of the code, the schema or the days all points are run again.

**Look.** The link on the task: the curves with their intervals, the floor, the points, production,
the recommendation. Each run is an MLflow run of the experiment `ranker-<data set>-scaling`.

**Do.** *No law yet*: an axis needs five sizes; raise `budget_minutes`, or let the next run go on.
For failures read the alert in the task's log (`ALERT {…}`) and open the page of `infra/runbooks/`
that it names. Clearing the task repeats nothing that is done.
"""

import datetime

import ranking_assets as assets
from airflow.sdk import DAG, CronDataIntervalTimetable, Param
from ranking_dags import day_param, ranking_dag
from ranking_jobs import job

AXES = ["compute", "data", "dense", "depth", "dim", "overarch", "rows"]
PARAMS = {
    "axes": Param(["compute", "data"], type="array", items={"enum": AXES}, minItems=1),
    "recipe": Param("", type="string", description="What is scaled; empty: the champion's"),
    "points": Param(5, type="integer", minimum=5, maximum=8, description="Sizes of an axis"),
    "seeds": Param(3, type="integer", minimum=1, maximum=10, description="Runs of each size"),
    "budget_minutes": Param(120, type="integer", minimum=1, maximum=340),
}


def scaling_study(data_set: assets.DataSet) -> DAG:
    """The DAG of one data set."""
    with ranking_dag(
        data_set,
        "scaling_study",
        doc=__doc__,
        description="Weekly: a scaling law from our own runs, and what to grow next",
        schedule=CronDataIntervalTimetable("0 6 * * 0", timezone="UTC"),
        is_paused_upon_creation=True,
        params={"day": day_param(), **PARAMS},
    ) as dag:
        job(
            data_set, "study", "training", "scaling", "--axis={{ params.axes | join(',') }}",
            "{% if params.recipe %}--recipe={{ params.recipe }}{% endif %}",
            "--points={{ params.points }}", "--seeds={{ params.seeds }}",
            "--budget={{ params.budget_minutes }}", folders="lake study tracking reports",
            link="Scaling law", inlets=[data_set.asset("examples")],
            # The budget ends it long before; a run that was begun ends as a run.
            execution_timeout=datetime.timedelta(hours=6), size="train",
        )  # fmt: skip
    return dag


dags = [scaling_study(data_set) for data_set in assets.DATA_SETS]
