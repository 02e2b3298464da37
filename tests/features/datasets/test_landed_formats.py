"""One log in each of the usual formats is one set of rows; a format of one's own has a module."""

import datetime
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from support.logs.landed_shop import data_set

from features.datasets.readers import Reader
from features.spark import landing as land

pytestmark = pytest.mark.spark
DAY = datetime.date(2025, 3, 1)
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
VECTORS = [[0.1, -1.5, 3], [2e-8, 0, 1]]
ITEMS = [
    {
        "article": 7,
        "price, EUR": 1.5,
        "item_tags": ["new", "on sale"],
        "item_vector": [0.1, -1.5, 3],
    },
    {"article": 8, "price, EUR": None, "item_tags": ["old"], "item_vector": VECTORS[1]},
]
PER_SECOND = {"seconds": 1, "milliseconds": 1_000, "microseconds": 1_000_000}


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
    assert [tuple(row) for row in items] == [
        (7, 1.5, ["new", "on sale"], VECTORS[0]),
        (8, None, ["old"], VECTORS[1]),
    ]


def test_an_embedding_of_single_precision_is_read_as_double(spark, tmp_path):
    found = data_set(tmp_path, "parquet", None)
    vectors = pa.array([[0.5, -1.5, 3.0], [0.1, 0.0, 1.0]], pa.list_(pa.float32()))
    items = pa.Table.from_pylist(ITEMS).drop_columns(["item_vector"])
    pq.write_table(items.append_column("item_vector", vectors), tmp_path / "items.parquet")
    (table,) = found.schema.tables
    read = Reader(found.schema, found.source).read_attributes(spark, tmp_path, table)
    assert [row["item_vector"] for row in read.orderBy("item_id").collect()] == vectors.to_pylist()


@pytest.mark.parametrize(("form", "packed"), [("csv", "gz"), ("tsv", "zst"), ("jsonl", "gz")])
def test_a_compressed_text_has_the_rows_and_lines_of_the_plain_one(spark, tmp_path, form, packed):
    plain, found = data_set(tmp_path, form, "seconds"), {}
    rows = [
        {**row, "at": moment_of(moment, form, "seconds")}
        for row, moment in zip(ROWS, MOMENTS, strict=True)
    ]
    for source in (plain.source, plain.source.model_copy(update={"compression": packed})):
        suffix = source.landed_suffix
        paths = [land.impressions_file(tmp_path, DAY, suffix), tmp_path / f"items.{suffix}"]
        for path, landed in zip(paths, (rows, ITEMS), strict=True):
            land_as(path, form, landed)
            if source.compression:
                pack = gzip.compress if packed == "gz" else zstandard.compress
                path.write_bytes(pack(path.read_bytes()))
        reader = Reader(plain.schema, source)
        (table,) = plain.schema.tables
        frames = [
            reader.read_files(spark, paths[:1]),
            reader.read_attributes(spark, tmp_path, table),
        ]
        found[suffix] = [sorted(map(repr, frame.drop("source_file").collect())) for frame in frames]
    assert found[form] == found[f"{form}.{packed}"]
    assert len(found[form][0]) == len(ROWS)
    paths[0].write_bytes(paths[0].read_bytes()[:-3])
    with pytest.raises(ValueError, match=rf"{form}.{packed}: is cut off"):
        reader.read_files(spark, paths[:1])


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
