"""What the suite shares: one Spark session, and one small generated log made into examples."""

import dataclasses
import datetime
import gc
import logging
import os
import pickle
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import prometheus_client  # noqa: F401 - before Feast, which decides for it where values are kept
import pytest
from support import forks, kinds
from support.features import py4j_lookups
from support.object_store import anywhere, object_store, stopped_object_store  # noqa: F401 - fixtures

from features.datasets.catalog import schema_of
from features.schema import Schema

# All imports of the suite come first; the collector finds nothing among them and takes a third of
# the time. `pytest_collection_finish` turns it on.
gc.disable()
# Before the first import of Airflow, which reads its configuration then and writes a default one.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-home-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
# Half a minute for each architecture; tests of native code ask for it.
os.environ.setdefault("RANKING_COMPILE", "off")
# Tests of lineage ask for events; they would lie in this folder.
os.environ.setdefault("OPENLINEAGE_DISABLED", "true")
# Before torch is loaded: workers of pytest-xdist that have a thread for each core wait for each
# other, awake, in the smallest operation.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
CONNECT_TOKEN = "a-token-of-the-tests"


@pytest.fixture(scope="session")
def spark(stopped_object_store: object) -> Iterator[object]:  # noqa: F811 - a fixture
    from features.spark.session import start_session

    # Its finalizers log when pytest has closed the streams.
    logging.getLogger("py4j").setLevel(logging.ERROR)
    py4j_lookups.remember()
    session = start_session(
        "tests",
        spark_driver_memory="2g",
        spark_sql_shuffle_partitions="2",
        # On some thousand rows, compiling the plan of a query takes longer than the query. The
        # whole day compiles them.
        spark_sql_codegen_wholeStage="false",
        spark_sql_codegen_factoryMode="NO_CODEGEN",
        spark_sql_adaptive_enabled="false",
        # For the line of each column in an error of a query, five calls to the JVM at each column.
        spark_python_sql_dataFrameDebugging_enabled="false",
        # For the tests of jobs that share a server; a port of the system's choice, on loopback.
        spark_plugins="org.apache.spark.sql.connect.SparkConnectPlugin",
        spark_connect_grpc_binding_address="127.0.0.1",
        spark_connect_grpc_binding_port="0",
        spark_connect_authenticate_token=CONNECT_TOKEN,
    )
    yield session
    session.stop()


@pytest.fixture(scope="session")
def spark_remote(spark: Any) -> dict[str, str]:
    """Environment in which another process uses the tests' Spark as a Spark Connect server."""
    scala_object = getattr(spark._jvm, "org.apache.spark.sql.connect.service.SparkConnectService$")
    port = getattr(scala_object, "MODULE$").localPort()
    return {
        "SPARK_REMOTE": f"sc://localhost:{port}",
        "SPARK_CONNECT_AUTHENTICATE_TOKEN": CONNECT_TOKEN,
    }


@dataclasses.dataclass(frozen=True)
class Built:
    """A log of six days, taken all the way to examples."""

    schema: Schema
    root: Path
    days: list[datetime.date]
    best_log_loss: float

    @property
    def lake(self) -> Path:
        return self.root / "lake"

    @property
    def landing(self) -> Path:
        return self.root / "landing"


@pytest.fixture(scope="session")
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The log made into examples; by one of the workers, where pytest-xdist has several."""
    if not hasattr(request.config, "workerinput"):
        return _build(request.getfixturevalue("spark"), tmp_path_factory.mktemp("built"))
    shared = tmp_path_factory.getbasetemp().parent
    done = shared / "built.pickle"
    with filelock.FileLock(shared / "built.lock"):
        if not done.exists():
            root = shared / "built"
            done.write_bytes(pickle.dumps(_build(request.getfixturevalue("spark"), root)))
    return pickle.loads(done.read_bytes())


def _build(spark: Any, root: Path) -> Built:
    from features.datasets.readers import reader_of
    from features.lake.lake import Lake, day_range
    from features.pipeline import jobs
    from features.pipeline.ingestion.ingest import ingest
    from features.pipeline.workspace import Workspace
    from features.validation import checks

    schema = schema_of("synthetic")
    found = reader_of(schema).fetch(
        root / "landing" / schema.name, rows=6_000, users=150, items=60, days=6, seed=3
    )
    days = day_range(schema.first_day, schema.first_day + datetime.timedelta(days=5))
    work = Workspace(spark, schema, Lake(root / "lake", schema.name))
    ingest(work, root / "landing", days)
    outcome = checks.check_impressions(work, days, root / "reports")
    assert not outcome.critical
    jobs.publish_features(work, jobs.build(work, root / "landing", days), days)
    jobs.examples(work, days)
    return Built(schema, root, days, float(found["best_log_loss"]))


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark and sort tests; skip what is marked ``gpu`` on a machine without a CUDA device."""
    kinds.mark(items)
    kinds.sort(items)
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Collect garbage from now on, and none of what the imports made; fork the server of forks."""
    gc.enable()
    gc.freeze()
    # Feast sets them, and processes of tests would keep their metrics in shared files.
    for name in ("PROMETHEUS_MULTIPROCESS_DIR", "PROMETHEUS_MULTIPROC_DIR"):
        os.environ.pop(name, None)
    trains = any(item.get_closest_marker("distributed") for item in session.items)
    forks.serve(["support.preloaded"] if trains else [])


_started = kinds.Started()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Hold tests to their kind."""
    _started.take()
    result = yield
    kinds.require_marker(item, _started.take())
    return result
