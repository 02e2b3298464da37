"""Compaction: a day's many files become one, with the same rows in the same order.

delta-rs' own compaction writes files without our footers and takes no new number for the day. This
one copies row group after row group: the content hash stays, and whoever reads the day reads the
same row groups in the same order, so that a training which was killed before goes on after it.
"""

import contextlib
import datetime
import uuid
from collections.abc import Sequence

import pyarrow.parquet as pq

from features.lake.commit import REWRITES, Metadata, commit
from features.lake.day_file import DayFile
from features.lake.day_rows import FOOTER, FileDescription, WrittenFile, written_file
from features.lake.snapshot import Snapshot, snapshot
from features.places import Place


def scattered_days(found: Snapshot, *, most_rows: int) -> list[datetime.date]:
    """Days of several files, which one of at most ``most_rows`` rows could hold."""
    several = [day for day in found.days if len(found.files(day)) > 1]
    rows = found.partitions(several)
    return [day for day in several if rows[day].rows <= most_rows]


def compact(root: Place, days: Sequence[datetime.date], *, metadata: Metadata) -> None:
    """Commit a version in which each of some days has one file.

    Raises:
        ConflictError: Another job has replaced one of the days meanwhile.
    """
    found = snapshot(root)
    files = [_merged(found, day) for day in days]
    said = {**metadata, REWRITES: "files joined"}
    commit(root, files, found.numbers(days), struct=found.schema_json, metadata=said)


def _merged(found: Snapshot, day: datetime.date) -> WrittenFile:
    description = FileDescription.of(found.partition(day))
    with contextlib.ExitStack() as stack:
        files = [
            stack.enter_context(pq.ParquetFile(path, filesystem=found.filesystem))
            for path in found.files(day)
        ]
        schema = files[0].schema_arrow
        merged = DayFile(found.root, uuid.uuid4().hex, day, schema, description)
        for file in files:
            of_file = written_file(day, file.metadata.metadata[FOOTER])
            merged.append(schema.empty_table(), of_file.hash_sum, of_file.hash_xor)
            for group in range(file.num_row_groups):
                merged.append(file.read_row_group(group), 0)
                merged.end_row_group()
    return merged.finish()
