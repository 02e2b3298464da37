"""One log in each of the usual formats is one set of rows; a format of one's own has a module."""

import datetime
import json
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.datasets import catalog
from features.datasets.readers import Reader, reader_of
from features.datasets.schema_files.build import read_data_set
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
item: {name: item_id, type: int64, kind: sparse, num_ids: 21, doc: The article.}
context:
  device: {type: string, kind: sparse, vocabulary: [phone, desktop], doc: Device.}
  seen: {type: list<int64>, kind: sparse, max_length: 5, shares_table_with: item_id, doc: Seen.}
stored:
  bought: {type: int64, doc: Whether it was bought.}
labels:
  sale: {column: bought, positive_from: 1, delay: 1h}
target: sale
tables:
  - kind: item_attributes
    doc: What the shop says.
    columns:
      item_price: {type: float64, kind: dense, doc: Price.}
      item_tags: {type: list<string>, kind: stored, max_length: 9, doc: Tags.}
limits:
  min_positive_rate: 0
  max_positive_rate: 1
  min_share_of_trailing_rows: 0
  max_times_trailing_rows: 5
source:
  format: FORMAT
  list_separator: "|"
  time: {column: at UNIT}
  columns: {example_id: id, item_id: article, seen: seen before, item_price: "price, EUR"}
"""
MOMENTS = [
    datetime.datetime(2025, 3, 1, 12, 30, 15, 250_000, tzinfo=datetime.UTC),
    datetime.datetime(2025, 3, 1, 0, 0, 0, tzinfo=datetime.UTC),
    None,
    datetime.datetime(2025, 3, 1, 23, 0, 0, tzinfo=datetime.UTC),
]
ROWS = [
    {"id": 1, "article": 7, "device": 'a "big", phone', "seen before": [3, 4], "bought": 1},
    {"id": 2, "article": 8, "device": "desktop", "seen before": [5], "bought": 0},
    {"id": 3, "article": None, "device": None, "seen before": None, "bought": None},
    {"id": 4, "article": 9, "device": "phone", "seen before": [], "bought": 1},
]
ITEMS = [
    {"article": 7, "price, EUR": 1.5, "item_tags": ["new", "on sale"]},
    {"article": 8, "price, EUR": None, "item_tags": ["old"]},
]
PER_SECOND = {"seconds": 1, "milliseconds": 1_000, "microseconds": 1_000_000}


def data_set(tmp_path, form, unit):
    text = SCHEMA.replace("FORMAT", form).replace(" UNIT", f", unit: {unit}" if unit else "")
    (tmp_path / "shop.yaml").write_text(text)
    return read_data_set(tmp_path / "shop.yaml")


def moment_of(moment, form, unit):
    if moment is None or (form == "parquet" and not unit):
        return moment
    if not unit:
        return moment.isoformat()
    number = moment.timestamp() * PER_SECOND[unit]
    return number if unit == "seconds" and form != "parquet" else int(number)


def land_as(path, form, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        joined = [
            {n: "|".join(map(str, v)) if isinstance(v, list) else v for n, v in row.items()}
            for row in rows
        ]
        cells = [["" if value is None else value for value in row.values()] for row in joined]
        land.write_rows(path, list(rows[0]), cells)
        if form == "csv":
            path.write_text("".join(map(_with_commas, path.read_text().splitlines())))


def _with_commas(line):
    """A line of the tab-separated file with all its values in quotes."""
    cells = [cell.strip('"').replace('""', '"') for cell in line.rstrip("\n").split("\t")]
    return ",".join('"{}"'.format(c.replace('"', '""')) if c else "" for c in cells) + "\r\n"


CASES = [
    *((form, "seconds") for form in ("tsv", "csv", "jsonl")),
    ("csv", "milliseconds"),
    ("jsonl", "microseconds"),
    ("parquet", "milliseconds"),
    *((form, None) for form in ("tsv", "csv", "jsonl", "parquet")),
]


@pytest.mark.parametrize(("form", "unit"), CASES)
def test_a_log_is_the_same_rows_in_each_format_and_unit(spark, tmp_path, form, unit):
    found = data_set(tmp_path, form, unit)
    rows = [
        {**row, "at": moment_of(moment, form, unit)}
        for row, moment in zip(ROWS, MOMENTS, strict=True)
    ]
    path = land.impressions_file(tmp_path, DAY, form)
    land_as(path, form, rows)
    land_as(tmp_path / f"items.{form}", form, ITEMS)
    reader = Reader(found.schema, found.source)
    read = reader.read_files(spark, [path]).orderBy("example_id").collect()
    names = ("example_id", "item_id", "device", "bought")
    assert [tuple(row[name] for name in names) for row in read] == [
        (1, 7, 'a "big", phone', 1),
        (2, 8, "desktop", 0),
        (3, None, None, None),
        (4, 9, "phone", 1),
    ]
    missing = [] if form in {"tsv", "csv"} else None  # a text has no other list without values
    assert [row["seen"] for row in read] == [[3, 4], [5], missing, []]
    moments = [row["timestamp"] and row["timestamp"].astimezone(datetime.UTC) for row in read]
    assert moments == MOMENTS
    first = 1 if form in {"jsonl", "parquet"} else 2
    assert [row["source_line"] for row in read] == [first, first + 1, first + 2, first + 3]
    assert {(row["source_file"], row["day"]) for row in read} == {
        (f"impressions/{DAY}.{form}", DAY)
    }
    (table,) = found.schema.tables
    items = reader.read_attributes(spark, tmp_path, table).orderBy("item_id").collect()
    assert [tuple(row) for row in items] == [(7, 1.5, ["new", "on sale"]), (8, None, ["old"])]


@pytest.mark.parametrize("value", ["soon", "1e300", "9" * 18, "9" * 20])
@pytest.mark.parametrize("unit", [None, *PER_SECOND])
def test_a_moment_that_cannot_be_read_is_null_and_stops_no_day(spark, tmp_path, unit, value):
    found = data_set(tmp_path, "csv", unit)
    path = land.impressions_file(tmp_path, DAY, "csv")
    path.parent.mkdir()
    path.write_text(f"id,article,device,seen before,bought,at\n1,7,phone,,1,{value}\n")
    (row,) = Reader(found.schema, found.source).read_files(spark, [path]).collect()
    assert (row["example_id"], row["timestamp"]) == (1, None)


def test_a_line_that_is_no_json_object_has_nulls_alone(spark, tmp_path):
    found = data_set(tmp_path, "jsonl", None)
    path = land.impressions_file(tmp_path, DAY, "jsonl")
    path.parent.mkdir()
    path.write_text('{"id": 1, "article": 7}\nnot json\n[1]\n')
    read = Reader(found.schema, found.source).read_files(spark, [path]).orderBy("source_line")
    assert [(row["example_id"], row["item_id"]) for row in read.collect()] == [
        (1, 7),
        (None, None),
        (None, None),
    ]


def test_a_file_without_a_column_is_an_error_that_names_both_names(spark, tmp_path):
    found = data_set(tmp_path, "csv", None)
    path = land.impressions_file(tmp_path, DAY, "csv")
    path.parent.mkdir()
    path.write_text("id,item_id,device,seen before,bought,at\n")
    message = (
        r"2025-03-01.csv, line 1: column article, which is read as item_id, is not in the header"
    )
    with pytest.raises(ValueError, match=message):
        Reader(found.schema, found.source).read_files(spark, [path])


def test_a_file_that_is_cut_off_is_not_read(spark, tmp_path):
    found = data_set(tmp_path, "jsonl", None)
    path = land.impressions_file(tmp_path, DAY, "jsonl")
    path.parent.mkdir()
    path.write_text('{"id": 1, "artic')
    with pytest.raises(ValueError, match="is cut off"):
        Reader(found.schema, found.source).read_files(spark, [path])


def test_parquet_of_another_type_is_an_error_that_names_the_column(spark, tmp_path):
    found = data_set(tmp_path, "parquet", "milliseconds")
    path = land.impressions_file(tmp_path, DAY, "parquet")
    land_as(path, "parquet", [{**ROWS[0], "at": MOMENTS[0]}])
    with pytest.raises(ValueError, match=r"column at is timestamp.*; the schema has int64"):
        Reader(found.schema, found.source).read_files(spark, [path])


OWN = """\
from pyspark.sql import functions as F


