"""Rules that every DAG file keeps."""

import ast
import datetime
import importlib.metadata
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from support.airflow_dags import DAG_FILES, DAGS

FEATURES = DAGS.parent / "features"
HELPERS = (
    "ranking_alerts.py",
    "ranking_assets.py",
    "ranking_dags.py",
    "ranking_jobs.py",
)
PACKAGES = {"ranking_landing", "ranking_launchers", "ranking_settings"}
OF_PACKAGES = sorted(
    f"{package}/{path.name}" for package in PACKAGES for path in DAGS.glob(f"{package}/*.py")
)
HEAVY = {"torch", "torchrec", "pyspark", "feast", "kserve", "mlflow", "great_expectations"}
HEAVY |= {"kubernetes", "kubernetes_asyncio"}
OURS = {"features", "training", "serving"}
UTC = datetime.UTC
_PROBE = """
import json, os, sys, time
import airflow.sdk
from airflow.sdk import DAG, Asset, BaseOperator, BaseSensorOperator, Param
from airflow.sdk import CronDataIntervalTimetable
import airflow.sdk.exceptions, airflow.sdk.types
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    if not os.fork():
        try:
            started = time.process_time()
            __import__(name)
            seconds = time.process_time() - started
            modules = sorted({name.partition(".")[0] for name in sys.modules})
            print(json.dumps({"name": name, "seconds": seconds, "modules": modules}), flush=True)
        finally:
            os._exit(0)
    os.wait()
"""
"""Each file in a process of its own, forked from one that has imported Airflow alone."""


def test_every_dag_file_is_listed() -> None:
    """A file that nobody listed here has no rules."""
    assert sorted([*DAG_FILES, *HELPERS]) == sorted(path.name for path in DAGS.glob("*.py"))


