"""Each data set of a deployment has its own DAGs: rules that each of them keeps."""

import datetime
import importlib.metadata
import json
import os
import runpy
import subprocess
import sys

import pytest
from support.airflow_dags import DAG_FILES, DAGS, DATASETS, dag_of, data_set

EACH = [(name, dataset) for name in DAG_FILES for dataset in DATASETS]
"""Each DAG of each data set."""


@pytest.mark.parametrize(("name", "dataset"), EACH)
def test_a_dag_says_to_the_person_on_call_what_to_do(name: str, dataset: str) -> None:
    """Its documentation is the file's docstring, and it is not long code with a comment."""
    dag = dag_of(name, dataset)
    assert dag.doc_md == sys.modules[name.removesuffix(".py")].__doc__
    assert all(part in dag.doc_md for part in ("**What.**", "**Normal.**", "**Do.**"))
    assert len((DAGS / name).read_text().splitlines()) <= 120


@pytest.mark.parametrize(("name", "dataset"), EACH)
def test_every_task_retries_ends_and_alerts(name: str, dataset: str) -> None:
    """No task can hang for ever, fail at the first hiccup, or fail in silence."""
    import ranking_alerts

    for task in dag_of(name, dataset).tasks:
        assert task.retries >= 1, task.task_id
        assert task.execution_timeout <= datetime.timedelta(hours=6), task.task_id
        (callback,) = task.on_failure_callback
        assert callback.func == ranking_alerts.alert, task.task_id
        assert callback.keywords["data_set"].name == dataset, task.task_id


@pytest.mark.parametrize(("name", "dataset"), EACH)
def test_a_dag_runs_one_day_at_a_time_inside_its_log(name: str, dataset: str) -> None:
    """Unpaused, a finished log makes no run for today: what runs by the clock has an end.

    Any other DAG has none: Airflow would not say why a day after it never starts, and the day's own
    check does.
    """
    dag, log = dag_of(name, dataset), data_set(dataset).log
    assert (dag.max_active_runs, dag.catchup) == (1, name == "daily_ranking.py")
    assert dag.start_date.date() == log.first_day
    is_by_the_clock = name in {"daily_ranking.py", "monitor_ranking.py", "scaling_study.py"}
    if not is_by_the_clock or log.last_day is None:
        assert dag.end_date is None
    else:
        assert dag.end_date.date() == log.last_day


@pytest.mark.parametrize(("name", "dataset"), EACH)
def test_a_dag_touches_nothing_of_another_data_set(name: str, dataset: str) -> None:
    """Its name, its jobs, what it says that it reads and writes, its pages, its pool."""
    dag = dag_of(name, dataset)
    assert dag.dag_id == f"{name.removesuffix('.py')}_{dataset.replace('-', '_')}"
    assert dag.tags == {"ranking", dataset}
    for task in dag.tasks:
        assets = [*task.inlets, *task.outlets]
        assert {asset.name.partition("/")[0] for asset in assets} <= {dataset}, task.task_id
        assert getattr(task, "data_set", data_set(dataset)).name == dataset
        if hasattr(task, "arguments"):
            assert task.arguments[0] == f"--dataset={dataset}"
            assert task.page.partition("/")[0] in {"", dataset}


def test_a_setting_for_all_data_sets_may_hold_the_name_of_each(monkeypatch) -> None:
    """A pool, a service and a place of artifacts of its own."""
    monkeypatch.setenv("RANKING_DATASETS", "open-bandit, synthetic")
    monkeypatch.setenv("RANKING_POOL", "ranking_{dataset}")
    monkeypatch.setenv("RANKING_SERVICE", "ranker-{dataset}")
    monkeypatch.setenv("RANKING_STORAGE_URI", "s3://models/{dataset}/{version}")
    monkeypatch.setenv("RANKING_FIRST_DAY", "synthetic=2025-02-01,2019-11-26")
    found = runpy.run_path(str(DAGS / "ranking_assets.py"))
    bandit, synthetic = found["DATA_SETS"]
    assert (bandit.pool, synthetic.pool) == ("ranking_open-bandit", "ranking_synthetic")
    assert bandit.target == ("--service=ranker-open-bandit", "--namespace=default")
    assert synthetic.storage == "--storage-uri=s3://models/synthetic/{version}"
    assert str(bandit.first_day) == "2019-11-26"
    assert str(synthetic.first_day) == "2025-02-01"
    assert str(bandit.alerts).endswith("reports/open-bandit/alerts")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("synthetic,synthetic", "'synthetic,synthetic': names of data sets, each once"),
        (" , ", "' , ': names"),
        ("shopp", "'shopp': unknown"),
    ],
)
def test_a_deployment_whose_data_sets_are_wrong_says_so(monkeypatch, value, message) -> None:
    monkeypatch.setenv("RANKING_DATASETS", value)
    with pytest.raises(ValueError, match=f"RANKING_DATASETS {message}"):
        runpy.run_path(str(DAGS / "ranking_assets.py"))


