"""The Spark session of every job, and the Spark side of the schema's types.

A session is one of three, by Spark's own environment variables:

    neither         a JVM of the job's own, on all cores of this machine
    SPARK_MASTER    a driver of the job's own, its executors at that master, such as
                    ``k8s://https://…``; PYSPARK_SUBMIT_ARGS has their number and size, and
                    SPARK_LOCAL_IP the address at which they find the driver
    SPARK_REMOTE    no JVM: a session on the Spark Connect server at that address, such as
                    ``sc://localhost:15002``, which many jobs share; where the address names a
                    session (``/;session_id=UUID``), jobs of the same code share that as well

SPARK_CONNECT_AUTHENTICATE_TOKEN is the token of a server that asks for one.
"""

import atexit
import os
import re
import socket
import sys
import urllib.parse
import uuid
from pathlib import Path

from pyspark.sql import SparkSession
from pyspark.sql.types import (
    ArrayType,
    DataType,
    DoubleType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from features.lake import spark_source
from features.schema import (
    CREATED,
    EVENT_TIMESTAMP,
    EXAMPLE_ID,
    EXAMPLE_KEY,
    SOURCE_FILE,
    SOURCE_LINE,
    Column,
    Dtype,
    FeatureTable,
    Schema,
)

_TYPES: dict[Dtype, DataType] = {
    Dtype.INT64: LongType(),
    Dtype.FLOAT64: DoubleType(),
    Dtype.STRING: StringType(),
    Dtype.TIMESTAMP: TimestampType(),
    Dtype.INT64_LIST: ArrayType(LongType()),
    Dtype.STRING_LIST: ArrayType(StringType()),
    Dtype.FLOAT64_LIST: ArrayType(DoubleType()),
}

LAPTOP_CONF = {
    "spark.driver.memory": "1536m",
    "spark.sql.shuffle.partitions": "4",
    # Few, small jobs: the optimising compiler would cost more seconds than it saves, and the serial
    # collector keeps the heap small. On a cluster both are left to the submit command.
    # That compiler alone would have 48 MB for its code; a long job fills them, and then compiles
    # no more.
    "spark.driver.extraJavaOptions": (
        "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -Xss4m"
    ),
}
CLASS_ARCHIVE = Path(sys.prefix) / "spark-classes.jsa"
"""Classes that the JVM maps instead of loading; written by ``make install``, and may be missing."""
SESSION_CONF = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    # Partitions of a range are listed by the driver: a job for that costs more than the listing.
    "spark.sql.sources.parallelPartitionDiscovery.threshold": "2000",
}
"""Settings that results depend on, in every session, also on a server started elsewhere."""
DRIVER_CONF = {
    "spark.sql.catalogImplementation": "in-memory",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    # Else each expression asks the JVM several times, to note the line of Python that made it.
    "spark.python.sql.dataFrameDebugging.enabled": "false",
}
"""Settings that are fixed when a driver starts."""
_CONNECT_PORT = 15002
"""Spark's own, where an address names none."""
_ANSWER_SECONDS = 5.0
PACKAGES = "RANKING_SPARK_PACKAGES"
"""Variable: Maven coordinates of what Spark loads besides its own jars, separated by commas."""
_SESSION_ID = re.compile(r";session_id=([0-9a-fA-F-]{36})")
_PACKAGE = Path(__file__).parents[1]


def driver_conf() -> dict[str, str]:
    """What is fixed when a driver starts, with the packages that this deployment names."""
    packages = os.environ.get(PACKAGES)
    return {**DRIVER_CONF, **({"spark.jars.packages": packages} if packages else {})}


def start_session(name: str, **conf: str) -> SparkSession:
    """A session as every job uses it: by default local, with all cores.

    Args:
        name: Name of the job, as Spark shows it.
        conf: Settings that win over the defaults; dots of the key written as underscores.

    Raises:
        ConnectionError: SPARK_REMOTE names an address where nothing answers.
        ValueError: SPARK_REMOTE is no address, or SPARK_MASTER is set too.
    """
    builder = SparkSession.builder.appName(name).config(map=dict(SESSION_CONF))
    for key, value in conf.items():
        builder = builder.config(key.replace("_", "."), value)
    if remote := os.environ.get("SPARK_REMOTE", ""):
        return _remote_session(builder, remote)
    os.environ.pop("SPARK_REMOTE", None)  # Spark takes an empty one for an address
    # Workers must run this interpreter; Spark would start whatever `python3` is first on the path.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    master = os.environ.get("SPARK_MASTER", "")
    defaults = driver_conf() if master else {**driver_conf(), **local_conf()}
    given = {key.replace("_", ".") for key in conf}
    builder = builder.config(map={k: v for k, v in defaults.items() if k not in given})
    spark = builder.master(master or "local[*]").getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    spark_source.register(spark)
    return spark


