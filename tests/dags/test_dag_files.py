"""Rules that every DAG file keeps."""

import ast
import contextlib
import copy
import datetime
import importlib
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pendulum
import pytest

DAGS = Path(__file__).resolve().parents[2] / "dags"
FEATURES = DAGS.parent / "features"
DAG_FILES = ("daily_ranking.py", "scaling_study.py", "upscale_dense.py")
HELPERS = (
    "ranking_alerts.py",
    "ranking_assets.py",
    "ranking_jobs.py",
    "ranking_lease.py",
    "ranking_processes.py",
)
HEAVY = {"torch", "torchrec", "pyspark", "feast", "kserve", "mlflow", "great_expectations"}
OURS = {"features", "training", "serving"}
UTC = datetime.UTC
TRAININGS = ("train_grown", "train_control")
TOLD = {
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
_PROBE = """
import json, sys, time
import airflow.sdk
from airflow.sdk import DAG, Asset, BaseOperator, BaseSensorOperator, Param
from airflow.sdk import CronDataIntervalTimetable
import airflow.sdk.exceptions, airflow.sdk.types
sys.path.insert(0, sys.argv[1])
started = time.perf_counter()
__import__(sys.argv[2])
seconds = time.perf_counter() - started
modules = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps({"seconds": seconds, "modules": modules}))
"""


def test_every_dag_file_is_listed() -> None:
    """A file that nobody listed here has no rules."""
    assert sorted([*DAG_FILES, *HELPERS]) == sorted(path.name for path in DAGS.glob("*.py"))


@pytest.mark.process
@pytest.mark.parametrize("name", DAG_FILES)
def test_a_dag_file_imports_fast_and_light(name: str) -> None:
    """Under a second beside Airflow itself, and with none of the jobs' libraries."""
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, str(DAGS), name.removesuffix(".py")],
        capture_output=True,
        text=True,
        check=True,
    )
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["seconds"] < 1
    assert (HEAVY | OURS) & set(seen["modules"]) == set()


@pytest.mark.parametrize("name", [*DAG_FILES, *HELPERS])
def test_a_dag_file_imports_airflow_the_standard_library_and_its_helpers(name: str) -> None:
    """Nothing else: the Airflow image has nothing else."""
    helpers = {helper.removesuffix(".py") for helper in HELPERS}
    allowed = {"airflow", *helpers, *sys.stdlib_module_names}
    assert _imported(DAGS / name) - allowed == set()


@pytest.mark.parametrize("name", [*DAG_FILES, *HELPERS])
def test_paths_and_settings_come_from_one_module(name: str) -> None:
    """Only ranking_assets reads the environment or joins a path from parts."""
    source = (DAGS / name).read_text()
    found = [text for text in ("os.environ", "os.path", "s3://", '"var"') if text in source]
    assert found == [] or name == "ranking_assets.py"


def test_helpers_are_not_parsed_as_dag_files() -> None:
    """Airflow would import each of them every half minute."""
    assert "ranking_*.py" in (DAGS / ".airflowignore").read_text().splitlines()


def test_the_logs_facts_equal_their_schemas() -> None:
    """The DAGs repeat four facts of each data set, because they import no package of ours."""
    import ranking_assets

    from features.datasets.catalog import SCHEMAS
    from features.datasets.readers import READERS

    expected = {
        name: (schema.first_day, schema.last_day, schema.holdout_days, READERS[name].SUFFIX)
        for name, schema in SCHEMAS.items()
    }
    actual = {
        name: (log.first_day, log.last_day, log.holdout_days, log.suffix)
        for name, log in ranking_assets.LOGS.items()
    }
    assert expected == actual


@pytest.mark.parametrize("name", DAG_FILES)
def test_a_dag_tells_the_person_on_call_what_to_do(name: str) -> None:
    """Its documentation is the file's docstring, and it is not long code with a comment."""
    dag = _dag(name)
    assert dag.doc_md == sys.modules[name.removesuffix(".py")].__doc__
    assert all(part in dag.doc_md for part in ("**What.**", "**Normal.**", "**Do.**"))
    assert len((DAGS / name).read_text().splitlines()) <= 120


