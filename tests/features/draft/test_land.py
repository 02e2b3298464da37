"""A log in one file is landed as a file for each day, as the jobs read them."""

import datetime
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from support.logs import click_log

from features import __main__ as features_main


def land(capsys, folder, *paths, schema=click_log.SCHEMA):
    """Exit code and summary."""
    (folder / "clicks.yaml").write_text(schema)
    flags = (f"--schema={folder / 'clicks.yaml'}", f"--landing={folder / 'landing'}")
    code = features_main.main(["land", *flags, "--from", *map(str, paths)])
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return code, json.loads(printed.out.splitlines()[-1])


def log(folder, *days):
    path = folder / "log.csv"
    click_log.write(path, [row for day in days for row in click_log.rows_of(day)])
    return path


def landed(folder):
    return folder / "landing" / "clicks" / "impressions"


def test_rows_land_as_their_days_and_a_day_between_is_there_without_rows(tmp_path, capsys):
    code, summary = land(capsys, tmp_path, log(tmp_path, 2, 0))
    assert (code, summary["rows"], summary["days"]) == (0, 800, 3)
    assert (summary["first_day"], summary["last_day"]) == ("2025-03-01", "2025-03-03")
    files = sorted(landed(tmp_path).iterdir())
    assert [file.name for file in files] == ["2025-03-01.csv", "2025-03-02.csv", "2025-03-03.csv"]
    assert [len(file.read_text().splitlines()) for file in files] == [401, 1, 401]
    click_log.write(tmp_path / "good.csv", click_log.rows_of(2))
    good = (tmp_path / "good.csv").read_text().splitlines()
    assert sorted(files[2].read_text().splitlines()) == sorted(good)


def test_what_is_landed_is_read_without_a_finding(tmp_path, capsys):
    land(capsys, tmp_path, log(tmp_path, 0, 1, 2))
    flags = (f"--schema={tmp_path / 'clicks.yaml'}", f"--landing={tmp_path / 'landing'}")
    assert features_main.main(["check", *flags]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["findings"] == []


def unzst(content):
    return zstandard.ZstdDecompressor().stream_reader(content).read()


@pytest.mark.parametrize("suffix", ["tsv", "csv.gz", "tsv.zst"])
def test_the_format_is_the_one_of_the_schema_file(tmp_path, capsys, suffix):
    kind, _, compression = suffix.partition(".")
    schema = click_log.SCHEMA.replace("format: csv", f"format: {kind}")
    if compression:
        schema = schema.replace("  time:", f"  compression: {compression}\n  time:")
    code, summary = land(capsys, tmp_path, log(tmp_path, 0), schema=schema)
    assert (code, summary["rows"]) == (0, 400)
    (file,) = landed(tmp_path).iterdir()
    assert file.name == f"2025-03-01.{suffix}"
    content = file.read_bytes()
    if compression:
        unpack = {"gz": gzip.decompress, "zst": unzst}[compression]
        content = unpack(content)
    assert len(content.splitlines()) == 401
    flags = (f"--schema={tmp_path / 'clicks.yaml'}", f"--landing={tmp_path / 'landing'}")
    assert features_main.main(["check", *flags]) == 0


def test_parquet_and_json_lines_keep_their_types(tmp_path, capsys):
    rows = [{**row, "tags": row["tags"].split("|")} for row in click_log.rows_of(0)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = pa.Table.from_pylist(rows)
    at = pa.array([datetime.datetime.fromisoformat(row["at"]) for row in rows])
    pq.write_table(table.set_column(3, "at", at), tmp_path / "log.parquet")
    plain = click_log.SCHEMA.replace('  list_separator: "|"\n', "")
    for kind in ("jsonl", "parquet"):
        schema = plain.replace("format: csv", f"format: {kind}")
        code, _ = land(capsys, tmp_path, tmp_path / f"log.{kind}", schema=schema)
        assert code == 0
        flags = (f"--schema={tmp_path / 'clicks.yaml'}", f"--landing={tmp_path / 'landing'}")
        code = features_main.main(["check", *flags])
        assert (code, json.loads(capsys.readouterr().out.splitlines()[-1])["findings"]) == (0, [])
    code, summary = land(capsys, tmp_path, log(tmp_path, 0), schema=schema)
    assert code == 1
    assert "log.csv: is csv; " in summary["error"]
    assert "which is made of parquet or delta" in summary["error"]


def test_a_day_is_cut_in_utc(tmp_path, capsys):
    rows = click_log.rows_of(0, 2)
    rows[0]["at"], rows[1]["at"] = "2025-03-01T01:00:00+02:00", "2025-03-01T23:30:00-01:00"
    click_log.write(tmp_path / "log.csv", rows)
    land(capsys, tmp_path, tmp_path / "log.csv")
    assert sorted(file.name for file in landed(tmp_path).iterdir()) == [
        "2025-02-28.csv",
        "2025-03-01.csv",
        "2025-03-02.csv",
    ]


def test_a_row_without_a_moment_and_a_log_without_the_column_are_named(tmp_path, capsys):
    rows = click_log.rows_of(0, 20)
    rows[3]["at"] = "noon"
    click_log.write(tmp_path / "log.csv", rows)
    code, summary = land(capsys, tmp_path, tmp_path / "log.csv")
    assert (code, landed(tmp_path).exists()) == (1, False)
    assert "log.csv: 1 of 20 rows have no moment" in summary["error"]
    other = click_log.SCHEMA.replace("column: at", "column: when")
    code, summary = land(capsys, tmp_path, tmp_path / "log.csv", schema=other)
    assert code == 1
    assert "log.csv: has no column when, which source.time.column names" in summary["error"]
