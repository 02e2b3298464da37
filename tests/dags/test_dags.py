"""What each DAG does: its days, the order of its tasks, what they are called with, its params."""

import contextlib
import copy
import dataclasses
import datetime
import importlib
import itertools
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pendulum
import pytest
from support import forks
from support.airflow_dags import DAG_FILES, DAGS, DATASETS, dag_of, data_set, run_of

from features.options import request_from

UTC = datetime.UTC
TRAININGS = ("train_grown", "train_control")
SUMMARIES = {
    "grow": {
        "name": "1998-04-07-x",
        "recipe": "wukong-small-x2",
        "parent": "1998-04-07",
        "parent_recipe": "wukong-small",
    },
    "train_grown": {"name": "1998-04-21-grown-wukong-small-x2"},
    "train_control": {"name": "1998-04-21-control-wukong-small"},
    "export_grown": {"version": "g"},
    "export_control": {"version": "c"},
}
"""What tasks of a trial hand on."""


def test_missed_days_are_caught_up_in_order_and_a_finished_log_ends() -> None:
    """What the scheduler asks the timetable, and what a backfill asks it.

    The clock of the machine is years after each of these days: none of them is passed over.
    """
    from airflow.serialization.serialized_objects import DagSerialization
    from airflow.timetables.base import DagRunInfo

    dag = DagSerialization.deserialize_dag(
        DagSerialization.serialize_dag(dag_of("daily_ranking.py"))
    )
    days = [datetime.datetime(1998, 4, day, tzinfo=UTC) for day in (20, 21, 22, 23)]
    runs = [
        DagRunInfo.interval(start=pendulum.instance(a), end=pendulum.instance(b))
        for a, b in itertools.pairwise(days)
    ]
    first = dag.next_dagrun_info(last_automated_run_info=None)
    assert first.logical_date.date() == datetime.date(1997, 9, 20)
    after = [dag.next_dagrun_info(last_automated_run_info=run) for run in runs]
    assert [info and info.logical_date for info in after] == [days[1], days[2], None]
    backfilled = [info.logical_date for info in dag.iter_dagrun_infos_between(days[0], days[2])]
    assert backfilled == days[:3]


_FROM_A_DAY = """
import daily_ranking
print(daily_ranking.dags[0].start_date.date())
"""
_ANEW = """
import sys
for name in [name for name in sys.modules if name.startswith(("daily_ranking", "ranking_"))]:
    del sys.modules[name]
"""


def _with(program: str, script: Path, **environment: str) -> str:
    """The last line of a program that imports the DAG anew, in another environment."""
    script.write_text(_ANEW + program)
    done = forks.run([str(script)], {**os.environ, **environment, "PYTHONPATH": str(DAGS)})
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.process
def test_the_schedule_begins_after_the_days_that_were_bootstrapped(tmp_path) -> None:
    """From there on it catches up; the days before were made by the jobs, as one range."""
    found = _with(_FROM_A_DAY, tmp_path / "dag.py", RANKING_FIRST_DAY="1998-04-20")
    assert found == "1998-04-20"


def test_the_day_flows_from_landing_to_promotion() -> None:
    """A canary needs the gate and the online features; nothing waits for retention."""
    dag = dag_of("daily_ranking.py")
    upstream = {task.task_id: set(task.upstream_task_ids) for task in dag.tasks}
    assert upstream["canary"] == {"materialize", "evaluate"}
    assert upstream["promote"] == {"canary"}
    assert upstream["ingest"] == upstream["apply"] == {"landed"}
    assert upstream["materialize"] == {"validate_features", "apply"}
    leaves = {task.task_id for task in dag.tasks if not task.downstream_task_ids}
    assert leaves == {"promote", "prune_features", "prune_models"}


def test_rows_whose_label_is_not_final_are_learnt_on_top_where_the_schema_says_so() -> None:
    """What is exported and judged has learnt them; other data sets have no such task."""
    import daily_ranking

    films = data_set()
    asked = dataclasses.replace(films, log=dataclasses.replace(films.log, learns_immature=True))
    dag = daily_ranking.daily_ranking(asked)
    assert dag.get_task("train_immature").upstream_task_ids == {"train"}
    assert dag.get_task("export").upstream_task_ids == {"train_immature"}
    assert "--immature" in dag.get_task("train_immature").arguments
    assert not dag_of("daily_ranking.py").has_task("train_immature")


