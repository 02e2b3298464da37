"""Small days of a table, written and committed without Spark."""

import datetime
import shutil
import uuid

import pyarrow as pa
from deltalake import Schema

from features.lake.commit import commit
from features.lake.day_file import DayFile
from features.lake.day_rows import FileDescription, WrittenFile
from features.lake.snapshot import Snapshot, snapshot
from features.places import Place
from features.schema import DAY

UNLEARNT = shutil.ignore_patterns("_pins", "_learnt")
"""For a copy of a lake that tests share: without what trainings of other tests have left there."""
MONDAY = datetime.date(2025, 1, 6)
COLUMNS = pa.schema([("id", pa.int64()), ("who", pa.string())])


def struct_of(columns: pa.Schema = COLUMNS) -> str:
    return Schema.from_arrow(columns.append(pa.field(DAY, pa.date32()))).to_json()


def written(root: Place, day: datetime.date, num_rows: int, who: str = "") -> WrittenFile:
    """A file that no version names yet."""
    file = DayFile(root, uuid.uuid4().hex, day, COLUMNS, FileDescription("print"))
    rows = {"id": list(range(num_rows)), "who": [who] * num_rows}
    file.append(pa.table(rows, schema=COLUMNS), num_rows)
    return file.finish()


def replaced(root: Place, *days: datetime.date, rows: int = 2, who: str = "", **metadata) -> int:
    """Commit some days; returns the version."""
    base = snapshot(root).numbers(days)
    files = [written(root, day, rows, who) for day in days]
    return commit(root, files, base, struct=struct_of(), metadata={"job": who, **metadata})


def rows_of(found: Snapshot, *days: datetime.date) -> list[tuple[str, int]]:
    """Who wrote each of some days, and how many rows it has."""
    tables = [found.read(day) for day in days]
    return [(table.column("who")[0].as_py(), len(table)) for table in tables]


def put(root: Place, day: datetime.date, rows: pa.Table, **metadata) -> int:
    """Commit a day of a table with any columns; returns the version."""
    file = DayFile(root, uuid.uuid4().hex, day, rows.schema, FileDescription("print"))
    file.append(rows, hash(str(rows.to_pylist())) & 0xFFFFFFFF)
    base = snapshot(root).numbers([day])
    return commit(root, [file.finish()], base, struct=struct_of(rows.schema), metadata=metadata)