@pytest.fixture(scope="module")
def imported():
    """What the import of each DAG file takes and brings."""
    names = [name.removesuffix(".py") for name in DAG_FILES]
    command = [sys.executable, "-c", _PROBE, str(DAGS), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seen = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"name"')]
    assert [one["name"] for one in seen] == names, done.stderr
    return {f"{one['name']}.py": one for one in seen}


@pytest.mark.process
@pytest.mark.parametrize("name", DAG_FILES)
def test_a_dag_file_imports_fast_and_light(imported, name: str) -> None:
    """Under a second of CPU, Airflow itself not counted, and with none of the jobs' libraries."""
    seen = imported[name]
    assert seen["seconds"] < 1
    assert (HEAVY | OURS) & set(seen["modules"]) == set()


@pytest.mark.parametrize("name", [*DAG_FILES, *HELPERS])
def test_a_dag_file_imports_airflow_the_standard_library_and_its_helpers(name: str) -> None:
    """And psutil, universal-pathlib and YAML, which Airflow requires; there is nothing else."""
    helpers = {helper.removesuffix(".py") for helper in HELPERS} | PACKAGES
    allowed = {"airflow", "psutil", "upath", "yaml", *helpers, *sys.stdlib_module_names}
    assert _imported(DAGS / name) - allowed == set()


@pytest.mark.parametrize("name", OF_PACKAGES)
def test_a_package_of_dags_imports_what_the_image_of_airflow_has(name: str) -> None:
    """The provider of Kubernetes with what it requires, and what looks at tables."""
    required = {"aiohttp", "kubernetes", "kubernetes_asyncio", "pydantic", "urllib3", "yaml"}
    required |= {"psutil"} if "launchers" in name else {"deltalake", "pyiceberg"}
    helpers = {helper.removesuffix(".py") for helper in HELPERS} | PACKAGES
    allowed = {"airflow", "upath", *required, *helpers, *sys.stdlib_module_names}
    assert _imported(DAGS / name) - allowed == set()


@pytest.mark.parametrize("name", [*DAG_FILES, *HELPERS, *OF_PACKAGES])
def test_paths_and_settings_come_from_one_module(name: str) -> None:
    """Only ranking_assets reads the environment or joins a path from parts."""
    source = (DAGS / name).read_text()
    found = [text for text in ("os.environ", "os.path", "s3://", '"var"') if text in source]
    assert found == [] or name == "ranking_assets.py"


def test_data_are_at_the_root_and_what_is_of_this_machine_is_not(monkeypatch, tmp_path) -> None:
    """Flags and assets name the same places, whatever the root is."""
    monkeypatch.setenv("RANKING_VAR", str(tmp_path / "var"))
    for root, place in (
        ("s3://bucket/prefix", "s3://bucket/prefix"),
        (f"file:{tmp_path}/data", f"{tmp_path}/data"),
        ("", f"{tmp_path}/var"),
    ):
        monkeypatch.setenv("RANKING_ROOT", root)
        found = runpy.run_path(str(DAGS / "ranking_assets.py"))
        assert f"--lake={found['FOLDERS']['lake']}" == f"--lake={place}/lake"
        uri = place if "://" in place else f"file://{place}"
        (data_set,) = found["DATA_SETS"]
        assert data_set.asset("examples").uri == f"{uri}/lake/{data_set.name}/examples"
        assert found["folder_flags"]("lake tracking") == [
            f"--lake={place}/lake",
            f"--tracking={tmp_path}/var/mlflow",
        ]


def test_a_job_on_another_machine_has_folders_of_its_own(monkeypatch) -> None:
    """Of what is no data: Airflow's own folder is not there."""
    monkeypatch.setenv("RANKING_ROOT", "s3://bucket")
    monkeypatch.setenv("RANKING_LAUNCHER", "kubernetes")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow")
    found = runpy.run_path(str(DAGS / "ranking_assets.py"))
    assert found["folder_flags"]("lake tracking") == ["--lake=s3://bucket/lake"]


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANKING_LAUNCHER": "docker"}, "RANKING_LAUNCHER 'docker': one of .*'process', 'kube"),
        ({"RANKING_ROOT": "/var/ranking"}, "RANKING_ROOT /var/ranking: a disk; .* needs a bucket"),
        ({"MLFLOW_TRACKING_URI": ""}, "MLFLOW_TRACKING_URI: not set; .* needs a server"),
    ],
)
def test_on_kubernetes_nothing_is_kept_in_a_pod(monkeypatch, environment, message) -> None:
    """A deployment that would lose its data says so before a task runs."""
    given = {
        "RANKING_LAUNCHER": "kubernetes",
        "RANKING_ROOT": "s3://bucket/prefix",
        "MLFLOW_TRACKING_URI": "http://mlflow",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    found = runpy.run_path(str(DAGS / "ranking_assets.py"))
    shared = {name: value for name, value in given.items() if name != "RANKING_LAUNCHER"}
    assert shared.items() <= found["shared_environment"]().items()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        runpy.run_path(str(DAGS / "ranking_assets.py"))


def test_helpers_are_not_parsed_as_dag_files() -> None:
    """Airflow would import each of them every half minute."""
    assert "ranking_*.py" in (DAGS / ".airflowignore").read_text().splitlines()


def test_the_logs_facts_equal_their_schemas(tmp_path) -> None:
    """The DAGs read some facts of each schema file, because they import no package of ours."""
    from ranking_settings import logs as ranking_logs

    from features.datasets.catalog import data_set_at, data_set_of, names

    orders = Path(__file__).parents[1] / "support" / "labels" / "orders.yaml"
    immature = tmp_path / "immature.yaml"
    declared = orders.read_text().replace("name: orders", "name: immature")
    delay = "    delay: 2h\n"
    correction = "    immature: {correction: inverse_probability}\n"
    immature.write_text(declared.replace(delay, delay + correction))
    for data_set in [*map(data_set_of, names()), *map(data_set_at, [orders, immature])]:
        schema, source = data_set.schema, data_set.source
        assert ranking_logs.log_of(schema.name, [orders, immature]) == ranking_logs.Log(
            first_day=schema.first_day,
            last_day=schema.last_day,
            holdout_days=schema.holdout_days,
            suffix=source.landed_suffix,
            source=_facts(source),
            events={name: one.landed_suffix for name, one in data_set.label_sources.items()},
            maturity_days=schema.maturity_days,
            learns_immature=schema.label.immature is not None,
        )


def _facts(source) -> dict[str, str]:
    facts = {
        "format": source.format,
        "path": source.path,
        "partition": source.partition,
        "marker": source.ready.marker if source.ready else "",
        "column": source.time.column,
        "unit": source.time.unit,
    }
    return {key: value or "" for key, value in facts.items()}


def test_a_schedule_finds_the_schema_files_of_a_site(tmp_path, monkeypatch) -> None:
    from ranking_settings import logs as ranking_logs

    file = tmp_path / "shop.yaml"
    file.write_text(
        "first_day: 2025-03-01\nholdout_days: 2\nsource: {reader: shop, suffix: log.gz}\n"
    )
    for place in (tmp_path, file):
        monkeypatch.setenv("RANKING_SCHEMAS", f"/nowhere.yaml:{place}")
        monkeypatch.setenv("RANKING_DATASETS", "shop")
        log = runpy.run_path(str(DAGS / "ranking_assets.py"))["DATA_SETS"][0].log
        assert (log.first_day, log.last_day) == (datetime.date(2025, 3, 1), None)
        assert (log.holdout_days, log.suffix) == (2, "log.gz")
    with pytest.raises(ValueError, match=r"'shopp': unknown; .*shop.yaml.*movielens-100k.yaml"):
        ranking_logs.log_of("shopp", [tmp_path])


@pytest.mark.parametrize("text", ["", "[]", "first_day: 2025-03-01", "source: [", "source: csv"])
def test_a_file_without_the_facts_of_a_schedule_is_named(tmp_path, text) -> None:
    from ranking_settings import logs as ranking_logs

    (tmp_path / "shop.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"shop.yaml: is no schema file; `python -m features desc"):
        ranking_logs.log_of("shop", [tmp_path])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"2025-03-01", b"2025-13-01"),
        (b"2025-03-01", b"'2025-03-01'"),
        (b"2025-03-01", b"2025-03-01T00:00:00"),
        (b"holdout_days: 2", b"holdout_days: two"),
        (b"holdout_days: 2", b"holdout_days: true"),
        (b"holdout_days: 2", b"holdout_days: 2\nlast_day: soon"),
        (b"format: csv", b"format: 3"),
        (b"csv", b"\xff"),
    ],
)
def test_a_fact_of_another_type_is_an_error_with_the_files_name(tmp_path, old, new) -> None:
    from ranking_settings import logs as ranking_logs

    text, file = b"first_day: 2025-03-01\nholdout_days: 2\nsource: {format: csv}\n", "shop.yaml"
    (tmp_path / file).write_bytes(text)
    assert ranking_logs.log_of("shop", [tmp_path]).suffix == "csv"
    (tmp_path / file).write_bytes(text.replace(old, new))
    with pytest.raises(ValueError, match=r"shop.yaml: is no schema file; `python -m features desc"):
        ranking_logs.log_of("shop", [tmp_path])


def test_an_entry_point_whose_package_is_not_there_is_named(monkeypatch) -> None:
    from ranking_settings import logs as ranking_logs

    point = importlib.metadata.EntryPoint("shop", "not_there.schemas", "wukong_ranking.schemas")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point])
    with pytest.raises(ValueError, match=r"package not_there.schemas \(entry point shop\): is no"):
        ranking_logs.log_of("shop", [])


def test_every_alert_has_its_runbook() -> None:
    """Each page that an alert can name exists."""
    import ranking_alerts

    from features.parity.commands import ALERT
    from training.evaluation.gate import RECALIBRATE

    runbooks = DAGS.parent / "infra" / "runbooks"
    named = re.findall(r'runbook="([a-z-]+)"', "".join(map(Path.read_text, FEATURES.rglob("*.py"))))
    assert {"day-missing", "day-not-landed", "schema-changed"} <= {*named}
    pages = {*ranking_alerts.RUNBOOKS.values(), *named, "job-failed", "lease-waits", "disk-full"}
    pages |= {RECALIBRATE, ALERT}
    assert [page for page in sorted(pages) if not (runbooks / f"{page}.md").exists()] == []


def _imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found
