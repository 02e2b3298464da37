"""Files that are no log: each ends in an error that names the key, or the file and the line."""

import gzip
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.logs import click_log

from features import __main__ as features_main

# Every value counts: with a warning a row would go to quarantine, and the day would go on.
SCHEMA = re.sub(r"(, doc: )", r", severity: critical\1", click_log.SCHEMA)
SCHEMA = SCHEMA.replace("severity: critical, doc: What visitors", "doc: What visitors")
ROWS = 60
FILE = "2025-03-01.csv"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "clicks.yaml").write_text(SCHEMA)
    click_log.write(click_log.day_file(tmp_path, 0), click_log.rows_of(0, ROWS))
    return tmp_path


def run(capsys, *arguments):
    """Exit code, the error, and everything that was found."""
    code = features_main.main(arguments)
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    summary = json.loads(printed.out.splitlines()[-1])
    said = [f"{one['key']}: {one['said']}" for one in summary.get("findings", ())]
    return code, summary.get("error", ""), [one for one in said if one]


def check(capsys, folder):
    flags = (f"--schema={folder / 'clicks.yaml'}", f"--landing={folder / 'landing'}")
    return run(capsys, "check", *flags)


def test_the_good_file_is_accepted(folder, capsys):
    assert check(capsys, folder) == (0, "", [])


HEADER = "example_id,visitor,article,at,device,basket,tags,coupon,clicked,dwell"
COLUMNS = HEADER.split(",")


def bytes_changed(old, new, count=1):
    def change(content):
        assert old in content
        return content.replace(old, new, count)

    return change


def header(*names):
    return bytes_changed(HEADER.encode(), ",".join(names).encode())


def value(column, text, line=12):
    """Another value in one line, from 1 on."""

    def change(content):
        lines = content.decode().splitlines()
        values = lines[line - 1].split(",")
        values[COLUMNS.index(column)] = text
        lines[line - 1] = ",".join(values)
        return ("\n".join(lines) + "\n").encode()

    return change


def line(text, number=12):
    def change(content):
        lines = content.splitlines()
        lines[number - 1] = text if isinstance(text, bytes) else text.encode()
        return b"\n".join(lines) + b"\n"

    return change


def without_column(name):
    return header(*(f"no_{one}" if one == name else one for one in COLUMNS))


def is_read(name):
    return "timestamp" if name == "at" else name


def one_more_column(content):
    first, *others = content.splitlines()
    return b"\n".join([first + b",clicked", *(line + b",1" for line in others)]) + b"\n"


