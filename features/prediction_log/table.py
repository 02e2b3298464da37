"""The log as a Delta table, partitioned by day and hour: several processes append to it at once.

An append changes nothing that is there, so delta-rs' own rules on who wins are enough: of two
commits at one moment the second is tried again behind the first. On S3 a commit is a conditional
write. A process that is killed while it writes leaves a file that no version names; ``tidy``
removes it.
"""

import collections
import datetime
import functools
import random
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from features.lake.commit import Vacuumed, vacuum
from features.lake.snapshot import open_table
from features.places import Place, uri
from features.prediction_log.columns import HOUR, PARTITIONS, arrow_schema
from features.schema import DAY, Schema

NAME = "predictions"
"""Of the table's folder, below that of the data set."""
_TRIES = 20
_COMMIT_TRIES = 20
_ANSWERS_AT_ONCE = 500
_LOOKED_BACK = 1000
"""Newest commits among which one is looked for that may have counted before its error."""
_PROPERTIES = {
    # Each process commits once a minute: a month of them would make every look at the log slow.
    "delta.logRetentionDuration": "interval 7 days",
    # An answer's id begins with its time: of the files of an hour, few can have it.
    "delta.dataSkippingStatsColumns": "answer_id,answered_at",
}
_Changed = TypeVar("_Changed")
_WRITER = WriterProperties(compression="ZSTD")


def table_root(folder: Place, dataset: str) -> Place:
    """Where the log of a data set is, below the folder of all logs."""
    return folder / dataset / NAME


class LogTable:
    """The log of a data set as one process appends to it."""

    def __init__(self, folder: Place, schema: Schema) -> None:
        """Args: the folder of all logs, and the data set's schema; nothing is opened yet."""
        self.root = table_root(folder, schema.name)
        self.columns = arrow_schema(schema)
        self._table: DeltaTable | None = None

    def open(self) -> None:
        """Open the table; make it where it is not there.

        Raises:
            OSError: The place cannot be made or reached.
            ValueError: The table has a column of another type.
        """
        try:
            self._table = open_table(self.root) or self._created()
        except DeltaError as error:
            raise OSError(f"RANKING_LOG_FOLDER: {self.root}: cannot be opened: {error}") from error
        there = {field.name: field.type for field in pa.schema(self._table.schema().to_arrow())}
        for field in self.columns:
            if there.get(field.name, field.type) != field.type:
                raise ValueError(
                    f"{self.root}: column {field.name}: {field.type}; the log has it as "
                    f"{there[field.name]}: name another RANKING_LOG_FOLDER, or move this one away"
                )

    def append(self, rows: pa.Table, *, metadata: Mapping[str, object]) -> int:
        """Append rows, which readers see together; returns the version.

        Args:
            rows: With the columns of ``columns.arrow_schema`` and the partitions.
            metadata: What the log of commits says of this one, under names of ours.

        Raises:
            OSError: The place cannot be reached, or others were first in each of 20 tries.
        """
        if self._table is None:
            raise ValueError(f"{self.root}: not open; open it first")
        token = uuid.uuid4().hex
        properties = CommitProperties(
            custom_metadata={**metadata, "token": token}, max_commit_retries=_COMMIT_TRIES
        )
        try:
            try:
                _appended(self._table, rows, properties)
            except DeltaError:
                # Commits that lead from this version to the newest are removed after a while:
                # who has written nothing for longer must read the table anew.
                self._table = open_table(self.root) or self._created()
                if not any(one.get("token") == token for one in self._table.history(_LOOKED_BACK)):
                    _appended(self._table, rows, properties)
        except DeltaError as error:
            raise OSError(f"{self.root}: not written: {error}") from error
        return int(self._table.version())

    def _created(self) -> DeltaTable:
        partitions = [pa.field(DAY, pa.date32()), pa.field(HOUR, pa.int32())]
        try:
            return DeltaTable.create(
                uri(self.root),
                pa.schema([*self.columns, *partitions]),
                partition_by=list(PARTITIONS),
                mode="error",
                name=NAME,
                configuration=_PROPERTIES,
            )
        except DeltaError:
            # Of several processes that start together one makes it.
            if found := open_table(self.root):
                return found
            raise


class Tidied(NamedTuple):
    """What ``tidy`` has done."""

    merged_files: int
    """Small files that were written together."""
    into_files: int
    expired_files: int
    """Files of days that are over."""
    deleted: Vacuumed
    """What was removed from the place."""


def tidy(root: Place, *, until: datetime.date, keep_days: int, grace_hours: int) -> Tidied | None:
    """Write the small files of finished hours together, and let old days go.

    Writers go on meanwhile: they only add files, and this one names the files that it replaces.

    Args:
        root: The table's folder.
        until: The newest day that is over: days after it are left alone.
        keep_days: So many days stay, ``until`` among them.
        grace_hours: Files that no version names are deleted when they are older: more than a
            write and the longest reader take.

    Returns:
        What was done; None where there is no table.
    """
    table = open_table(root)
    if table is None:
        return None
    first = until - datetime.timedelta(days=keep_days - 1)
    expire = functools.partial(table.delete, f"{DAY} < '{first}'")
    expired = _until_committed(table, expire)
    merged = []
    for day in _scattered(table, until):
        compact = functools.partial(table.optimize.compact, [(DAY, "=", str(day))])
        merged.append(_until_committed(table, compact))
    return Tidied(
        merged_files=sum(one["numFilesRemoved"] for one in merged),
        into_files=sum(one["numFilesAdded"] for one in merged),
        expired_files=expired["num_removed_files"],
        deleted=vacuum(root, hours=grace_hours),
    )


def delete_answers(table: DeltaTable, answers: Sequence[str]) -> None:
    """Remove all rows of some answers; the files before stay until a vacuum.

    Raises:
        OSError: Others commit all the time.
    """
    for start in range(0, len(answers), _ANSWERS_AT_ONCE):
        some = answers[start : start + _ANSWERS_AT_ONCE]
        quoted = ", ".join("'" + one.replace("'", "''") + "'" for one in some)
        delete = functools.partial(
            table.delete, f"answer_id IN ({quoted})", writer_properties=_WRITER
        )
        _until_committed(table, delete)


def _appended(table: DeltaTable, rows: pa.Table, properties: CommitProperties) -> None:
    write = functools.partial(
        write_deltalake,
        table,
        rows,
        mode="append",
        # A schema that has grown brings columns that the table does not have.
        schema_mode="merge",
        partition_by=list(PARTITIONS),
        commit_properties=properties,
        writer_properties=_WRITER,
    )
    _until_committed(table, write)


def _scattered(table: DeltaTable, until: datetime.date) -> list[datetime.date]:
    """Days that are over and have an hour of several files."""
    actions = table.get_add_actions(flatten=True)
    parts = zip(
        *(actions.column(f"partition.{name}").to_pylist() for name in PARTITIONS), strict=True
    )
    files = collections.Counter(part for part in parts if part[0] <= until)
    return sorted({day for (day, _), number in files.items() if number > 1})


def _until_committed(table: DeltaTable, change: Callable[[], _Changed]) -> _Changed:
    """Make a change of the table; where another one was first, of the table as it is then.

    Such as an append while another process has added columns. What failed so was not committed.
    """
    for attempt in range(_TRIES):
        try:
            return change()
        except CommitFailedError as error:
            failed = error
            time.sleep(random.uniform(0, 0.05 * (attempt + 1)))
            table.update_incremental()
    raise OSError(f"not committed in {_TRIES} tries, the last: {failed}") from failed