def test_a_trial_trains_both_sides_and_promotes_after_the_gate_only() -> None:
    """What grew and what did not come from one parent, and promotion needs both judged."""
    dag = dag_of("upscale_dense.py")
    upstream = {task.task_id: set(task.upstream_task_ids) for task in dag.tasks}
    assert upstream["train_grown"] == upstream["train_control"] == {"grow"}
    assert upstream["promote"] == {"canary"}
    assert upstream["canary"] == {"evaluate"}
    assert upstream["evaluate"] == {"export_grown", "export_control"}


def test_growing_has_the_time_and_the_machine_of_a_training() -> None:
    """Its usual operator, a probe, trains."""
    tasks = [dag_of("upscale_dense.py").get_task(name) for name in ("grow", "train_grown")]
    assert len({(task.execution_timeout, task.size) for task in tasks}) == 1


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("name", DAG_FILES)
def test_every_jobs_arguments_are_what_its_command_takes(name: str, dataset: str) -> None:
    """Rendered with the params' defaults, as Airflow would, and given to the packages' parsers."""
    dag, day = dag_of(name, dataset), data_set(dataset).first_day + datetime.timedelta(days=3)
    task_instance = SimpleNamespace(xcom_pull=lambda *, task_ids: SUMMARIES[task_ids])
    params = {**dag.params.dump(), "last_day": str(day)}
    context = {"params": params, "dag_run": run_of(str(day)), "ti": task_instance}
    seen = {}
    for task in (task for task in dag.tasks if hasattr(task, "command")):
        arguments = task.render_template(task.arguments, context, dag.get_template_env())
        package = importlib.import_module(f"{task.package}.__main__")
        command_line = getattr(package, "command_line", None) or package._command_line
        options = command_line().parser.parse_args([task.command, *filter(None, arguments)])
        if options.made:
            request_from(options, options.made)
        seen[task.task_id] = vars(options)
    assert all(options["dataset"] == dataset for options in seen.values())
    days = {options["date"] for options in seen.values() if options.get("date")}
    assert days <= {day, data_set(dataset).first_day}
    if name == "upscale_dense.py":
        sides = [(seen[task]["source"], seen[task]["recipe"]) for task in TRAININGS]
        assert sides == [("1998-04-07-x", "wukong-small-x2"), ("1998-04-07", "wukong-small")]
        assert (seen["grow"]["source"], seen["grow"]["target"]) == ("champion", "2")
        assert seen["grow"]["operator"] == "probe"
        assert [seen["evaluate"][key] for key in ("candidate", "control")] == ["g", "c"]
        assert seen["evaluate"]["anchor_days"] == 28
        assert seen["promote"]["upscaled"]
        assert seen["canary"]["upscaled"]
        assert seen["canary"]["max_p95_ratio"] == 2.0


_ON_A_CLUSTER = """
import daily_ranking, json
(dag,) = daily_ranking.dags
tasks = {task.task_id: task for task in dag.tasks}
minimum = dag.params["min_requests"]
arguments = {name: tasks[name].arguments for name in ("canary", "promote")}
print(json.dumps({**arguments, "min_requests": minimum}))
"""


@pytest.mark.process
def test_on_a_cluster_the_same_tasks_work_on_the_service(tmp_path) -> None:
    """One DAG: where RANKING_SERVICE is set, its models change by the same two commands."""
    from serving.__main__ import command_line

    uri = "s3://models/{version}"
    environment = {"RANKING_SERVICE": "ranker", "RANKING_STORAGE_URI": uri}
    seen = json.loads(_with(_ON_A_CLUSTER, tmp_path / "dag.py", **environment))
    assert seen["min_requests"] == 2_000
    fill = {"{{ learnt_day(dag_run, params) }}": "1998-04-21"}
    fill["{{ params.min_requests }}"] = "2000"
    for command in ("canary", "promote"):
        arguments = filter(None, seen[command])
        for template, value in fill.items():
            arguments = [argument.replace(template, value) for argument in arguments]
        options = command_line().parser.parse_args([command, *arguments])
        assert (options.service, options.namespace) == ("ranker", "default")
        assert (options.dataset, str(options.date)) == ("movielens-100k", "1998-04-21")
        assert getattr(options, "storage_uri", uri) == uri


