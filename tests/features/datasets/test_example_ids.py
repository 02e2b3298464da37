"""Ids of impressions that are derived: the same for the same keys, and collisions are named."""

import datetime
import json
import re
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.datasets.readers import Reader
from features.datasets.schema_files.build import read_data_set
from features.lake.lake import IMPRESSIONS_RAW, Lake
from features.places import put_whole
from features.schema.fingerprints import impressions_fingerprint
from features.spark import example_ids
from features.spark import landing as land

pytestmark = pytest.mark.spark
DAY = datetime.date(2025, 3, 1)
SCHEMA = """\
name: shop
doc: Visits.
licence: ours
first_day: 2025-03-01
holdout_days: 1
epoch: 2024-01-01
EXAMPLE_ID
item: {name: item_id, type: int64, kind: sparse, num_ids: 100, doc: The article.}
stored:
  page: {type: string, doc: Id of the page.}
  bought: {type: int64, doc: Whether it was bought.}
labels:
  sale: {column: bought, positive_from: 1, delay: 1h}
target: sale
tables:
  - {kind: item_daily, windows_days: [7], ttl: 7d, delay: 2h}
limits:
  min_positive_rate: 0
  max_positive_rate: 1
  min_share_of_trailing_rows: 0
  max_times_trailing_rows: 5
source: SOURCE
"""
FROM = "example_id: {from: [page, item_id, timestamp]}"
GOLDEN = [7744449808844997046, 8041572905365364273, 8407792207368697632, None]
HINT = "declare example_id: {from: [columns that together no other impression has]}"
ROWS = [
    {"page": 'p "1"', "item_id": 7, "timestamp": "2025-03-01T10:00:00.25Z", "bought": 0},
    {"page": 'p "1"', "item_id": 8, "timestamp": "2025-03-01T10:00:00.25Z", "bought": 1},
    {"page": 'p "1"', "item_id": 8, "timestamp": "2025-03-01T10:00:00.75Z", "bought": 1},
    {"page": None, "item_id": 8, "timestamp": "2025-03-01T10:00:00.75Z", "bought": 1},
]


def data_set(folder, example_id, source):
    text = SCHEMA.replace("EXAMPLE_ID", example_id).replace("SOURCE", source)
    (folder / "shop.yaml").write_text(text)
    return read_data_set(folder / "shop.yaml")


def land_as(landing, form, rows):
    path = land.impressions_file(landing, DAY, form)
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif form == "tsv":
        cells = [["" if value is None else value for value in row.values()] for row in rows]
        land.write_rows(path, list(rows[0]), cells)
    else:
        moments = [datetime.datetime.fromisoformat(row["timestamp"]) for row in rows]
        typed = [{**row, "timestamp": at} for row, at in zip(rows, moments, strict=True)]
        pq.write_table(pa.Table.from_pylist(typed), path)
    return path


def read(spark, folder, form, example_id, rows):
    found = data_set(folder, example_id, f"{{format: {form}}}")
    frame = Reader(found.schema, found.source).read_files(spark, [land_as(folder, form, rows)])
    return frame.orderBy("source_line").collect()


def test_the_same_keys_have_the_same_id_in_each_format(spark, tmp_path):
    found = {form: read(spark, tmp_path, form, FROM, ROWS) for form in ("tsv", "jsonl", "parquet")}
    ids = {form: [row["example_id"] for row in rows] for form, rows in found.items()}
    # As they are in lakes: a hash that changes would make other impressions of the same ones.
    assert ids["tsv"] == ids["jsonl"] == ids["parquet"] == GOLDEN
    assert [row["example_key"] for row in found["tsv"]][1::2] == [
        r'{"page":"p \"1\"","item_id":8,"timestamp":"2025-03-01T10:00:00.250000Z"}',
        None,
    ]


@pytest.mark.parametrize("form", ["tsv", "parquet"])
def test_a_column_that_is_no_other_column_of_the_schema_is_hashed_too(spark, tmp_path, form):
    uuids = ["0b0e6f9e-1111-4000-8000-000000000001", "0b0e6f9e-1111-4000-8000-000000000002"]
    rows = [{**row, "Row ID": uuid} for row, uuid in zip(ROWS, uuids, strict=False)]
    found = read(spark, tmp_path, form, "example_id: {column: Row ID}", rows)
    assert [row["example_key"] for row in found] == uuids
    assert len({row["example_id"] for row in found}) == 2
    assert all(0 <= row["example_id"] < 2**63 for row in found)
    numbered = [{**row, "Row ID": n} for n, row in enumerate(ROWS)]
    found = read(spark, tmp_path, form, "example_id: {column: Row ID}", numbered)
    assert [row["example_key"] for row in found] == ["0", "1", "2", "3"]


