"""One version of a table that others write: Delta or Iceberg, on a disk or in an object store.

Both are read as Arrow, file by file. A version does not change: what a day was made of can be read
again as long as the owner of the table keeps it.
"""

import datetime
import functools
import os
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from features.places import Place, place, uri
from features.runbooks import RunbookError

if TYPE_CHECKING:
    from pyiceberg.table import FileScanTask

_READ = pads.ParquetReadOptions(coerce_int96_timestamp_unit="us")
Bound = datetime.datetime | datetime.date | int | str
"""A value of the column by which days are told apart."""


class TableVersion(Protocol):
    """One version of a table."""

    version: int
    """By which it can be opened again: Delta's version, Iceberg's snapshot."""

    @property
    def schema(self) -> pa.Schema:
        """Its columns."""

    def all_files(self) -> list[str]:
        """Its data files, by name."""

    def files(self, column: str, low: Bound, high: Bound | None) -> list[str]:
        """Data files that may have rows with ``low <= column < high``, by name."""

    def content(self, column: str, low: Bound, high: Bound | None) -> list[str]:
        """The same, and files that say which of their rows are deleted; none of them changes."""

    def batches(self, file: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Columns of a data file, row after row."""


class DeltaVersion:
    """Of a Delta table; files are named below its folder."""

    def __init__(self, where: Place, version: int | None = None) -> None:
        """Open the newest version, or one; RunbookError where it cannot be read."""
        try:
            self._table = DeltaTable(uri(where), version=version)
            self._dataset: pads.Dataset = self._table.to_pyarrow_dataset(parquet_read_options=_READ)
        except TableNotFoundError as error:
            raise _not_there(where, "Delta") from error
        except DeltaError as error:
            raise RunbookError(
                f"table {where}: cannot be read as Delta: {error}", runbook="day-not-landed"
            ) from error
        self.version: int = self._table.version()

    @property
    def schema(self) -> pa.Schema:
        """As the log has it; partition columns too."""
        return self._dataset.schema

    def all_files(self) -> list[str]:
        """As the log lists them."""
        return sorted(self._fragments)

    def files(self, column: str, low: Bound, high: Bound | None) -> list[str]:
        """By the partition, or by the statistics of each file in the log."""
        found = pc.field(column) >= pa.scalar(low, self.schema.field(column).type)
        if high is not None:
            found &= pc.field(column) < pa.scalar(high, self.schema.field(column).type)
        return sorted(fragment.path for fragment in self._dataset.get_fragments(filter=found))

    def content(self, column: str, low: Bound, high: Bound | None) -> list[str]:
        """The data files: deltalake opens no table that has other deletions."""
        return self.files(column, low, high)

    def batches(self, file: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """With what the file lacks: partition columns, and those that are newer than it as null."""
        yield from self._fragments[file].to_batches(schema=self.schema, columns=list(columns))

    @functools.cached_property
    def _fragments(self) -> dict[str, pads.Fragment]:
        return {fragment.path: fragment for fragment in self._dataset.get_fragments()}


class IcebergVersion:
    """Of an Iceberg table, by its newest metadata file; no catalog is asked."""

    def __init__(self, where: Place, version: int | None = None) -> None:
        """Open the newest snapshot, or one; RunbookError where it cannot be read."""
        from pyiceberg.table import StaticTable

        self._table = StaticTable.from_metadata(uri(_newest_metadata(where)), _io_properties())
        newest = self._table.current_snapshot()
        self.version: int = version or (newest.snapshot_id if newest else 0)

    @property
    def schema(self) -> pa.Schema:
        """Of the newest metadata."""
        return self._table.schema().as_arrow()

    def all_files(self) -> list[str]:
        """As the manifests list them; none of a table without a snapshot."""
        return sorted(self._all_tasks)

    def files(self, column: str, low: Bound, high: Bound | None) -> list[str]:
        """By the partitions, which may be hidden ones of the column, and by the statistics."""
        return sorted(self._tasks_between(column, low, high))

    def content(self, column: str, low: Bound, high: Bound | None) -> list[str]:
        """With the files of deletions, which do not change the name of a data file."""
        tasks = self._tasks_between(column, low, high)
        deletions = {file.file_path for task in tasks.values() for file in task.delete_files}
        return [*sorted(tasks), *sorted(deletions)]

    def batches(self, file: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Without the rows that were deleted from it since."""
        from pyiceberg.expressions import AlwaysTrue
        from pyiceberg.io.pyarrow import ArrowScan

        projection = self._table.scan(selected_fields=tuple(columns)).projection()
        scan = ArrowScan(self._table.metadata, self._table.io, projection, AlwaysTrue())
        yield from scan.to_record_batches([self._all_tasks[file]])

    def _tasks_between(
        self, column: str, low: Bound, high: Bound | None
    ) -> "dict[str, FileScanTask]":
        from pyiceberg.expressions import And, GreaterThanOrEqual, LessThan

        condition = GreaterThanOrEqual(column, _literal(low))
        if high is not None:
            condition = And(condition, LessThan(column, _literal(high)))
        return self._tasks(row_filter=condition)

    @functools.cached_property
    def _all_tasks(self) -> "dict[str, FileScanTask]":
        return self._tasks()

    def _tasks(self, **conditions: object) -> "dict[str, FileScanTask]":
        if not self.version:
            return {}
        scan = self._table.scan(snapshot_id=self.version, **conditions)
        return {task.file.file_path: task for task in scan.plan_files()}


def open_version(form: str, where: Place, version: int | None = None) -> TableVersion:
    """The newest version of a ``delta`` or ``iceberg`` table, or one; raises RunbookError."""
    return (DeltaVersion if form == "delta" else IcebergVersion)(where, version)


def place_of_file(where: Place, file: str) -> Place:
    """Where a data file of a table lies: Delta names it below the table's folder."""
    return place(file) if "://" in file or file.startswith("/") else where / file


def _newest_metadata(where: Place) -> Place:
    """The metadata file with the highest number, as catalogs and Hadoop's tables number them."""
    if where.name.endswith(".metadata.json"):
        return where
    folder = where / "metadata"
    numbers: dict[int, list[Place]] = {}
    for file in folder.glob("*.metadata.json") if folder.exists() else ():
        if found := re.match(r"v?(\d+)[.-]", file.name):
            numbers.setdefault(int(found[1]), []).append(file)
    if not numbers:
        raise _not_there(where, "Iceberg")
    newest = sorted(numbers[max(numbers)])
    if len(newest) > 1:
        raise RunbookError(
            f"table {where}: {newest[0].name} and {newest[1].name} have the same number, and only "
            "its catalog knows which counts; name that file in source.path",
            runbook="day-not-landed",
        )
    return newest[0]


def _io_properties() -> dict[str, str]:
    """Arrow's file system, with the server that the variables of AWS name."""
    variables = {"s3.endpoint": "AWS_ENDPOINT_URL", "s3.region": "AWS_REGION"}
    given = {name: os.environ.get(variable, "") for name, variable in variables.items()}
    io = {"py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO"}
    return io | {name: value for name, value in given.items() if value}


def _literal(value: Bound) -> Bound:
    return value if isinstance(value, int) else str(value).replace(" ", "T")


def _not_there(where: Place, form: str) -> RunbookError:
    return RunbookError(f"table {where}: there is no {form} table", runbook="day-not-landed")
