"""A lake and a landing folder that a drill may spoil, and the jobs as the DAG runs them."""

import ast
import dataclasses
import datetime
import inspect
import json
import re
import shutil
from pathlib import Path

import pytest
from support.lake_rows import UNLEARNT

from features import __main__ as features_main
from features.commands import COMMANDS
from features.lake.lake import EXAMPLES, IMPRESSIONS, IMPRESSIONS_RAW, Lake

REPOSITORY = Path(__file__).resolve().parents[2]
TABLES = (IMPRESSIONS_RAW, IMPRESSIONS, "user_state", "item_daily", EXAMPLES)
DAY_OF_THE_DAG = (
    "ingest",
    "validate --table impressions",
    "build",
    "validate --table features",
    "examples",
)
"""What makes the rows of a day."""


class Sandbox:
    """A copy of the built log, without its last days, and the command line on it."""

    def __init__(self, built, root: Path, capsys) -> None:
        self.built, self.root, self.capsys = built, root, capsys
        self.lake = Lake(root / "lake", built.schema.name)
        for name in ("lake", "landing"):
            shutil.copytree(built.root / name, root / name, symlinks=True, ignore=UNLEARNT)

    def remove_days(self, *days: datetime.date) -> None:
        """Remove these days, as if they had not happened yet."""
        for table in TABLES:
            self.lake.remove(table, days)

    def landed(self, day: datetime.date) -> Path:
        return self.root / "landing" / "synthetic" / "impressions" / f"{day}.parquet"

    def run(self, line: str) -> dict:
        """One command line as it would be typed; returns its JSON object, with its exit code."""
        command, *flags = line.split()
        folders = {name: f"--{name}={self.root / name}" for name in ("lake", "landing", "docs")}
        folders["store"] = f"--store={self.root / 'feast'}"
        (parameter,) = inspect.signature(COMMANDS[command]).parameters.values()
        taken = {field.name for field in dataclasses.fields(parameter.annotation)}
        named = [folders[name] for name in folders if name in taken]
        code = features_main.main([command, *flags, *named])
        self.lake.refresh()
        return {**json.loads(self.capsys.readouterr().out.splitlines()[-1]), "code": code}

    def day(self, day: datetime.date) -> None:
        """The jobs of one day, all of which must succeed."""
        for command in DAY_OF_THE_DAG:
            found = self.run(f"{command} --dataset synthetic --date {day}")
            assert found["code"] == 0, found

    def repair(self, error: str) -> None:
        """Run the commands that the error names."""
        commands = re.findall(r"python -m features ([^&;]+)", error)
        assert commands, error
        for command in commands:
            found = self.run(command.strip())
            assert found["code"] == 0, found

    def hashes(self, *days: datetime.date, lake: Lake | None = None) -> dict:
        return {
            (table, day): (lake or self.lake).manifest(table, day).content_hash
            for table in TABLES
            for day in days
        }

    def equals_the_undisturbed_run(self, *days: datetime.date) -> bool:
        untouched = Lake(self.built.lake, self.built.schema.name)
        return self.hashes(*days) == self.hashes(*days, lake=untouched)


@pytest.fixture
def sandbox(spark, built, tmp_path, monkeypatch, capsys) -> Sandbox:
    # One session for all: a job on a command line of its own would start one.
    monkeypatch.setattr("features.spark.session.start_session", lambda name: spark)
    return Sandbox(built, tmp_path, capsys)


@pytest.fixture(scope="session")
def page_of():
    """The runbook that the alert of a failed task names; its file must be there."""
    source = ast.parse((REPOSITORY / "dags" / "ranking_alerts.py").read_text())
    by_task = next(
        ast.literal_eval(node.value)
        for node in source.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "RUNBOOKS"
    )

    def page(task: str, summary: dict) -> str:
        name = summary.get("runbook") or by_task.get(task, "job-failed")
        assert (REPOSITORY / "infra" / "runbooks" / f"{name}.md").exists()
        return name

    return page