def test_a_first_day_that_is_none_is_named(monkeypatch) -> None:
    monkeypatch.setenv("RANKING_FIRST_DAY", "movielens-100k=20 April")
    with pytest.raises(ValueError, match=r"RANKING_FIRST_DAY 'movielens-100k=20 April': YYYY"):
        _ = data_set().first_day


def test_a_schedule_reads_what_was_written_from_python_and_runs_none(tmp_path, monkeypatch) -> None:
    """As long as neither the file nor what it imports next to it has changed since."""
    from ranking_settings import logs as ranking_logs

    from features.datasets.catalog import data_set_at
    from features.datasets.python_yaml import write_yaml

    orders = DAGS.parent / "tests" / "support" / "labels" / "orders.yaml"
    (tmp_path / "shared.py").write_text(
        "import yaml, pathlib\n"
        f"SHARED = yaml.safe_load(pathlib.Path({str(orders)!r}).read_text())\n"
    )
    python = tmp_path / "orders.py"
    python.write_text("from shared import SHARED\nSCHEMA_FILE = SHARED\n")
    says = rf"`python -m features schema-yaml --schema {python}` writes it"
    with pytest.raises(ValueError, match=rf"orders.py.yaml: is not there, .*{says}"):
        ranking_logs.log_of("orders", [tmp_path])
    write_yaml(python)
    expected = ranking_logs.log_of("orders", [orders])
    assert data_set_at(python).schema == data_set_at(orders).schema
    for place in (tmp_path, python):
        assert ranking_logs.log_of("orders", [place]) == expected
    with monkeypatch.context() as patched:
        patched.syspath_prepend(tmp_path)
        point = importlib.metadata.EntryPoint("site", "orders", "wukong_ranking.schemas")
        patched.setattr(importlib.metadata, "entry_points", lambda group: [point])
        assert ranking_logs.log_of("orders", []) == expected
    assert not {"shared", "orders"} & set(sys.modules)
    helper = tmp_path / "helpers"
    helper.mkdir()
    (helper / "orders.py").write_text("NO_SCHEMA = 1\n")
    assert ranking_logs.log_of("orders", [helper, tmp_path]) == expected
    with pytest.raises(ValueError, match="RANKING_DATASETS 'readers': unknown"):
        ranking_logs.log_of("readers", [])
    for file in (python, tmp_path / "shared.py"):
        text = file.read_text()
        file.write_text(text + "# changed\n")
        with pytest.raises(ValueError, match=rf"written from another {file.name}, .*{says}"):
            ranking_logs.log_of("orders", [tmp_path])
        file.write_text(text)
    assert ranking_logs.log_of("orders", [tmp_path]) == expected
    (tmp_path / "orders.py.yaml").write_text(orders.read_text())
    with pytest.raises(ValueError, match=rf"was written from another orders.py, .*{says}"):
        ranking_logs.log_of("orders", [tmp_path])


_BAG = """
import json, sys
from pathlib import Path
from airflow.dag_processing.dagbag import BundleDagBag
sys.path.insert(0, sys.argv[1])
bag = BundleDagBag(sys.argv[1], bundle_path=Path(sys.argv[1]), bundle_name="dags-folder")
print(json.dumps([bag.import_errors, sorted(bag.dags)]))
"""


@pytest.mark.process
def test_airflow_finds_the_dags_of_all_data_sets_of_a_deployment(tmp_path) -> None:
    """The files as Airflow parses them, with a schema file of a site among the data sets."""
    (tmp_path / "my-shop.yaml").write_text(
        "first_day: 2025-03-01\nholdout_days: 2\nsource: {format: csv}\n"
    )
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "RANKING_SCHEMAS": str(tmp_path),
        "RANKING_DATASETS": "my-shop,movielens-100k",
        "RANKING_LOG_FOLDER": str(tmp_path / "answers"),
    }
    command = [sys.executable, "-W", "ignore", "-c", _BAG, str(DAGS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    errors, found = json.loads(done.stdout.splitlines()[-1])
    assert errors == {}
    kinds = [name.removesuffix(".py") for name in DAG_FILES]
    names = ("movielens_100k", "my_shop")
    assert found == sorted(f"{kind}_{name}" for kind in kinds for name in names)