def test_a_history_is_a_range_of_days_of_the_log() -> None:
    """To the day before the schedule's first, where that is later than the log's."""
    import bootstrap_ranking

    shop = data_set()
    asked = {"first_day": "1997-09-20", "last_day": "1998-04-19"}
    assert bootstrap_ranking.last_day(shop, asked) == "1998-04-19"
    for changed in (
        {"last_day": None},
        {"last_day": "1997-09-19"},
        {"last_day": "1998-04-23"},
        {"first_day": "1997-09-19"},
    ):
        with pytest.raises(ValueError, match=r"params.first_day .* from 1997-09-20 to 1998-04-22"):
            bootstrap_ranking.last_day(shop, {**asked, **changed})
    late = dataclasses.replace(shop, log=dataclasses.replace(shop.log, maturity_days=2))
    assert bootstrap_ranking.last_learnt_day(late, asked) == "1998-04-17"


def test_a_history_ends_before_the_schedule_begins(monkeypatch) -> None:
    """So that nothing is left out, and a person need not count."""
    import bootstrap_ranking

    assert bootstrap_ranking.bootstrap_ranking(data_set()).params["last_day"] is None
    monkeypatch.setenv("RANKING_FIRST_DAY", "1998-04-20")
    assert bootstrap_ranking.bootstrap_ranking(data_set()).params["last_day"] == "1998-04-19"


def test_a_history_learns_when_examples_are_there_and_answers_when_users_are_online() -> None:
    dag = dag_of("bootstrap_ranking.py")
    upstream = {task.task_id: set(task.upstream_task_ids) for task in dag.tasks}
    assert upstream["train"] == {"history"}
    assert upstream["materialize"] == {"history", "apply"}
    assert upstream["promote"] == {"evaluate", "materialize"}
    assert dag.schedule is None


@pytest.mark.parametrize("name", ["daily_ranking.py", "scaling_study.py", "upscale_dense.py"])
def test_the_form_of_a_run_by_hand_asks_for_a_day_and_takes_a_run_without(name: str) -> None:
    """A date, which the UI picks from a calendar; a run of the schedule leaves it out."""
    from airflow.sdk.exceptions import ParamValidationError

    params = copy.deepcopy(dag_of(name).params)
    assert params.get_param("day").schema["format"] == "date"
    assert params.validate()["day"] is None
    params.update({"day": "1998-04-21"})
    with pytest.raises(ParamValidationError):
        params.update({"day": "21 April"})


@pytest.mark.parametrize(
    ("conf", "is_valid"),
    [
        ({"source": "challenger", "target": "wukong-small-x3"}, True),
        ({"source": "yesterday"}, False),
        ({"target": "advice"}, True),
        ({"target": "10"}, False),
        ({"target": "2 --ranks=9"}, False),
        ({"budget_days": 0}, False),
        ({"passes": 1.5}, False),
        ({"operator": "fresh-head"}, True),
        ({"operator": "zeros"}, False),
        ({"max_p95_ratio": 0.9}, False),
    ],
)
def test_params_of_a_trial_are_checked_before_it_starts(conf, is_valid) -> None:
    """A source that is no alias, a factor that is none, a budget of nothing: no run is made."""
    from airflow.sdk.exceptions import ParamValidationError

    params = copy.deepcopy(dag_of("upscale_dense.py").params)
    outcome = contextlib.nullcontext() if is_valid else pytest.raises(ParamValidationError)
    with outcome:
        params.update(conf)


def test_a_study_is_weekly_paused_and_within_a_budget() -> None:
    """Nobody's machine is kept busy who did not ask for it, and no task outlives its time-out."""
    from training.experiments.scaling.points import AXES

    dag = dag_of("scaling_study.py")
    assert dag.is_paused_upon_creation
    assert sorted(dag.params.get_param("axes").schema["items"]["enum"]) == sorted(AXES)
    (task,) = dag.tasks
    longest = dag.params.get_param("budget_minutes").schema["maximum"]
    assert datetime.timedelta(minutes=longest) < task.execution_timeout


def test_the_log_of_answers_is_tidied_where_there_is_one(monkeypatch) -> None:
    """It waits for no job of the day, and nothing waits for it."""
    import daily_ranking
    import ranking_assets

    monkeypatch.setattr(ranking_assets, "LOG", "s3://bucket/answers")
    dag = daily_ranking.daily_ranking(data_set())
    task = dag.get_task("prune_log")
    assert (task.upstream_task_ids, task.downstream_task_ids) == ({"landed"}, set())
    assert (task.package, task.command) == ("serving", "prune-log")
    assert "--log=s3://bucket/answers" in task.arguments
    assert "prune_log" not in {task.task_id for task in dag_of("daily_ranking.py").tasks}
