"""A small data set with one user in every place, made without Spark; and a search for the user."""

import contextlib
import datetime
import hashlib
import json
import sqlite3
import uuid
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import Schema as DeltaSchema

from features.datasets.schema_files.build import read_data_set
from features.lake.candidate import Candidate
from features.lake.commit import commit
from features.lake.day_file import DayFile
from features.lake.day_rows import FileDescription, WrittenFile
from features.lake.pins import put_pin
from features.lake.snapshot import snapshot
from features.online_store import feast_store
from features.places import Place, place
from features.prediction_log.columns import HOUR, arrow_schema
from features.prediction_log.hashed_ids import IdHash
from features.prediction_log.table import LogTable
from features.schema import CREATED, DAY, EVENT_TIMESTAMP, Dtype, Schema

GONE, STAYS = "gone|7f3a-was-here", "stays-11bb"
"""Users; the bar has to be escaped in a key of two."""
LOG_KEY = b"k" * 32
DAYS = [datetime.date(2025, 3, 1) + datetime.timedelta(days=n) for n in range(3)]
"""The user is there on the first two."""
NOON = datetime.datetime(2025, 3, 1, 12, tzinfo=datetime.UTC)
SCHEMA = """\
name: visits
doc: Visits.
licence: ours
first_day: 2025-03-01
holdout_days: 1
epoch: 2024-01-01
user: {name: visitor, type: string, kind: sparse, hash_size: 1000, doc: Who.}
item: {name: article, type: string, kind: sparse, hash_size: 1000, doc: What.}
request: {name: page, type: string, doc: The page.}
stored:
  bought: {type: int64, minimum: 0, maximum: 1, doc: Whether it was bought.}
labels:
  sale: {column: bought, positive_from: 1, delay: 1h, prior_rate: 0.2}
  kept:
    source: {format: csv, time: {column: at, unit: seconds}}
    join: [page, article]
    window: 36h
    delay: 2h
target: sale
tables:
  - {kind: user_state, history_length: 5, ttl: 30d, delay: 5m}
  - {kind: item_daily, windows_days: [1], ttl: 7d, delay: 2h}
  - kind: aggregates
    name: taste
    by: [visitor, article]
    windows_days: [1]
    ttl: 7d
    delay: 2h
    columns: {taste_shown: {of: impressions, kind: count}}
  - kind: aggregates
    name: buyers
    by: [article]
    ttl: 7d
    delay: 2h
    histories: {buyer: {of: impressions, length: 5, columns: [visitor, age]}}
limits:
  min_positive_rate: 0
  max_positive_rate: 1
  min_share_of_trailing_rows: 0
  max_times_trailing_rows: 9
source:
  format: csv
  time: {column: at, unit: seconds}
"""


def schema_in(folder: Path) -> Schema:
    """The schema, written and read."""
    file = folder / "visits.yaml"
    file.write_text(SCHEMA)
    return read_data_set(file).schema


def sums_of(tables: list[pa.Table]) -> list[tuple[int, int]]:
    """What rows add to a footer's sums, of their text instead of Spark's hash."""
    found = []
    for table in tables:
        total = mixed = 0
        for row in table.to_pylist():
            digest = hashlib.sha256(repr(sorted(row.items())).encode()).digest()
            total += int.from_bytes(digest[:7], "little")
            mixed ^= int.from_bytes(digest[8:15], "little")
        found.append((total, mixed))
    return found


def rows_by_table(day: datetime.date, *, has_user: bool = True) -> dict[str, pa.Table]:
    """Some rows of each table on a day, with the user or as if there had never been one."""
    users = [GONE, STAYS] if has_user else [STAYS]
    pages = [f"page-{user[0]}-{day}" for user in users]
    ids = {"example_id": [hash_of(f"{user} {day}") for user in users]}
    log = pa.table({**ids, "visitor": users, "page": pages, "article": ["a"] * len(users)})
    events = pa.table({"page": pages, "article": ["a"] * len(users)})
    state = pa.table({"visitor": users, "num": [1] * len(users)})
    escaped = {GONE: "gone\\|7f3a-was-here", STAYS: STAYS}
    keys = [f"{escaped[user]}|a" for user in users]
    taste = pa.table({"by_visitor_and_article": keys, "taste_shown_all": [1] * len(users)})
    lists = {"buyer_visitor": [users, [STAYS]], "buyer_age": [[*range(len(users))], [9]]}
    lists["buyer_age"] = [[5, 6] if has_user else [6], [9]]
    buyers = pa.table({"article": ["a", "b"], **lists})
    changed = [[{"column": "article", "before": json.dumps({"value": "x"}), "after": ""}]]
    readmitted = pa.table({**ids, "changes": changed * len(users)})
    return {
        "impressions_raw": log,
        "impressions": log,
        "quarantine_impressions": log,
        "quarantine_readmitted_impressions": readmitted,
        "labels_kept_raw": events,
        "labels_kept": events,
        "user_state": state,
        "taste": taste,
        "buyers": buyers,
        "examples": log.append_column("buyer_visitor", pa.array([[STAYS]] * len(users))),
    }


def hash_of(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "little")


