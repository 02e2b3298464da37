"""Rows of a user in a table of the lake: found, and days written again without them.

A day keeps its order, its row groups and what its files say of it. Its content hash is that of a
day which never had the rows: the hashes of what goes are taken out of the sums of what was there.
"""

import dataclasses
import datetime
import json
import uuid
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from features.erasure.marks import Marks, Mask, without
from features.lake.commit import REWRITES, Metadata, commit
from features.lake.day_file import DayFile
from features.lake.day_rows import (
    FOOTER,
    FileDescription,
    Partition,
    WrittenFile,
    partition_of,
    written_file,
)
from features.lake.snapshot import Snapshot
from features.lake.spark_files import hash_sums
from features.schema import DAY

HashSums = Callable[[Sequence[pa.Table]], list[tuple[int, int]]]
"""Of some rows each the sum of their hashes, and the exclusive or of the hashes of those."""


@dataclasses.dataclass(frozen=True)
class Found:
    """What of a day is a user's."""

    rows: int
    """The user's own."""
    named_in: int
    """Rows of others with a list that names the user."""

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.rows or self.named_in)

    def __add__(self, other: "Found") -> "Found":
        return Found(self.rows + other.rows, self.named_in + other.named_in)


NOTHING = Found(0, 0)


def found_by_day(found: Snapshot, marks: Marks) -> dict[datetime.date, Found]:
    """Days of a version that have rows of a user, or name the user, with how many."""
    counted = {
        day: sum((found_in(found.filesystem, path, marks) for path in found.files(day)), NOTHING)
        for day in found.days
    }
    return {day: of_day for day, of_day in counted.items() if of_day}


def found_in(filesystem: object, path: str, marks: Marks) -> Found:
    """What a Parquet file has of a user; it is read row group by row group."""
    total = NOTHING
    with pq.ParquetFile(path, filesystem=filesystem) as file:
        columns = marks.columns(file.schema_arrow.names)
        for group in range(file.num_row_groups if columns else 0):
            rows = row_group(file, group, columns)
            mask = marks.mask(rows)
            named = marks.named_in(rows)
            total += Found(int(mask.sum()), int((_is_named(named, len(rows)) & ~mask).sum()))
    return total


def row_group(file: pq.ParquetFile, group: int, columns: Sequence[str]) -> pa.Table:
    """Columns of a row group; texts as Arrow's functions take them, whoever has written the file.

    delta-rs writes texts as views when it deletes rows or joins files, which many cannot read.
    """
    rows = file.read_row_group(group, columns=list(columns))
    fields = [
        field.with_type(pa.string()) if pa.types.is_string_view(field.type) else field
        for field in rows.schema
    ]
    return rows.cast(pa.schema(fields))


def rows_of(found: Snapshot, days: Sequence[datetime.date], marks: Marks) -> list[pa.Table]:
    """The user's own rows of some days, with all columns."""
    tables = (found.read(day) for day in days)
    return [table.filter(pa.array(marks.mask(table))) for table in tables]


def without_rows(
    found: Snapshot,
    days: Sequence[datetime.date],
    marks: Marks,
    *,
    hash_sums_of: HashSums,
    metadata: Metadata,
) -> list[Partition]:
    """Commit a version in which some days have nothing of a user; returns what they have then.

    Args:
        found: The version to go on from.
        days: Days of ``found_by_day``.
        marks: Which rows are the user's.
        hash_sums_of: The hashes of rows, as those were made that are in the files' footers.
        metadata: What the log says of the commit, in addition to days, rows, hashes, and what the
            days were made of. Nothing that follows from them becomes stale.

    Raises:
        ConflictError: Another job has replaced one of the days meanwhile.
    """
    paths = [(day, path) for day in days for path in found.files(day)]
    changes = [_changes_of(found, path, marks) for _, path in paths]
    removed = hash_sums_of([gone for gone, _ in changes])
    added = hash_sums_of([come for _, come in changes])
    sums = [
        (plus[0] - minus[0], plus[1] ^ minus[1]) for minus, plus in zip(removed, added, strict=True)
    ]
    expected = [
        _without(found, day, path, *change, of_file)
        for (day, path), change, of_file in zip(paths, changes, sums, strict=True)
    ]
    descriptions = {day: _description(found, day, expected) for day in days}
    files = [
        _rewritten(found, day, path, marks, descriptions[day], of_file)
        for (day, path), of_file in zip(paths, sums, strict=True)
    ]
    parts = [partition_of(found.root.name, day, files, descriptions[day]) for day in days]
    made_of = {str(day): inputs for day in days if (inputs := found.made_of(day)) is not None}
    said = {
        REWRITES: "a user erased",
        "made_of": {day: dict(inputs) for day, inputs in made_of.items()},
        "rows": {str(part.day): part.rows for part in parts},
        "content_hashes": {str(part.day): part.content_hash for part in parts},
    }
    commit(
        found.root,
        files,
        found.numbers(days),
        struct=found.schema_json,
        metadata={**metadata, **said},
    )
    return parts


