"""What has landed, and pages: where a user is that nothing here may remove."""

import datetime
import re
from collections.abc import Callable, Iterator

import pyarrow.fs as pafs
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from features.datasets.readers import Reader, reader_of
from features.erasure.person import Person
from features.places import Place, arrow_file
from features.schema import SOURCE_FILE, TableKind

_PAGES = (".html", ".json", ".csv", ".md")
_LARGEST_PAGE = 64 * 2**20
_FIRST_DAY = datetime.date(1970, 1, 2)
"""No row is older, and engines that count nanoseconds have it."""


def landed_rows(
    person: Person, landing: Place, session: Callable[[], SparkSession]
) -> dict[str, int]:
    """Rows of a user among what has landed, by file below the data set's landing folder.

    Everything is read. Nothing can be said of a topic.

    Args:
        person: The user.
        landing: Where it lands.
        session: Starts Spark; it is not, where nothing has landed.
    """
    reader, folder = reader_of(person.schema), landing / person.schema.name
    paths = reader.landed_since(folder, _FIRST_DAY)
    if not paths:
        return {}
    found: dict[str, int] = {}
    frames = {"impressions": reader.read_parts(session(), folder, paths)}
    frames |= dict(_events(reader, person, folder, session()))
    frames |= dict(_attributes(reader, person, folder, session()))
    for name, frame in frames.items():
        found |= _counted(frame, name, person)
    return found


def _events(
    reader: Reader, person: Person, folder: Place, spark: SparkSession
) -> Iterator[tuple[str, DataFrame]]:
    """Events that have the user's id, of the days of which all events have landed."""
    user = person.schema.user
    names = {path.name[:10] for path in (folder / "impressions").glob("????-??-??*")}
    days = [datetime.date.fromisoformat(name) for name in sorted(names)]
    there = [day for day in days if all(file.exists() for file in reader.event_files(folder, day))]
    for label in person.schema.later_labels if there else ():
        if user and user.name in label.join:
            yield f"labels/{label.name}", reader.read_events(spark, label, folder, there)


def _attributes(
    reader: Reader, person: Person, folder: Place, spark: SparkSession
) -> Iterator[tuple[str, DataFrame]]:
    schema = person.schema
    for table in schema.tables_of(TableKind.ATTRIBUTES):
        if schema.key_of(table) == schema.user:
            yield table.name, reader.read_attributes(spark, folder, table)


def _counted(frame: DataFrame, name: str, person: Person) -> dict[str, int]:
    user = person.schema.user
    if user is None or user.name not in frame.columns:
        return {}
    rows = frame.where(F.col(user.name) == F.lit(person.user_id))
    if SOURCE_FILE not in frame.columns:
        number = rows.count()
        return {name: number} if number else {}
    counts = rows.groupBy(SOURCE_FILE).count().collect()
    return {row[SOURCE_FILE] or name: int(row["count"]) for row in counts}


def pages_with(folder: Place, text: str) -> list[str]:
    """Pages below a folder in which a text stands by itself, as a number or a word."""
    files, path = arrow_file(folder)
    entries = files.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
    wanted = re.compile(rb"(?<![\w.-])" + re.escape(text.encode()) + rb"(?![\w.-])")
    found = []
    for entry in entries:
        is_page = entry.is_file and entry.path.endswith(_PAGES) and entry.size <= _LARGEST_PAGE
        if is_page:
            with files.open_input_stream(entry.path) as stream:
                if wanted.search(stream.read()):
                    found.append(entry.path.removeprefix(f"{path}/"))
    return sorted(found)
