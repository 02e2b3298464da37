"""Jobs that share one Spark server, as in the local stack, compared with a job that has its own."""

import datetime
import os
import shutil
import socket
import uuid

import pytest
from support import forks
from support.lake_rows import UNLEARNT

from features.lake.lake import EXAMPLES, IMPRESSIONS, Lake
from features.pipeline import jobs
from features.pipeline.workspace import Workspace
from features.spark import session
from features.spark.session import start_session
from features.validation import checks

DAY = datetime.date(2025, 1, 1)
NUM_DAYS = 2
"""Of the log that is built, to build again: days do not depend on later ones."""
_JOBS = """
import sys
from features.__main__ import main

COMMANDS = {
    "ingest": "landing lake",
    "validate --table=impressions": "lake docs",
    "build": "landing lake",
    "validate --table=features": "lake docs",
    "examples": "lake",
}
folders = dict(flag.removeprefix("--").split("=") for flag in sys.argv[1:4])
for command, names in COMMANDS.items():
    flags = [f"--{name}={folders[name]}" for name in names.split()]
    assert main([*command.split(), *flags, *sys.argv[4:]]) == 0, command
"""
"""A day's Spark jobs in one process, which imports once."""


@pytest.fixture(scope="module")
def over_connect(spark_remote, built, tmp_path_factory) -> Lake:
    """The lake that the same jobs write from the same log, as clients of a Spark Connect server."""
    root = tmp_path_factory.mktemp("connect")
    folders = {"landing": built.landing, "lake": root / "lake", "docs": root / "reports"}
    flags = [f"--{name}={folder}" for name, folder in folders.items()]
    span = (f"--date={built.days[0]}", f"--to={built.days[NUM_DAYS - 1]}")
    script = root / "jobs.py"
    script.write_text(_JOBS)
    command = [str(script), *flags, f"--dataset={built.schema.name}", *span]
    done = forks.run(command, {**os.environ, **spark_remote})
    assert done.returncode == 0, done.stderr[-3000:]
    return Lake(root / "lake", built.schema.name)


_SETTINGS = """
from features.spark.session import start_session
spark = start_session("try")
names = ("spark.master", "spark.driver.host", "spark.executor.instances", "spark.executor.memory")
print(*(spark.conf.get(name) for name in names))
"""


@pytest.mark.process
def test_a_driver_takes_its_master_and_its_executors_from_the_environment(tmp_path) -> None:
    """As the launcher on Kubernetes gives them; the small settings of one machine do not apply."""
    script = tmp_path / "settings.py"
    script.write_text(_SETTINGS)
    given = ("driver.host=127.0.0.2", "executor.instances=3", "executor.memory=700m")
    options = " ".join(f"--conf spark.{one}" for one in given)
    environment = {"SPARK_MASTER": "local[1]", "SPARK_LOCAL_IP": "127.0.0.2"}
    environment["PYSPARK_SUBMIT_ARGS"] = f"{options} pyspark-shell"
    done = forks.run([str(script)], {**os.environ, **environment})
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["local[1]", "127.0.0.2", "3", "700m"]


@pytest.mark.spark
def test_a_day_over_spark_connect_has_the_same_content_hashes(built, over_connect) -> None:
    """Where Spark runs is no part of a result."""
    own = Lake(built.lake, built.schema.name)
    tables = [IMPRESSIONS, *(table.name for table in built.schema.tables), EXAMPLES]
    written = [(name, day) for name in tables for day in over_connect.days(name)]
    assert [day for name, day in written if name == EXAMPLES] == built.days[:NUM_DAYS]
    for name, day in written:
        assert over_connect.manifest(name, day) == own.manifest(name, day)


@pytest.fixture
def lake(tmp_path, spark):
    """A table of one day with a row whose value is the given one."""
    made = Lake(tmp_path / "lake", "made")

    def write(value: int) -> None:
        rows = spark.createDataFrame([(DAY, value)], "day date, value bigint")
        made.replace(rows, "table", [DAY], keys=["value"])

    write.lake = made
    return write


