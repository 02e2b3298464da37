"""Delta tables of the lake as a Spark data source named ``delta``, where Delta's own jar is absent.

Spark has no way to read a Delta table without that jar. With this source, a batch source of Feast
with ``DeltaFormat`` reads a table as its newest version, or ``versionAsOf``, has it. It reads only.
"""

import json
from collections.abc import Iterator, Sequence

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition
from pyspark.sql.types import StructType

from features.lake.snapshot import Snapshot, snapshot
from features.lake.spark_files import FileReader
from features.places import place, uri


class DeltaSource(DataSource):
    """Option ``path``: the table's folder; ``versionAsOf``: a version, else the newest."""

    @classmethod
    def name(cls) -> str:
        """The name of the format."""
        return "delta"

    def schema(self) -> StructType:
        """All columns of the table, ``day`` among them."""
        return StructType.fromJson(json.loads(self._snapshot.schema_json))

    def reader(self, schema: StructType) -> "DeltaReader":
        """What reads the version."""
        return DeltaReader(self._snapshot, schema)

    @property
    def _snapshot(self) -> Snapshot:
        version = self.options.get("versionAsOf")
        return snapshot(place(self.options["path"]), int(version) if version else None)


class DeltaReader(DataSourceReader):
    """Reads the files of one version, a task a file.

    It takes no filters: Spark 4.3 keeps a filtered reader for the whole frame, and rows get lost.
    """

    def __init__(self, found: Snapshot, schema: StructType) -> None:
        """Args: the version, and the columns to read."""
        files = [(day, path) for day in found.days for path in found.files(day)]
        self._num_files = len(files)
        self._read = FileReader(uri(found.root), files, schema)

    def partitions(self) -> Sequence[InputPartition]:
        """The files."""
        return [InputPartition(number) for number in range(self._num_files)]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """The rows of a file, with their day."""
        # A table without files has one partition, None.
        if partition is not None:
            yield from self._read.rows(partition.value)


def register(spark: SparkSession) -> None:
    """Let a session read ``delta``, where it has no source of Delta's own."""
    if "delta" not in (spark.conf.get("spark.sql.extensions", "") or ""):
        spark.dataSource.register(DeltaSource)