def spark_hash_sums(session: Callable[[], SparkSession], struct: str) -> HashSums:
    """Hashes of rows by Spark, as ``write_frame`` makes them; no session where there are no rows.

    Args:
        session: Starts Spark.
        struct: Columns of the table, as JSON that Spark and Delta share.
    """
    fields = [f for f in StructType.fromJson(json.loads(struct)).fields if f.name != DAY]

    def sums(tables: Sequence[pa.Table]) -> list[tuple[int, int]]:
        if not any(map(len, tables)):
            return [(0, 0)] * len(tables)
        return hash_sums(session(), tables, StructType(fields))

    return sums


def _without(
    found: Snapshot,
    day: datetime.date,
    path: str,
    gone: pa.Table,
    come: pa.Table,
    sums: tuple[int, int],
) -> WrittenFile:
    """What a file will say of its rows."""
    before = written_file(day, found.metadata(path).metadata[FOOTER])
    return dataclasses.replace(
        before,
        rows=before.rows - len(gone) + len(come),
        hash_sum=before.hash_sum + sums[0],
        hash_xor=before.hash_xor ^ sums[1],
    )


def _description(
    found: Snapshot, day: datetime.date, expected: Sequence[WrittenFile]
) -> FileDescription:
    part = found.partition(day)
    description = FileDescription.of(part)
    after = partition_of(part.table, day, expected, description).content_hash
    stands_for = {day: (part.stands_for or part.content_hash, after)}
    return dataclasses.replace(description, stands_for=stands_for)


def _changes_of(found: Snapshot, path: str, marks: Marks) -> tuple[pa.Table, pa.Table]:
    """Rows of a file that go or change, as they are; and those that changed, as they will be."""
    gone, come = [], []
    with pq.ParquetFile(path, filesystem=found.filesystem) as file:
        schema = file.schema_arrow.remove_metadata()
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group).replace_schema_metadata(None)
            kept, is_changed, mask = _cleaned(rows, marks)
            gone.append(rows.filter(pa.array(mask | is_changed)))
            come.append(kept.filter(pa.array(is_changed[~mask])))
    empty = schema.empty_table()
    return pa.concat_tables([empty, *gone]), pa.concat_tables([empty, *come])


def _rewritten(
    found: Snapshot,
    day: datetime.date,
    path: str,
    marks: Marks,
    description: FileDescription,
    sums: tuple[int, int],
) -> WrittenFile:
    """A file again, without what is the user's."""
    with pq.ParquetFile(path, filesystem=found.filesystem) as file:
        schema = file.schema_arrow
        before = written_file(day, file.metadata.metadata[FOOTER])
        made = DayFile(found.root, uuid.uuid4().hex, day, schema, description)
        total, mixed = before.hash_sum + sums[0], before.hash_xor ^ sums[1]
        made.append(schema.remove_metadata().empty_table(), total, mixed)
        for group in range(file.num_row_groups):
            rows, _, _ = _cleaned(file.read_row_group(group).replace_schema_metadata(None), marks)
            made.append(rows, 0)
            made.end_row_group()
    return made.finish()


def _cleaned(rows: pa.Table, marks: Marks) -> tuple[pa.Table, Mask, Mask]:
    """The rows that stay, without the user in their lists; which changed, and which go."""
    mask, named = marks.mask(rows), marks.named_in(rows)
    kept = rows
    for name, places in named.items():
        cleaned = without(rows.column(name).combine_chunks(), places)
        kept = kept.set_column(kept.schema.get_field_index(name), kept.field(name), cleaned)
    return kept.filter(pa.array(~mask)), _is_named(named, len(rows)) & ~mask, mask


def _is_named(named: Mapping[str, list[list[int]]], num_rows: int) -> Mask:
    found = np.zeros(num_rows, dtype=np.bool_)
    for places in named.values():
        found |= np.array([bool(one) for one in places], dtype=np.bool_)
    return found