def _values(spark, lake: Lake):
    struct = spark.createDataFrame([], "value bigint").schema
    return lake.read(spark, "table", struct, [DAY])


@pytest.mark.spark
def test_rows_that_one_session_caches_are_not_read_for_a_newer_partition(spark, lake) -> None:
    """A job that was killed leaves its cache on the server; the next one must not read from it."""
    lake(1)
    other = spark.newSession()
    cached = _values(other, lake.lake).cache()
    assert cached.count() == 1
    lake(2)
    assert [row.value for row in _values(spark, lake.lake).collect()] == [2]
    cached.unpersist()


@pytest.mark.spark
def test_a_check_frees_its_own_cache_and_no_other_sessions(spark, built, tmp_path) -> None:
    """Two checks may run side by side on one server."""
    cached = spark.range(3).cache()
    assert cached.count() == 3
    before = _num_cached(spark)
    shutil.copytree(built.lake, tmp_path / "lake", ignore=UNLEARNT)
    work = Workspace(spark, built.schema, Lake(tmp_path / "lake", built.schema.name))
    jobs.build(work, built.landing, built.days[-1:])
    assert len(checks.check_features(work, built.days[-1:], tmp_path)) == 2
    assert _num_cached(spark) == before
    cached.unpersist()


def _num_cached(spark) -> int:
    return spark._jsc.sc().getPersistentRDDs().size()


_SESSION = """
from features.spark.session import start_session

spark = start_session("one of many")
assert spark.range(3).count() == 3
print(spark.session_id)
"""


@pytest.mark.spark
def test_jobs_share_a_session_that_the_address_names(spark_remote, tmp_path) -> None:
    """Spark starts Python workers for each session anew, and keeps them while the server runs."""
    script = tmp_path / "job.py"
    script.write_text(_SESSION)

    def session_of(suffix: str) -> str:
        remote = spark_remote["SPARK_REMOTE"] + suffix
        done = forks.run([str(script)], {**os.environ, **spark_remote, "SPARK_REMOTE": remote})
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    named = f"/;session_id={uuid.uuid4()}"
    first = session_of(named)
    assert session_of(named) == first
    assert session_of("") != first


def test_an_edited_module_gives_another_session(monkeypatch, tmp_path) -> None:
    """A warm worker still has the old code."""
    (tmp_path / "module.py").touch()
    monkeypatch.setattr(session, "_PACKAGE", tmp_path)
    given = str(uuid.uuid4())
    before = session._session_of_code(given)
    assert session._session_of_code(given) == before
    os.utime(tmp_path / "module.py", ns=(0, 1))
    assert session._session_of_code(given) != before


@pytest.mark.spark
def test_an_empty_address_is_none(spark, monkeypatch) -> None:
    """A job's own session, as without the variable."""
    monkeypatch.setenv("SPARK_REMOTE", "")
    assert start_session("own", spark_sql_shuffle_partitions="2").sparkContext is spark.sparkContext


@pytest.mark.parametrize(
    ("remote", "master", "message"),
    [
        ("sc://localhost:{port}", "", r"SPARK_REMOTE sc://.*: no Spark Connect server answers on"),
        ("localhost:15002", "", "SPARK_REMOTE 'localhost:15002': not an address such as sc://"),
        ("sc://localhost:15x2", "", "SPARK_REMOTE 'sc://localhost:15x2': not an address such as"),
        ("sc://localhost:15002", "local", "SPARK_REMOTE .*: SPARK_MASTER is set too"),
    ],
)
def test_an_address_where_no_server_is_fails_at_once_and_is_named(
    remote, master, message, monkeypatch
) -> None:
    """Spark's own client would try for ten minutes."""
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        monkeypatch.setenv("SPARK_REMOTE", remote.format(port=unheard.getsockname()[1]))
        monkeypatch.setenv("SPARK_MASTER", master)
        with pytest.raises((ConnectionError, ValueError), match=message):
            start_session("no server")
