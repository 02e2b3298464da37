"""A table and the rows of a module of one's own are checked as the job reads them."""

import datetime
import json

import deltalake
import pyarrow as pa
import pytest
from support.logs import click_log

from features import __main__ as features_main


def table_of(folder, rows):
    """A Delta table of good rows, and the schema file that reads it."""
    schema = click_log.SCHEMA.replace("format: csv", "format: delta")
    (folder / "clicks.yaml").write_text(schema.replace('  list_separator: "|"\n', ""))
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    columns["at"] = [datetime.datetime.fromisoformat(row["at"]) for row in rows]
    columns["tags"] = [row["tags"].split("|") for row in rows]
    place = folder / "landing" / "clicks" / "impressions"
    deltalake.write_deltalake(str(place), pa.table(columns))


def check(capsys, folder, *flags):
    code = features_main.main(
        ["check", f"--schema={folder / 'clicks.yaml'}", f"--landing={folder / 'landing'}", *flags]
    )
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.spark
def test_days_of_a_delta_table_are_checked(tmp_path, capsys, spark, monkeypatch):
    monkeypatch.setattr("features.spark.session.start_session", lambda name: spark)
    rows = click_log.rows_of(0, 100)
    rows[3]["device"], rows[4]["basket"] = "tv", -1.0
    table_of(tmp_path, rows)
    code, summary = check(capsys, tmp_path, "--days", "2025-03-01")
    assert (code, summary["rows"]) == (0, 100)
    assert {one["key"] for one in summary["findings"]} == {
        "context.device.vocabulary",
        "context.basket.minimum",
    }


def test_of_a_table_the_days_are_asked_for_and_one_that_is_not_there_is_named(tmp_path, capsys):
    table_of(tmp_path, click_log.rows_of(0, 20))
    code, summary = check(capsys, tmp_path)
    assert code == 1
    assert "--days: missing; of a delta source, name the days to be read" in summary["error"]
    (tmp_path / "clicks.yaml").write_text(
        click_log.SCHEMA.replace("format: csv", "format: delta\n  path: /nowhere").replace(
            '  list_separator: "|"\n', ""
        )
    )
    code, summary = check(capsys, tmp_path, "--days", "2025-03-01")
    assert code == 1
    assert "source.format delta: " in summary["error"]