@pytest.mark.parametrize("name", DAG_FILES)
def test_every_task_retries_ends_and_tells(name: str) -> None:
    """No task can hang for ever, fail at the first hiccup, or fail in silence."""
    import ranking_alerts

    for task in _dag(name).tasks:
        assert task.retries >= 1, task.task_id
        assert task.execution_timeout <= datetime.timedelta(hours=6), task.task_id
        assert list(task.on_failure_callback) == [ranking_alerts.alert], task.task_id


@pytest.mark.parametrize("name", DAG_FILES)
def test_a_dag_runs_one_day_at_a_time_inside_its_log(name: str) -> None:
    """Unpaused, a finished log makes no run for today: its schedule has an end.

    A DAG without a schedule has none: Airflow would not say why a day after it never starts, and
    the day's own check does.
    """
    import ranking_assets

    dag = _dag(name)
    assert (dag.max_active_runs, dag.catchup) == (1, name == "daily_ranking.py")
    assert dag.start_date.date() == ranking_assets.FIRST_DAY
    if dag.schedule is None:
        assert dag.end_date is None
    else:
        assert dag.end_date.date() == ranking_assets.LAST_DAY


def test_missed_days_are_caught_up_in_order_and_a_finished_log_ends() -> None:
    """What the scheduler asks the timetable, and what a backfill asks it.

    The clock of the machine is years after each of these days: none of them is passed over.
    """
    from airflow.serialization.serialized_objects import DagSerialization
    from airflow.timetables.base import DagRunInfo

    dag = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(_dag("daily_ranking.py")))
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
print(daily_ranking.dag.start_date.date())
"""


@pytest.mark.process
def test_the_schedule_begins_after_the_days_that_were_bootstrapped() -> None:
    """From there on it catches up; the days before were made by the jobs, as one range."""
    done = subprocess.run(
        [sys.executable, "-c", _FROM_A_DAY],
        env={**os.environ, "RANKING_FIRST_DAY": "1998-04-20", "PYTHONPATH": str(DAGS)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "1998-04-20"


def test_the_day_flows_from_landing_to_promotion() -> None:
    """A canary needs the gate and the online features; nothing waits for retention."""
    dag = _dag("daily_ranking.py")
    upstream = {task.task_id: set(task.upstream_task_ids) for task in dag.tasks}
    assert upstream["canary"] == {"materialize", "evaluate"}
    assert upstream["promote"] == {"canary"}
    assert upstream["ingest"] == upstream["apply"] == {"landed"}
    assert upstream["materialize"] == {"validate_features", "apply"}
    leaves = {task.task_id for task in dag.tasks if not task.downstream_task_ids}
    assert leaves == {"promote", "prune_features", "prune_models"}


def test_a_trial_trains_both_sides_and_promotes_after_the_gate_only() -> None:
    """What grew and what did not come from one parent, and promotion needs both judged."""
    dag = _dag("upscale_dense.py")
    upstream = {task.task_id: set(task.upstream_task_ids) for task in dag.tasks}
    assert upstream["train_grown"] == upstream["train_control"] == {"grow"}
    assert upstream["promote"] == {"canary"}
    assert upstream["canary"] == {"evaluate"}
    assert upstream["evaluate"] == {"export_grown", "export_control"}


@pytest.mark.parametrize("name", DAG_FILES)
def test_every_jobs_arguments_are_what_its_door_takes(name: str) -> None:
    """Rendered with the params' defaults, as Airflow would, and given to the packages' parsers."""
    dag = _dag(name)
    run = SimpleNamespace(run_id="r", logical_date=datetime.datetime(1998, 4, 21, tzinfo=UTC))
    told = SimpleNamespace(xcom_pull=lambda *, task_ids: TOLD[task_ids])
    context = {"params": dag.params.dump(), "dag_run": run, "ti": told}
    seen = {}
    for task in (task for task in dag.tasks if hasattr(task, "command")):
        arguments = task.render_template(task.arguments, context, dag.get_template_env())
        parser = importlib.import_module(f"{task.package}.__main__")._command_line().parser
        asked = [task.command, *filter(None, arguments)]
        seen[task.task_id] = vars(parser.parse_args(asked))
    assert all(options["dataset"] == "movielens-100k" for options in seen.values())
    if name == "upscale_dense.py":
        sides = [(seen[task]["source"], seen[task]["recipe"]) for task in TRAININGS]
        assert sides == [("1998-04-07-x", "wukong-small-x2"), ("1998-04-07", "wukong-small")]
        assert (seen["grow"]["source"], seen["grow"]["target"]) == ("champion", "2")
        assert [seen["evaluate"][key] for key in ("candidate", "control")] == ["g", "c"]
        assert seen["evaluate"]["anchor_days"] == 28
        assert seen["promote"]["upscaled"]
        assert seen["canary"]["upscaled"]
        assert seen["canary"]["max_p95_ratio"] == 2.0


_ON_A_CLUSTER = """
import daily_ranking, json
tasks = {task.task_id: task for task in daily_ranking.dag.tasks}
minimum = daily_ranking.dag.params["min_requests"]
told = {name: tasks[name].arguments for name in ("canary", "promote")}
print(json.dumps({**told, "min_requests": minimum}))
"""


@pytest.mark.process
def test_on_a_cluster_the_same_tasks_work_on_the_service() -> None:
    """One DAG: where RANKING_SERVICE is set, its models change by the same two commands."""
    from serving.__main__ import _command_line

    uri = "s3://models/{version}"
    environment = {"RANKING_SERVICE": "ranker", "RANKING_STORAGE_URI": uri, "PYTHONPATH": str(DAGS)}
    done = subprocess.run(
        [sys.executable, "-c", _ON_A_CLUSTER],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["min_requests"] == 2_000
    fill = {"{{ day(dag_run) }}": "1998-04-21", "{{ params.min_requests }}": "2000"}
    for command in ("canary", "promote"):
        arguments = filter(None, seen[command])
        for template, value in fill.items():
            arguments = [argument.replace(template, value) for argument in arguments]
        options = _command_line().parser.parse_args([command, *arguments])
        assert (options.service, options.namespace) == ("ranker", "default")
        assert (options.dataset, str(options.date)) == ("movielens-100k", "1998-04-21")
        assert getattr(options, "storage_uri", uri) == uri


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
        ({"max_p95_ratio": 0.9}, False),
    ],
)
def test_params_of_a_trial_are_checked_before_it_starts(conf, is_valid) -> None:
    """A source that is no alias, a factor that is none, a budget of nothing: no run is made."""
    from airflow.sdk.exceptions import ParamValidationError

    params = copy.deepcopy(_dag("upscale_dense.py").params)
    refused = contextlib.nullcontext() if is_valid else pytest.raises(ParamValidationError)
    with refused:
        params.update(conf)


def test_a_study_is_weekly_paused_and_within_a_budget() -> None:
    """Nobody's machine is kept busy who did not ask for it, and no task outlives its time-out."""
    from training.experiments.scaling.points import AXES

    dag = _dag("scaling_study.py")
    assert dag.is_paused_upon_creation
    assert sorted(dag.params.get_param("axes").schema["items"]["enum"]) == sorted(AXES)
    (task,) = dag.tasks
    longest = dag.params.get_param("budget_minutes").schema["maximum"]
    assert datetime.timedelta(minutes=longest) < task.execution_timeout


def test_every_alert_has_its_runbook() -> None:
    """Each page that an alert can name exists."""
    import ranking_alerts

    from training.evaluation.gate import RECALIBRATE

    runbooks = DAGS.parent / "infra" / "runbooks"
    named = re.findall(r'runbook="([a-z-]+)"', "".join(map(Path.read_text, FEATURES.rglob("*.py"))))
    assert {"day-missing", "day-not-landed", "schema-changed"} <= {*named}
    pages = {*ranking_alerts.RUNBOOKS.values(), *named, "job-failed", "lease-waits", RECALIBRATE}
    assert [page for page in sorted(pages) if not (runbooks / f"{page}.md").exists()] == []


def _dag(name: str):
    module = __import__(name.removesuffix(".py"))
    return module.dag


def _imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found
