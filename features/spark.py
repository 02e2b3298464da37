"""The Spark session of every job, and the Spark side of the schema's types."""

import os
import sys
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

from features.schema import (
    CREATED,
    EVENT_TIMESTAMP,
    EXAMPLE_ID,
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
    "spark.sql.catalogImplementation": "in-memory",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    # Partitions of a range are listed by the driver: a job for that costs more than the listing.
    "spark.sql.sources.parallelPartitionDiscovery.threshold": "2000",
}


def start_session(name: str, **conf: str) -> SparkSession:
    """A session as every job uses it: local with both cores unless SPARK_MASTER says otherwise.

    Args:
        name: Name of the job, as Spark shows it.
        conf: Settings that win over the defaults; dots of the key written as underscores.
    """
    # Workers must run this interpreter; Spark would start whatever `python3` is first on the path.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    master = os.environ.get("SPARK_MASTER", "")
    builder = SparkSession.builder.appName(name).config(map=dict(SESSION_CONF))
    if not master:
        laptop: dict[str, bool | float | int | str | None] = {**LAPTOP_CONF}
        if CLASS_ARCHIVE.exists():
            shared = f" -XX:SharedArchiveFile={CLASS_ARCHIVE} -Xshare:auto -Xlog:disable"
            options = LAPTOP_CONF["spark.driver.extraJavaOptions"]
            laptop["spark.driver.extraJavaOptions"] = options + shared
        builder = builder.master("local[*]").config(map=laptop)
    else:
        builder = builder.master(master)
    for key, value in conf.items():
        builder = builder.config(key.replace("_", "."), value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def spark_type(dtype: Dtype) -> DataType:
    """The Spark type of a column type."""
    return _TYPES[dtype]


def struct_of(columns: tuple[Column, ...]) -> StructType:
    """A Spark struct with these columns, in their order, all nullable."""
    return StructType([StructField(c.name, spark_type(c.dtype)) for c in columns])


def impressions_struct(schema: Schema) -> StructType:
    """Row type of the impression tables."""
    return StructType(
        [StructField(EXAMPLE_ID, LongType()), *struct_of(schema.impression_columns()).fields]
    )


def feature_struct(schema: Schema, table: FeatureTable) -> StructType:
    """Row type of a feature table: the entity's id, both times, the columns."""
    entity = schema.entity(table.role)
    return StructType(
        [
            StructField(entity.name, spark_type(entity.dtype)),
            StructField(EVENT_TIMESTAMP, TimestampType()),
            StructField(CREATED, TimestampType()),
            *struct_of(table.columns).fields,
        ]
    )