def written(root: Place, day: datetime.date, rows: pa.Table) -> WrittenFile:
    """A file of two row groups that no version names yet."""
    file = DayFile(root, uuid.uuid4().hex, day, rows.schema, FileDescription("print"))
    ((total, mixed),) = sums_of([rows])
    file.append(rows.slice(0, 1), total, mixed)
    file.end_row_group()
    file.append(rows.slice(1), 0)
    return file.finish()


def committed(root: Place, days: dict[datetime.date, pa.Table]) -> None:
    first = next(iter(days.values())).schema
    struct = DeltaSchema.from_arrow(first.append(pa.field(DAY, pa.date32()))).to_json()
    files = [written(root, day, rows) for day, rows in days.items()]
    numbers = snapshot(root).numbers(list(days))
    commit(root, files, numbers, struct=struct, metadata={"job": "test", "inputs": {}})


def make_lake(lake: Place, schema: Schema) -> None:
    """Three days of each table, the second replaced once; a pinned version, and a candidate."""
    root = lake / schema.name
    for name, rows in rows_by_table(DAYS[0]).items():
        others = rows_by_table(DAYS[1])[name], rows_by_table(DAYS[2], has_user=False)[name]
        committed(root / name, dict(zip(DAYS, (rows, *others), strict=True)))
        committed(root / name, {DAYS[1]: others[0]})
    put_pin(root, snapshot(root / "examples", 0), "old", who="training")
    rows = rows_by_table(DAYS[2])["user_state"]
    numbers = snapshot(root / "user_state").numbers([DAYS[2]])
    struct = snapshot(root / "user_state").schema_json
    files = [written(root / "user_state", DAYS[2], rows)]
    made = Candidate("user_state", numbers, files, struct, FileDescription("print"), {})
    made.put(root, [DAYS[2]])


def make_store(store_dir: Place, schema: Schema) -> None:
    """Rows of both users, of their pairs with an item, and of an item whose history has both."""
    feast_store.apply(schema, store_dir, store_dir / "lake")
    store = feast_store.open_store(schema, store_dir)
    keys = {
        "user": [GONE, STAYS],
        "item": ["a", "b"],
        "by_visitor_and_article": ["gone\\|7f3a-was-here|a", f"{STAYS}|a"],
    }
    for table in schema.tables:
        of = keys[table.of]
        values = {column.name: [_value(column.dtype)] * len(of) for column in table.columns}
        if table.name == "buyers":
            values["buyer_visitor"] = [[STAYS, GONE], [STAYS]]
        frame = {schema.key_of(table).name: of, **values}
        moments = {EVENT_TIMESTAMP: [NOON] * len(of), CREATED: [NOON] * len(of)}
        store.write_to_online_store(table.name, pd.DataFrame({**frame, **moments}))


def leave_freed_page(file: Path) -> None:
    """Let a SQLite file have a page that is free, and still has the user's id in its bytes."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("CREATE TABLE freed (id TEXT)")
        connection.execute("INSERT INTO freed VALUES (?)", (GONE,))
        connection.commit()
        connection.execute("DROP TABLE freed")
        connection.commit()


def _value(dtype: Dtype) -> object:
    if dtype.is_list:
        return ["x"] if dtype is Dtype.STRING_LIST else [1]
    return "x" if dtype is Dtype.STRING else 1.0 if dtype is Dtype.FLOAT64 else 1


def make_log(folder: Place, schema: Schema) -> None:
    """Answers to both users by id, and by hash; and one of a key that nobody knows."""
    columns = arrow_schema(schema)
    fields = [*columns, pa.field(DAY, pa.date32()), pa.field(HOUR, pa.int32())]
    mine, other = IdHash(LOG_KEY), IdHash(b"o" * 32)
    keys = [(GONE, None), (STAYS, None)]
    keys += [(hashed.user(GONE), hashed.key_id) for hashed in (mine, other)]
    keys += [(mine.user(STAYS), mine.key_id)]
    values = {
        "answer_id": [f"answer-{n}" for n in range(len(keys))],
        "user_key": [key for key, _ in keys],
        "hash_key_id": [key_id for _, key_id in keys],
        "visitor": [GONE, STAYS, None, None, None],
        DAY: [NOON.date()] * len(keys),
        HOUR: [12] * len(keys),
    }
    nothing = [None] * len(keys)
    arrays = [pa.array(values.get(field.name, nothing), field.type) for field in fields]
    table = LogTable(folder, schema)
    table.open()
    table.append(pa.Table.from_arrays(arrays, schema=pa.schema(fields)), metadata={})


def make(folder: Path, schema: Schema) -> None:
    """All of it."""
    root = place(folder)
    make_lake(root / "lake", schema)
    make_store(root / "feast", schema)
    leave_freed_page(folder / "feast" / schema.name / "online.db")
    make_log(root / "log", schema)


def files_with(folder: Path, text: str) -> list[str]:
    """Files in which a text stands, in their bytes or in the values of a Parquet file."""
    found = []
    for file in sorted(one for one in folder.rglob("*") if one.is_file()):
        content = file.read_bytes()
        if file.suffix == ".parquet" and "_delta_log" not in file.parts:
            with pq.ParquetFile(file) as opened:
                content += repr(opened.read().to_pylist()).encode()
        # As Python writes a text, a backslash in it is two.
        if text.encode() in content or text.replace("|", "\\|").encode() in content:
            found.append(str(file.relative_to(folder)))
    return found
