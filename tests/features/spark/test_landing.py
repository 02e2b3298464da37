"""What has landed is found, and read into the same rows, on a disk and in an object store."""

import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.datasets.catalog import schema_of
from features.datasets.readers import reader_of
from features.places import arrow_file, is_local, place, put_whole
from features.schema import SOURCE, Dtype
from features.spark import landing as land
from features.spark import read_landed

DAY = datetime.date(1998, 4, 20)
TEXT = (
    b"id\tname\tlist\n"
    b'1\t"a ""quoted"" word"\tx y\n'
    b'2\t\t""\n'  # null, and an empty text
    b'3\ta "word" within\t "spaces" \r\n'
    b"\n   \n\t\t\n"  # no rows
    b"4\tshort\n"
    b"5\tlong\tx\ty\tz\n"
    b'6\t"a\ttab"\t\xc3\xa9\xff\n'
    b'7\t"not closed\tx\n'
)
COLUMNS = {name: name for name in ("id", "name", "list")}


@pytest.fixture
def landing(anywhere, spark, request, monkeypatch):
    """A landing place that Spark's tasks can reach: they have the environment that Spark had."""
    if not is_local(anywhere):
        store = request.getfixturevalue("object_store")
        for name, value in store.environment.items():
            monkeypatch.setitem(spark.sparkContext.environment, name, value)
    return anywhere


synthetic, synthetic_fields = (
    reader_of(schema_of(name)) for name in ("synthetic", "synthetic-fields")
)


def rows(frame):
    return sorted(map(repr, frame.collect()))


def test_a_text_has_the_rows_that_sparks_own_reader_makes_of_it(landing, spark, tmp_path):
    paths = []
    for where in (landing, place(tmp_path / "disk")):
        paths.append(
            [land.impressions_file(where, DAY, "tsv"), where / "intraday/1998-04-21/1.tsv"]
        )
        put_whole(paths[-1][0], TEXT)
        put_whole(paths[-1][1], b"id\tname\tlist\n8\tpart\t\n")
    found, expected = (read_landed.delimited(spark, some, COLUMNS) for some in paths)
    assert rows(found) == rows(expected)
    assert found.columns == expected.columns
    assert land.landed_files(landing, "1998-04-21", "tsv") == paths[0][1:]
    assert found.where("day = '1998-04-20'").count() == 7
    lost = found.where("id is null").orderBy("source_line").collect()
    assert [row.source_line for row in lost] == [8, 9, 10, 11]  # short, long, not UTF-8, not closed
    assert {(row.name, row["list"]) for row in lost} == {(None, None)}
    assert [row.name for row in found.where("day = '1998-04-21'").collect()] == ["part"]


def test_parquet_has_its_rows_from_a_file_and_from_a_folder_of_spark(landing, spark, tmp_path):
    sizes = {"rows": 300, "users": 20, "items": 10, "days": 3, "seed": 5}
    for where in (landing, place(tmp_path / "disk")):
        assert synthetic.fetch(where, **sizes)["rows"] == 300
    schema = schema_of("synthetic")
    days = [schema.first_day + datetime.timedelta(days=n) for n in range(3)]
    expected_paths = [
        land.impressions_file(place(tmp_path / "disk"), day, "parquet") for day in days
    ]
    paths = [land.impressions_file(landing, day, "parquet") for day in days]
    # The first day as Spark writes it: a folder of several files and a mark.
    spark.read.parquet(str(expected_paths[0])).repartition(2).write.parquet(str(tmp_path / "day"))
    paths[0].unlink()
    for file in (tmp_path / "day").iterdir():
        put_whole(paths[0] / file.name, file.read_bytes())
    found = synthetic.read_files(spark, paths)
    # Of a folder each file numbers its own rows.
    expected = synthetic.read_files(spark, expected_paths)
    assert rows(found.drop(*SOURCE)) == rows(expected.drop(*SOURCE))
    later = f"source_file like '%{days[1]}%'"
    assert rows(found.where(later)) == rows(expected.where(later))
    assert found.count() == 300
    for table in schema.tables_of("attributes"):
        found, expected = (
            synthetic.read_attributes(spark, where, table)
            for where in (landing, place(tmp_path / "disk"))
        )
        assert rows(found) == rows(expected)


def test_parquet_of_other_types_and_names_has_its_values(landing, spark):
    """An integer for a float, a moment as Spark writes it, and names that are the result's own."""
    content = pa.BufferOutputStream()
    moment = datetime.datetime(1998, 4, 20, 12, tzinfo=datetime.UTC)
    landed = pa.table({"day": [2**53 + 1], "source_line": [moment], "list": [[3]]})
    pq.write_table(landed, content, use_deprecated_int96_timestamps=True)
    path = land.impressions_file(landing, DAY, "parquet")
    put_whole(path, content.getvalue().to_pybytes())
    columns = {"price": "day", "at": "source_line", "seen": "list"}
    types = {"price": Dtype.FLOAT64, "at": Dtype.TIMESTAMP, "seen": Dtype.INT64_LIST}
    (row,) = read_landed.parquet(spark, [path], columns, types).collect()
    assert (row.price, row.seen, row.day, row.source_line) == (2.0**53, [3], DAY, 1)
    assert row["at"].astimezone(datetime.UTC) == moment


def test_a_day_without_rows_and_a_log_of_files_are_read_too(landing, spark):
    synthetic_fields.fetch(landing, rows=30, days=3, seed=1)
    paths = sorted((landing / "impressions").glob("*.parquet"))
    assert synthetic_fields.read_files(spark, paths).count() == 30
    files, path = arrow_file(paths[0])
    land.write_table(paths[0], pq.read_table(path, filesystem=files).slice(0, 0))
    assert synthetic_fields.read_files(spark, paths).count() == 20
    assert synthetic_fields.read_files(spark, paths[:1]).count() == 0


@pytest.mark.parametrize(
    ("files", "on_a_disk", "in_an_object_store"),
    [
        ({"": b"PAR1..PAR1"}, True, True),
        ({"": b"PAR1.."}, False, False),
        ({"": b""}, False, False),
        ({"/part-0.parquet": b"PAR1..PAR1", "/_SUCCESS": b""}, True, True),
        ({"/part-0.parquet": b"PAR1..PAR1"}, True, False),  # renamed into place; put one by one
        ({"/part-0.parquet": b"PAR1..", "/_SUCCESS": b""}, False, False),
        ({"/part-0.parquet": b"PAR1..PAR1", "/_SUCCESS": b"", "/_temporary/0": b""}, False, False),
        ({}, False, False),
    ],
)
def test_what_is_cut_off_or_still_written_has_not_landed(
    anywhere, files, on_a_disk, in_an_object_store
):
    for name, content in files.items():
        put_whole(anywhere / f"impressions/1998-04-20.parquet{name}", content)
    path = land.impressions_file(anywhere, DAY, "parquet")
    is_expected = on_a_disk if is_local(anywhere) else in_an_object_store
    assert land.is_whole(path) is is_expected
    assert land.landed_files(anywhere, str(DAY), "parquet") == ([path] if is_expected else [])
