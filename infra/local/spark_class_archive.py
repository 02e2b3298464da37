"""Writes the archive of loaded classes with which Spark's JVM starts sooner.

``make install`` runs it once. A job without the archive, or with another Java, starts as usual
(https://docs.oracle.com/en/java/javase/17/vm/class-data-sharing.html).
"""

import datetime
import sys
import tempfile
from pathlib import Path

from pyspark.sql import Window
from pyspark.sql import functions as F

from features.spark.session import CLASS_ARCHIVE, LAPTOP_CONF, start_session


def main() -> None:
    """Run queries like those of the jobs, then let the JVM end and write what it has loaded."""
    CLASS_ARCHIVE.unlink(missing_ok=True)
    options = LAPTOP_CONF["spark.driver.extraJavaOptions"]
    archive = f"{options} -XX:ArchiveClassesAtExit={CLASS_ARCHIVE} -Xlog:cds=off -Xlog:cds*=off"
    spark = start_session("share classes", spark_driver_extraJavaOptions=archive)
    day = datetime.date(2025, 1, 1)
    rows = spark.createDataFrame(
        [(1, day, [1, 2]), (2, day, [])], "id long, day date, items array<long>"
    )
    window = Window.partitionBy("id").orderBy("day").rowsBetween(-2, 0)
    counted = (
        rows.withColumn("n", F.sum("id").over(window)).groupBy("day").agg(F.max("n"), F.count("*"))
    )
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "rows")
        rows.repartition("day").write.partitionBy("day").parquet(path)
        spark.read.schema(rows.schema).parquet(path).join(counted, "day").cache().toPandas()
    gateway = spark.sparkContext._gateway  # PySpark has no public way to wait for its JVM
    assert gateway is not None
    process = gateway.proc
    spark.stop()
    gateway.shutdown()
    process.stdin.close()
    process.wait(timeout=120)
    sys.stderr.write(f"classes of Spark shared in {CLASS_ARCHIVE.name}\n")


if __name__ == "__main__":
    main()