MUTATIONS = [
    # name, what is changed in the file, what is said: the file and the line, or the key
    *((f"no {name}", without_column(name),
       rf"{FILE}, line 1: column {name}, which is read as {is_read(name)}, is not in the header")
      for name in COLUMNS),
    ("column twice", header(*COLUMNS[:-1], "clicked"), r"line 1: column dwell"),
    ("one more column twice", one_more_column,
     rf"{FILE}, line 1: columns \['clicked'\] are more than once"),
    ("names in capitals", header(*map(str.upper, COLUMNS)), r"line 1: column example_id"),
    ("no header", lambda c: c.partition(b"\n")[2], r"line 1: column example_id"),
    ("semicolons", lambda c: c.replace(b",", b";"), r"line 1: column example_id"),
    ("tabs", lambda c: c.replace(b",", b"\t"), r"line 1: column example_id"),
    ("empty", lambda c: b"", rf"{FILE} is cut off"),
    ("a line break", lambda c: b"\n", rf"{FILE}, line 1: is empty"),
    ("header alone", lambda c: c.partition(b"\n")[0] + b"\n", r"2025-03-01: 0 rows; at least 1"),
    ("cut off", lambda c: c[:-9], rf"{FILE} is cut off"),
    ("compressed", lambda c: gzip.compress(c), rf"{FILE} is cut off"),
    ("compressed, a line", lambda c: gzip.compress(c) + b"\n", r"line 1: column example_id"),
    ("UTF-16", lambda c: c.decode().encode("utf-16") + b"\n", r"line 1: column example_id"),
    ("zeros", lambda c: bytes(500) + b"\n", r"line 1: "),
    ("no UTF-8", bytes_changed(b"desktop", b"d\xe9sktop"), rf"impressions/{FILE}: .*line 2"),
    ("more values", line("1,2,3,4,5,6,7,8,9,10,11"), rf"impressions/{FILE}: .*line 12"),
    ("fewer values", line("1,2,3"), rf"impressions/{FILE}: .*line 12"),
    ("a word", line("lost"), rf"impressions/{FILE}: .*line 12"),
    ("a quote that stays open", value("device", '"phone'), rf"impressions/{FILE}: .*line"),
    ("id of a word", value("example_id", "first"),
     rf"example_id: .*'first' \(impressions/{FILE}, line 12"),
    ("id with a fraction", value("example_id", "7.5"), r"example_id: .*'7.5' .*line 12"),
    ("id too large", value("example_id", "9" * 25), r"example_id: .*'9999.* line 12"),
    ("no id", value("example_id", ""),
     r"example_id: 1 of 60 rows \(1.67%\) have no value: the day st"),
    ("id twice", value("example_id", "3"),
     r"example_id: 2 rows share 1 values of example_id, such as 3"),
    ("no user", value("visitor", ""), r"user: 1 of 60 rows"),
    ("user of a word", value("visitor", "anna"), r"user: .*'anna' .*line 12"),
    ("user below zero", value("visitor", "-4"), r"user.minimum: .*values are -4"),
    ("user in hexadecimal", value("visitor", "0x1f"), r"user: .*'0x1f' .*line 12"),
    ("user with a mark", value("visitor", "1_000"), r"user: .*'1_000' .*line 12"),
    ("no item", value("article", ""), r"item: 1 of 60 rows"),
    ("item of a word", value("article", "null"), r"item: .*'null' .*line 12"),
    ("item in quotes", value("article", '"a ""b"""'), r"item: .*'a \"b\"' .*line 12"),
    ("item below zero", value("article", "-1"), r"item.minimum: .*values are -1"),
    ("no time", value("at", ""), r"source.time: 1 of 60 rows"),
    ("time of a word", value("at", "noon"), r"source.time: .*'noon' .*line 12"),
    ("a day that is none", value("at", "2025-02-30T12:00:00"), r"source.time: .*'2025-02-30T12"),
    ("seconds since 1970", value("at", "1740830400"), r"source.time: .*'1740830400' .*line 12"),
    ("day after", value("at", "2025-03-02T00:00:00Z"), r"source.time: 1 of 60 .* another day"),
    ("local time", value("at", "2025-03-01T00:30:00+02:00"),
     r"source.time: 1 of 60 .*1.5 hours bef"),
    ("device in capitals", value("device", "Phone"), r"context.device.vocabulary: .*'Phone' \(1\)"),
    ("device with a blank", value("device", " phone"), r"context.device.vocabulary: .*' phone'"),
    ("no device", value("device", ""), r"context.device: 1 of 60 rows"),
    ("decimal comma", value("basket", '"9,95"'), r"context.basket: .*'9,95' .*line 12"),
    ("currency", value("basket", "9.95 EUR"), r"context.basket: .*'9.95 EUR' .*line 12"),
    ("no number", value("basket", "NaN"), r"context.basket.maximum: 1 of 60"),
    ("below the minimum", value("basket", "-0.01"), r"context.basket.minimum: 1 of 60"),
    ("an unknown tag", value("tags", "new|blue"), r"context.tags.vocabulary: .*'blue' \(1\)"),
    ("many tags", value("tags", "new|red|sale|new"), r"context.tags.max_length: 1 of 60"),
    ("label of a word", value("clicked", "yes"), r"stored.clicked: .*'yes' .*line 12"),
    ("label of 2", value("clicked", "2"), r"stored.clicked.maximum: 1 of 60"),
    ("label below zero", value("clicked", "-1"), r"stored.clicked.minimum: 1 of 60"),
    ("no label", value("clicked", ""), r"stored.clicked: 1 of 60 rows"),
    ("dwell of a word", value("dwell", "long"), r"stored.dwell: .*'long' .*line 12"),
    ("dwell below zero", value("dwell", "-3"), r"stored.dwell.minimum: 1 of 60"),
]  # fmt: skip


WARNINGS = {"day after", "local time", "dwell of a word"}
"""Rows that would go to quarantine, and a column that may be missing."""


@pytest.mark.parametrize(("name", "change", "said"), MUTATIONS)
def test_a_spoilt_file_is_an_error_that_names_the_key_or_the_line(
    folder, capsys, name, change, said
):
    file = click_log.day_file(folder, 0)
    file.write_bytes(change(file.read_bytes()))
    code, error, found = check(capsys, folder)
    assert (code, bool(error)) == ((0, False) if name in WARNINGS else (1, True))
    assert any(re.search(said, one) for one in found), found


