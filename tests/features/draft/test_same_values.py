"""A check reads values as ``ingest`` does: what one takes for missing, the other does too."""

import datetime
import json

import pytest
from pyspark.sql import functions as F
from support.logs import click_log

from features.datasets.readers import Reader
from features.datasets.schema_files.build import read_data_set
from features.draft.checks.landed import read
from features.draft.log.sample import connect, quoted
from features.places import place
from features.spark.landing import impressions_file
from features.spark.read_landed import split_list

ODD = {
    "visitor": ["7", " 7 ", "7.0", "7.5", "+7", "-7", "007", "1e3", "1_000", "0x1f", "7 7", "",
                "7-",
                "9223372036854775807", "9223372036854775808", "1e18", "1e40", "NaN", "true", "7."],
    "basket": ["7", " 7.5 ", "7,5", ".5", "5.", "1e3", "-0", "NaN", "inf", "Infinity", "-inf",
                "1e400",
               "0x1f", "1_000", "", "7.5 EUR", "--1", "1e", "e1", "null"],
    "clicked": ["1", "0", "1.0", "true", "yes", "", "1.00", "0.9", "01", "1 ", "-0", "+1", "1e0",
                "1,",
                "null", "NULL", "None", "\\N", "1;", "'1'"],
    "at": ["2025-03-01T12:30:00Z", "2025-03-01 12:30:00", "2025-03-01T12:30:00+02:00", "2025-03-01",
           "2025-03-01T12:30:00.123456Z", "2025-03-01T12:30:00-0330", "noon", "",
                "2025-02-30T12:00:00",
           "2025-03-01T25:00:00", "2025-03-01 12:30:00+05:30", "1740830400", "01.03.2025",
                "2025-3-1",
           "2025-03-01T12:30:00 Z", "2025-03-01T12:30", "12h", "2025-03-01T12:30:00.5", "March 1",
           "2025-03-01T00:00:00+00:00"],
    "tags": ["new|red", "new", "", "new||red", " new | red ", "|", "new|", "NEW", "new;red",
                "a|b|c|d",
             "|new", "new red", "0|1|12|35", "-", "0", "new |", "| |", "é", "new\\|red", "|||"],
}  # fmt: skip


def shown(rows):
    """Values in a form in which NaN equals NaN, and a moment has no zone."""

    def plain(value):
        if isinstance(value, datetime.datetime):
            value = value.astimezone(datetime.UTC) if value.tzinfo else value
            return value.replace(tzinfo=None).isoformat()
        return str(value) if isinstance(value, float) else value

    return [[plain(value) for value in row] for row in rows]


def lines(kind, rows):
    if kind == "jsonl":
        objects = [{**row, "tags": [one for one in row["tags"].split("|") if one]} for row in rows]
        return "".join(json.dumps(one) + "\n" for one in objects)
    header = ",".join(rows[0])
    return (
        "\n".join([header, *(",".join(quote(one) for one in row.values()) for row in rows)]) + "\n"
    )


def quote(value):
    return f'"{value}"' if "," in str(value) else str(value)


@pytest.mark.spark
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_values_are_read_as_the_job_reads_them(tmp_path, spark, kind):
    rows = click_log.rows_of(0, 20)
    for column, values in ODD.items():
        for row, value in zip(rows, values, strict=True):
            row[column] = value
    schema = click_log.SCHEMA.replace("format: csv", f"format: {kind}")
    if kind == "jsonl":
        schema = schema.replace('  list_separator: "|"\n', "")
    (tmp_path / "clicks.yaml").write_text(schema)
    data_set = read_data_set(tmp_path / "clicks.yaml")
    day = click_log.FIRST_DAY
    file = impressions_file(place(tmp_path), day, kind)
    file.parent.mkdir()
    file.write_text(lines(kind, rows))
    names = ["example_id", *ODD, "device"]
    by_job = Reader(data_set.schema, data_set.source).read_files(spark, [file])
    by_job = by_job.orderBy("example_id").select(
        *("timestamp" if name == "at" else name for name in names)
    )
    with connect() as connection:
        landed, findings = read(connection, data_set, place(tmp_path), [day])
        assert findings == []
        columns = ", ".join(quoted("timestamp" if name == "at" else name) for name in names)
        by_check = connection.execute(
            f"SELECT {columns} FROM {landed.table} ORDER BY example_id"
        ).fetchall()
    expected, found = shown(by_job.collect()), shown(by_check)
    differ = {
        (name, rows[at][name]): (one, other)
        for at, pair in enumerate(zip(expected, found, strict=True))
        for name, one, other in zip(names, *pair, strict=True)
        if one != other
    }
    assert differ == {}


@pytest.mark.spark
def test_a_digit_is_not_cut_off_a_value_of_a_list(spark):
    frame = spark.createDataFrame([("0 1 2 10 14  35",)], "text string")
    (row,) = frame.select(split_list(F.col("text")).alias("values")).collect()
    assert row["values"] == ["0", "1", "2", "10", "14", "35"]