def fetch(schema, landing, **options):
    return {"rows": options["rows"], "landing": str(landing)}


def read_files(spark, schema, paths):
    return spark.range(len(paths)).withColumn("name", F.lit(schema.name))


def read_attributes(spark, schema, landing, table):
    return spark.range(3)
"""


def test_a_format_of_ones_own_is_read_by_the_module_that_the_file_names(
    spark, tmp_path, monkeypatch
):
    (tmp_path / "shop_reader.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    text = SCHEMA.partition("source:")[0]
    source = "source: {reader: shop_reader, suffix: log.gz, fetch: shop_reader}\n"
    (tmp_path / "shop.yaml").write_text(text + source)
    monkeypatch.setenv("RANKING_SCHEMAS", str(tmp_path))
    reader = reader_of(catalog.schema_of("shop"))
    assert reader.suffix == "log.gz"
    assert [row["name"] for row in reader.read_files(spark, ["a", "b"]).collect()] == ["shop"] * 2
    (table,) = catalog.schema_of("shop").tables
    assert reader.read_attributes(spark, tmp_path, table).count() == 3
    assert reader.fetch(tmp_path, rows=3)["rows"] == 3
    monkeypatch.delitem(sys.modules, "shop_reader")


def test_a_module_without_its_functions_is_named(tmp_path):
    found = data_set(tmp_path, "tsv", None)
    (table,) = found.schema.tables
    source = found.source.model_copy(update={"fetch": "this", "reader": "json"})
    reader = Reader(found.schema, source)
    with pytest.raises(ValueError, match=r"shop: source.fetch this: has no function fetch$"):
        reader.fetch(tmp_path)
    missing = "source.reader json: has no function read_files, read_attributes"
    with pytest.raises(ValueError, match=missing):
        reader.read_files(None, [])
    with pytest.raises(ValueError, match=missing):
        reader.read_attributes(None, tmp_path, table)


def test_a_module_that_is_not_there_is_named(tmp_path):
    found = data_set(tmp_path, "tsv", None)
    source = found.source.model_copy(update={"fetch": "features.datasets.shop_log"})
    with pytest.raises(ValueError, match=r"dataset shop: source.fetch features.*shop_log: no such"):
        Reader(found.schema, source).fetch(tmp_path)
    with pytest.raises(ValueError, match=r"nothing fetches its log .*impressions/YYYY-MM-DD.tsv"):
        Reader(found.schema, found.source).fetch(tmp_path)