def local_conf() -> dict[str, str]:
    """Settings of a driver on this machine: small, and quick to start."""
    if not CLASS_ARCHIVE.exists():
        return LAPTOP_CONF
    options = LAPTOP_CONF["spark.driver.extraJavaOptions"]
    shared = f"{options} -XX:SharedArchiveFile={CLASS_ARCHIVE} -Xshare:auto -Xlog:disable"
    return {**LAPTOP_CONF, "spark.driver.extraJavaOptions": shared}


def _remote_session(builder: SparkSession.Builder, remote: str) -> SparkSession:
    """A session on a Spark Connect server; the job's own is released when its process ends."""
    if os.environ.get("SPARK_MASTER"):
        raise ValueError(f"SPARK_REMOTE {remote!r}: SPARK_MASTER is set too; unset one of the two")
    _require_answer(remote)
    shared = _SESSION_ID.search(remote)
    if shared:
        remote = remote.replace(shared[0], f";session_id={_session_of_code(shared[1])}")
    spark = builder.remote(remote).getOrCreate()
    spark.release_session_on_close = not shared  # type: ignore[attr-defined]  # of its client
    atexit.register(spark.stop)
    spark_source.register(spark)
    return spark


def _session_of_code(session_id: str) -> uuid.UUID:
    """The session that jobs share until a module of the features is edited.

    Spark keeps a session's Python workers for the next job, with what they have imported.
    """
    edited = max(path.stat().st_mtime_ns for path in _PACKAGE.rglob("*.py"))
    return uuid.uuid5(uuid.UUID(session_id), str(edited))


def _require_answer(remote: str) -> None:
    """Check the address: Spark's client would retry for ten minutes before it reports an error."""
    address = urllib.parse.urlsplit(remote)
    try:
        host, port = address.hostname, address.port or _CONNECT_PORT
    except ValueError:
        host, port = None, 0  # the port is no number
    if address.scheme != "sc" or not host:
        raise ValueError(f"SPARK_REMOTE {remote!r}: not an address such as sc://localhost:15002")
    try:
        socket.create_connection((host, port), timeout=_ANSWER_SECONDS).close()
    except OSError as error:
        raise ConnectionError(
            f"SPARK_REMOTE {remote}: no Spark Connect server answers on {host}:{port} ({error}); "
            "start it, or unset SPARK_REMOTE for a session of the job's own"
        ) from error


def spark_type(dtype: Dtype) -> DataType:
    """Spark's type of a schema's type."""
    return _TYPES[dtype]


def struct_of(columns: tuple[Column, ...]) -> StructType:
    """A Spark struct with these columns, in their order, all nullable."""
    return StructType([StructField(c.name, _TYPES[c.dtype]) for c in columns])


def impressions_struct(schema: Schema) -> StructType:
    """Row type of the impression tables."""
    return StructType(
        [StructField(EXAMPLE_ID, LongType()), *struct_of(schema.impression_columns()).fields]
    )


def landed_struct(schema: Schema) -> StructType:
    """Row type of raw impressions: with where each has landed, and of what its id is derived."""
    struct = impressions_struct(schema)
    if schema.example_id:
        struct = struct.add(EXAMPLE_KEY, StringType())
    return struct.add(SOURCE_FILE, StringType()).add(SOURCE_LINE, LongType())


def feature_struct(schema: Schema, table: FeatureTable) -> StructType:
    """Row type of a feature table: its key, both times, the columns."""
    key = schema.key_of(table)
    return StructType(
        [
            StructField(key.name, _TYPES[key.dtype]),
            StructField(EVENT_TIMESTAMP, TimestampType()),
            StructField(CREATED, TimestampType()),
            *struct_of(table.columns).fields,
        ]
    )
