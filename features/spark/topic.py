"""A Kafka topic by Spark's own connector, which the image has or a setting gets.

A day is the messages with the day's timestamps; a message is a JSON object.
"""

import datetime
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyspark
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from features.schema import DAY, SOURCE_FILE, SOURCE_LINE
from features.spark.session import PACKAGES

_CONNECTOR = "spark-sql-kafka-0-10"
_ONE_DAY = datetime.timedelta(days=1)


def read_topic(
    spark: SparkSession,
    servers: str,
    topic: str,
    days: Sequence[datetime.date],
    columns: Mapping[str, str],
    types: StructType,
) -> DataFrame:
    """Messages of some days, with ``day`` and where each landed: its partition and its offset.

    A message that is no object has nulls alone.

    Args:
        spark: The session.
        servers: Bootstrap servers.
        topic: The topic.
        days: By the timestamps of the messages, UTC.
        columns: The columns to read: each one's name in the result, and in the objects.
        types: Of the values, as they are named in the objects.

    Raises:
        ValueError: Spark has no connector.
    """
    options = {
        "kafka.bootstrap.servers": servers,
        "subscribe": topic,
        "startingTimestamp": str(_milliseconds(min(days))),
        "endingTimestamp": str(_milliseconds(max(days) + _ONE_DAY)),
        # Of a partition that has had no message since then there is nothing to read.
        "startingOffsetsByTimestampStrategy": "latest",
    }
    try:
        messages = spark.read.format("kafka").options(**options).load()
    except AnalysisException as error:
        if "DATA_SOURCE_NOT_FOUND" not in str(error) and "find data source" not in str(error):
            raise
        raise ValueError(f"topic {topic}: {_WITHOUT_CONNECTOR}") from error
    parsed = messages.withColumn("row", F.from_json(F.col("value").cast("string"), types))
    return parsed.select(
        *(F.col("row")[landed].alias(name) for name, landed in columns.items()),
        F.concat_ws("/", F.lit("topic"), "topic", "partition").alias(SOURCE_FILE),
        F.col("offset").alias(SOURCE_LINE),
        F.to_date("timestamp").alias(DAY),
    ).where(F.col(DAY).isin(list(days)))


def why_no_connector(environment: Mapping[str, str] = os.environ) -> str:
    """Why a Spark of this process cannot read a topic; empty where it can."""
    if environment.get("SPARK_REMOTE"):
        return ""  # what the server has is seen when it is asked
    home = Path(environment.get("SPARK_HOME") or Path(pyspark.__file__).parent)
    has_jar = any((home / "jars").glob(f"{_CONNECTOR}*.jar"))
    return "" if has_jar or _CONNECTOR in environment.get(PACKAGES, "") else _WITHOUT_CONNECTOR


_WITHOUT_CONNECTOR = (
    f"this Spark has no Kafka connector; put {_CONNECTOR} of Spark {pyspark.__version__} with what "
    f"it needs into the folder of Spark's jars, or set {PACKAGES}=org.apache.spark:{_CONNECTOR}"
    f"_2.13:{pyspark.__version__}, which gets it from a Maven repository"
)


def _milliseconds(day: datetime.date) -> int:
    return (day - datetime.date(1970, 1, 1)) // _ONE_DAY * 86_400_000