OWN = """\
from pyspark.sql import functions as F

from features.schema import DAY, SOURCE
from features.spark import read_landed


def read_files(spark, schema, paths):
    raw = read_landed.delimited(spark, paths, {n: n for n in (*NAMES, "row")}, "|")
    columns = {n: F.col(n) for n in NAMES}
    return raw.select(*read_landed.typed(schema, columns), "row", *SOURCE, DAY)


def read_attributes(spark, schema, landing, table):
    return spark.range(3)


NAMES = ("page", "item_id", "timestamp", "bought")
"""


@pytest.mark.parametrize(
    ("example_id", "key"),
    [
        ("example_id: {from: [page, item_id]}", '{"page":"p1","item_id":7}'),
        ("example_id: {column: row}", "r9"),
        ("example_id: {column: line}", None),
    ],
)
def test_a_reader_of_ones_own_gives_no_ids(spark, tmp_path, monkeypatch, example_id, key):
    (tmp_path / "visits_of_pages.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    found = data_set(tmp_path, example_id, "{reader: visits_of_pages, suffix: txt}")
    path = land.impressions_file(tmp_path, DAY, "txt")
    line = "p1|7|2025-03-01T10:00:00Z|0|r9"
    put_whole(path, f"page|item_id|timestamp|bought|row\n{line}\n".encode())
    reader = Reader(found.schema, found.source)
    if key is None:
        with pytest.raises(ValueError, match=r"example_id.column 'line': the reader gave .*'row'"):
            reader.read_files(spark, [path])
    else:
        frame = reader.read_files(spark, [path])
        assert [(row.example_key, row.source_line) for row in frame.collect()] == [(key, 2)]
        assert frame.columns[0] == "example_id"
    monkeypatch.delitem(sys.modules, "visits_of_pages")


def checked(spark, monkeypatch, folder, found, rows, form="tsv"):
    """What stops the day."""
    from features.pipeline.ingestion.ingest import ingest
    from features.pipeline.workspace import Workspace
    from features.validation import checks

    monkeypatch.setenv("RANKING_SCHEMAS", str(folder))
    land_as(folder / "landing" / "shop", form, rows)
    work = Workspace(spark, found.schema, Lake(folder / "lake", "shop"))
    ingest(work, folder / "landing", [DAY])
    outcome = checks.check_impressions(work, [DAY], folder / "reports")
    return work, [one for one in outcome.critical if one.startswith("example_id")]


def test_rows_with_the_same_keys_are_named_with_these_and_where_they_landed(
    spark, tmp_path, monkeypatch
):
    found = data_set(tmp_path, "example_id: {from: [page, item_id]}", "{format: tsv}")
    work, critical = checked(spark, monkeypatch, tmp_path, found, ROWS[:3])
    (said,) = [one for one in critical if "same keys" in one]
    place = "impressions/2025-03-01.tsv"
    assert re.match(r"example_id \d+: 2 rows have the same keys", said)
    assert rf'keys {{"page":"p \"1\"","item_id":8}}, such as {place}:3 and {place}:4; land' in said
    assert "example_key" in work.impressions([DAY], IMPRESSIONS_RAW).columns


def test_different_keys_with_one_hash_are_named(spark, tmp_path, monkeypatch):
    monkeypatch.setattr(example_ids, "_MOST", 0)
    found = data_set(tmp_path, FROM, "{format: tsv}")
    _, critical = checked(spark, monkeypatch, tmp_path, found, ROWS[:2])
    (said,) = [one for one in critical if "different keys" in one]
    assert "example_id 0: 2 rows have it, with different keys" in said
    for row in ROWS[:2]:
        assert f'"item_id":{row["item_id"]}' in said
    assert "add a column to example_id.from" in said


def test_ids_of_the_log_that_are_there_twice_are_named(spark, tmp_path, monkeypatch):
    found = data_set(tmp_path, "", "{format: tsv}")
    rows = [{"example_id": 5, **row} for row in ROWS[:2]]
    _, critical = checked(spark, monkeypatch, tmp_path, found, rows)
    place = "impressions/2025-03-01.tsv"
    assert f"example_id 5: 2 rows have it, such as {place}:2 and {place}:3; land" in critical[-1]


def test_a_log_without_ids_is_an_error_that_says_what_to_declare(spark, tmp_path, monkeypatch):
    for form in ("tsv", "parquet"):
        with pytest.raises(ValueError, match=re.escape(HINT)):
            read(spark, tmp_path, form, "", ROWS)
    found = data_set(tmp_path, "", "{format: jsonl}")
    _, critical = checked(spark, monkeypatch, tmp_path, found, ROWS, "jsonl")
    assert "none of the rows has one" in critical[-1]
    assert HINT in critical[-1]


def test_other_keys_make_other_rows(tmp_path):
    found = {
        impressions_fingerprint(data_set(tmp_path, example_id, "{format: tsv}").schema)
        for example_id in ("", FROM, "example_id: {from: [page, item_id]}")
    }
    assert len(found) == 3
