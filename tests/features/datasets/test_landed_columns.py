"""What a landed file may look like otherwise: headers, lines that are no rows, types of Parquet."""

import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.datasets.readers import Reader
from features.datasets.schema_files.build import read_data_set
from features.runbooks import RunbookError
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
user: {name: user_id, type: string, kind: sparse, hash_size: 9, doc: Who.}
item: {name: item_id, type: int64, kind: sparse, num_ids: 21, doc: The article.}
context:
  weekday: {type: string, kind: stored, nullable: true, doc: Its day.}
  price: {type: float64, kind: dense, nullable: true, doc: Price.}
  year: {type: int64, kind: stored, nullable: true, doc: Year.}
  seen: {type: list<int64>, kind: stored, max_length: 5, doc: Seen.}
stored:
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
source:
  format: FORMAT
  time: {column: at}
  columns: {weekday: day}
"""
HEADER = "example_id,user_id,item_id,at,day,price,year,seen,bought"
AT = "2025-03-01T12:00:00Z"
LINE = f"1,7,8,{AT},Sat,9.5,1995,3 4,1"


@pytest.fixture
def read(spark, tmp_path):
    """A function that lands contents as days, and reads them as one: rows by file and line."""

    def read_files(form, *contents):
        (tmp_path / "shop.yaml").write_text(SCHEMA.replace("FORMAT", form))
        found = read_data_set(tmp_path / "shop.yaml")
        paths = []
        for number, content in enumerate(contents):
            day = DAY + datetime.timedelta(days=number)
            paths.append(land.impressions_file(tmp_path, day, form))
            paths[-1].parent.mkdir(exist_ok=True)
            if isinstance(content, pa.Table):
                pq.write_table(content, paths[-1])
            else:
                paths[-1].write_bytes(content if isinstance(content, bytes) else content.encode())
        rows = Reader(found.schema, found.source).read_files(spark, paths)
        return rows.orderBy("source_file", "source_line").collect()

    return read_files


def ids(rows):
    return [(row["example_id"], row["user_id"], row["item_id"], row["bought"]) for row in rows]


def values_in(row):
    return {v for n, v in row.asDict().items() if n not in {"day", "source_file", "source_line"}}


def test_each_file_is_read_by_its_own_header(read):
    other = "bought,item_id,user_id,example_id,at,day,price,year,seen"
    rows = read("csv", f"{HEADER}\n{LINE}\n", f"{other}\n0,6,5,2,{AT},Sun,1,2,\n")
    assert ids(rows) == [(1, "7", 8, 1), (2, "5", 6, 0)]
    assert [row["day"] for row in rows] == [DAY, DAY + datetime.timedelta(days=1)]
    assert [row["source_line"] for row in rows] == [2, 2]


@pytest.mark.parametrize("cells", [f"1,a title, with a comma,8,{AT},Sat,9,1,3,1", "1,7,8"])
def test_a_line_with_more_or_fewer_values_than_the_header_has_nulls_alone(read, cells):
    bad, good = read("csv", f"{HEADER}\n{cells}\n{LINE}\n")
    assert values_in(bad) == {None}
    assert (bad["source_file"], bad["source_line"]) == (f"impressions/{DAY}.csv", 2)
    assert ids([good]) == [(1, "7", 8, 1)]


def test_names_that_the_data_set_does_not_need_are_no_matter(read):
    """``day`` is a column of the lake, and here one of the file that the schema names otherwise."""
    header = f"{HEADER},Day,source_file,SOURCE_LINE,x,x,Item_Id,"
    (row,) = read("csv", f"{header}\n{LINE},a,b,c,d,e,f,g\n")
    assert ids([row]) == [(1, "7", 8, 1)]
    assert (row["weekday"], row["day"]) == ("Sat", DAY)
    assert (row["source_file"], row["source_line"]) == (f"impressions/{DAY}.csv", 2)
    (row,) = read("jsonl", '{"example_id": 1, "day": "Sat", "year": 1995.0, "seen": [1, 2.0]}\n')
    assert (row["weekday"], row["day"], row["year"], row["seen"]) == ("Sat", DAY, 1995, [1, 2])


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (f"{HEADER},user_id", r"2025-03-02.csv, line 1: columns \['user_id'\] are more than once"),
        ("", r"2025-03-02.csv, line 1: is empty; expected a header with .*'example_id', 'user_id'"),
        (HEADER[:-7], r"2025-03-02.csv, line 1: column bought, which is read as bought, is not in"),
    ],
)
def test_a_header_without_each_column_once_is_an_error_with_file_and_line(read, header, message):
    with pytest.raises(RunbookError, match=message):
        read("csv", f"{HEADER}\n{LINE}\n", f"{header}\n{LINE}\n")


def test_a_byte_order_mark_is_no_part_of_a_value(read):
    mark = b"\xef\xbb\xbf"
    assert ids(read("csv", mark + f"{HEADER}\n{LINE}\n".encode())) == [(1, "7", 8, 1)]
    (row,) = read("jsonl", mark + b'{"example_id": 1, "item_id": 8}\n')
    assert (row["example_id"], row["item_id"]) == (1, 8)


def test_a_line_that_is_not_utf8_has_nulls_alone(read):
    """Else two users of a file in another encoding would be one."""
    lines = [LINE.replace("7", name, 1) for name in ("Müller", "Möller")]
    latin = f"{HEADER}\n{LINE}\n".encode() + "\n".join([*lines, ""]).encode("latin-1")
    good, *bad = read("csv", latin)
    assert good["user_id"] == "7"
    assert [values_in(row) for row in bad] == [{None}, {None}]
    assert [row["user_id"] for row in read("csv", "\n".join([HEADER, *lines, ""]))] == [
        "Müller",
        "Möller",
    ]
    bad, good = read("jsonl", b'{"example_id": 1, "user_id": "\xfc"}\n{"example_id": 2}\n')
    assert (values_in(bad), good["example_id"]) == ({None}, 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1995", 1995),
        ("1995.0", 1995),
        ("1995.5", None),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775807.0", 2**63 - 1),
        ("9223372036854775808", None),
        ("1e300", None),
        ("", None),
    ],
)
def test_a_whole_number_is_an_integer_however_it_is_written(read, text, expected):
    (row,) = read("csv", f"{HEADER}\n{LINE.replace('1995', text).replace('3 4', '3.0 4')}\n")
    assert (row["year"], row["seen"]) == (expected, [3, 4])


PARQUET = {
    "example_id": pa.int64(),
    "user_id": pa.string(),
    "item_id": pa.int64(),
    "at": pa.timestamp("us", "UTC"),
    "day": pa.string(),
    "price": pa.float64(),
    "year": pa.int64(),
    "seen": pa.list_(pa.int64()),
    "bought": pa.int64(),
}
MOMENT = datetime.datetime(2025, 3, 1, 12, tzinfo=datetime.UTC)


def table(**types):
    values = [[1], ["7"], [8], [MOMENT], ["Sat"], [9.0], [1995], [[3, 4]], [1]]
    columns = zip(values, (PARQUET | types).items(), strict=True)
    return pa.table({name: pa.array(value, of) for value, (name, of) in columns})


@pytest.mark.parametrize(
    ("column", "of"),
    [
        *(("item_id", of) for of in (pa.int8(), pa.int32(), pa.uint8(), pa.uint32())),
        *(("price", of) for of in (pa.float32(), pa.int32(), pa.int64(), pa.uint32())),
        *(("at", pa.timestamp(unit, zone)) for unit in ("ms", "us") for zone in (None, "UTC")),
        ("user_id", pa.large_string()),
        ("seen", pa.list_(pa.int32())),
        ("seen", pa.large_list(pa.int64())),
    ],
)
def test_parquet_of_a_type_without_loss_is_read(read, column, of):
    (row,) = read("parquet", table(**{column: of}))
    assert ids([row]) == [(1, "7", 8, 1)]
    assert row["timestamp"].astimezone(datetime.UTC) == MOMENT
    assert (row["price"], row["weekday"], row["day"], row["seen"]) == (9.0, "Sat", DAY, [3, 4])


def test_a_number_is_an_integer_in_one_file_and_a_float_in_another(read):
    """As pandas writes it: an integer, until one is missing."""
    rows = read("parquet", table(price=pa.int64()), table())
    assert [(row["price"], row["source_file"][-18:]) for row in rows] == [
        (9.0, f"{DAY}.parquet"),
        (9.0, "2025-03-02.parquet"),
    ]


def test_moments_as_spark_writes_them_by_default_are_read(read, tmp_path):
    pq.write_table(table(), tmp_path / "old", use_deprecated_int96_timestamps=True)
    (row,) = read("parquet", (tmp_path / "old").read_bytes())
    assert row["timestamp"].astimezone(datetime.UTC) == MOMENT


@pytest.mark.parametrize(
    ("column", "of", "expected"),
    [
        ("at", pa.timestamp("ns", "UTC"), "has timestamp, which is read from .* in milliseconds"),
        ("item_id", pa.uint64(), "has int64, which is read from integers, and no uint64"),
        ("price", pa.uint64(), "has float64, which is read from float, double and integers"),
        ("seen", pa.list_(pa.float64()), "has list<int64>, which is read from lists of integers"),
        ("seen", pa.list_(pa.uint64()), "has list<int64>, which is read from lists of integers"),
        ("user_id", pa.binary(), "has string, which is read from strings"),
    ],
)
def test_parquet_of_a_type_that_spark_cannot_read_is_an_error(read, column, of, expected):
    message = rf"2025-03-02.parquet: column {column} is .*; the schema {expected}"
    with pytest.raises(RunbookError, match=message):
        read("parquet", table(), table(**{column: of}))