def test_there_are_at_least_fifty_of_them():
    assert len({name for name, _, _ in MUTATIONS}) >= 50


@pytest.mark.parametrize(
    ("old", "new"),
    [("\r\n", "\n"), ("\n", "\n\n"), (HEADER, "\ufeff" + HEADER), ("phone", '"phone"')],
)
def test_what_is_no_fault_is_none(folder, capsys, old, new):
    file = click_log.day_file(folder, 0)
    file.write_bytes(file.read_text().replace("\r\n", "\n").replace(old, new).encode())
    assert check(capsys, folder) == (0, "", [])


def parquet(folder, **columns):
    rows = click_log.rows_of(0, ROWS)
    table = {name: [row[name] for row in rows] for name in COLUMNS}
    table |= {
        "tags": [["new"], ["red"]] * (ROWS // 2),
        "at": pa.array([1740830400000000] * ROWS, pa.timestamp("us")),
    }
    for name, make in columns.items():
        table[name] = make(table[name])
    file = click_log.day_file(folder, 0)
    file.unlink()
    pq.write_table(
        pa.table({k: v for k, v in table.items() if v is not None}), file.with_suffix(".parquet")
    )
    schema = folder / "clicks.yaml"
    schema.write_text(
        SCHEMA.replace("format: csv", "format: parquet").replace('  list_separator: "|"\n', "")
    )
    return file.with_suffix(".parquet")


PARQUET = [
    (
        "basket",
        lambda v: pa.array([str(x) for x in v]),
        "column basket is string; the schema has float64",
    ),
    (
        "clicked",
        lambda v: pa.array([bool(x) for x in v]),
        "column clicked is bool; the schema has int64",
    ),
    ("visitor", lambda v: pa.array(v, pa.uint64()), "column visitor is uint64"),
    ("article", lambda v: pa.array(v, pa.float64()), "column article is double"),
    ("at", lambda v: v.cast(pa.timestamp("ns")), r"column at is timestamp\[ns\]"),
    ("at", lambda v: v.cast(pa.date32()), r"column at is date32\[day\]"),
    (
        "tags",
        lambda v: pa.array(["new"] * ROWS),
        "column tags is string; the schema has list<string>",
    ),
    ("device", lambda v: None, "column device is missing; the schema has string"),
]


@pytest.mark.parametrize(("column", "make", "said"), PARQUET)
def test_a_parquet_column_of_another_type_is_named(folder, capsys, column, make, said):
    file = parquet(folder, **{column: make})
    code, error, found = check(capsys, folder)
    assert code == 1
    assert re.search(rf"file .*{file.name}: {said}", error), found


def test_a_good_parquet_file_is_accepted_and_a_part_of_it_is_not(folder, capsys):
    file = parquet(folder)
    assert check(capsys, folder) == (0, "", [])
    file.write_bytes(file.read_bytes()[:-20])
    code, error, _ = check(capsys, folder)
    assert code == 1
    assert f"{file} is cut off" in error


JSON_LINES = [
    (lambda lines: ["{broken", *lines[1:]], r"example_id: 1 of 60 rows"),
    (lambda lines: ["[1, 2]", *lines[1:]], r"example_id: 1 of 60 rows"),
    (lambda lines: [one.replace('"visitor"', '"guest"') for one in lines], r"user: 60 of 60 rows"),
    (
        lambda lines: [one.replace('"basket": ', '"basket": "x') for one in lines],
        r"example_id: 60 of 60",
    ),
]


@pytest.mark.parametrize(("change", "said"), JSON_LINES)
def test_a_broken_json_line_is_named(folder, capsys, change, said):
    file = click_log.day_file(folder, 0)
    rows = [{**row, "tags": row["tags"].split("|")} for row in click_log.rows_of(0, ROWS)]
    file.unlink()
    lines = change([json.dumps(row) for row in rows])
    file.with_suffix(".jsonl").write_text("\n".join(lines) + "\n")
    schema = SCHEMA.replace("format: csv", "format: jsonl").replace('  list_separator: "|"\n', "")
    (folder / "clicks.yaml").write_text(schema)
    code, _, found = check(capsys, folder)
    assert code == 1
    assert any(re.search(said, one) for one in found), found
