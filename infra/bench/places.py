"""How much slower the lake is on S3 than on a disk: the same rows, written and read by Spark.

The store is SeaweedFS on loopback, whose data lie on the same disk: what is measured is the path
through S3, not a network.
"""

import datetime
import os
import time
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from features.lake.lake import Lake
from features.places import Place, place, remove_folder, uri
from features.schema import DAY
from features.spark.session import start_session
from infra.local.servers import ObjectStore

_DAY = datetime.date(2025, 1, 1)
_NUMBERS = 17
_FILES = 5


def against_s3(rows: int, folder: Place) -> dict[str, float]:
    """Seconds of writing and reading on both places, and ``s3_ratio``.

    Args:
        rows: Of one day, with 20 columns, one of them an array.
        folder: Where the data lie; removed at the end.
    """
    with ObjectStore(Path(uri(folder / "store"))) as store:
        # Before the JVM starts: its tasks have its environment.
        os.environ.update(store.environment)
        spark = start_session("places", spark_driver_memory="8g")
        try:
            # The first rows pay for the start of Spark's workers.
            _seconds(spark, folder / "warm", min(rows, 100_000))
            file = _seconds(spark, folder / "file", rows)
            s3 = _seconds(spark, place(f"{store.uri}/lake"), rows)
        finally:
            spark.stop()
    remove_folder(folder)
    return {
        **{f"file_{name}_seconds": round(value, 2) for name, value in file.items()},
        **{f"s3_{name}_seconds": round(value, 2) for name, value in s3.items()},
        "s3_ratio": round(sum(s3.values()) / sum(file.values()), 2),
    }


def _seconds(spark: SparkSession, root: Place, rows: int) -> dict[str, float]:
    lake, frame = Lake(root, "places"), _rows(spark, rows)
    started = time.perf_counter()
    lake.replace(frame, "rows", [_DAY], keys=["id"], files_per_day=_FILES)
    written = time.perf_counter()
    read = lake.read(spark, "rows", frame.drop(DAY).schema, [_DAY])
    # All columns are read, and none is kept.
    read.write.format("noop").mode("overwrite").save()
    return {"write": written - started, "read": time.perf_counter() - written}


def _rows(spark: SparkSession, rows: int) -> DataFrame:
    noise = [F.xxhash64(F.col("id"), F.lit(n)).alias(f"n{n}") for n in range(_NUMBERS)]
    history = F.transform(F.sequence(F.lit(0), F.col("id") % 20), lambda n: n + F.col("id"))
    return spark.range(rows).select("id", *noise, history.alias("history"), F.lit(_DAY).alias(DAY))
