"""The guide to a new data set works as it is written: its code, then its commands."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

from features import __main__ as features_main
from features.datasets import catalog, readers
from features.lake.lake import Lake

ROOT = Path(__file__).resolve().parents[1]
GUIDE = (ROOT / "docs" / "add-a-data-set.md").read_text()


def block(kind: str) -> str:
    (found,) = re.findall(rf"^```{re.escape(kind)}\n(.*?)^```", GUIDE, re.M | re.S)
    return found


def load(folder: Path, path: str, monkeypatch):
    """Write a module of the guide into a scratch folder, and import it under its name."""
    file = folder / Path(path).name
    file.write_text(block(f'python title="{path}"'))
    name = path.removesuffix(".py").replace("/", ".")
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.spark
def test_a_new_data_set_gets_from_its_log_to_the_store_and_to_examples(
    spark, tmp_path, monkeypatch, capsys
):
    schema = load(tmp_path, "features/datasets/visits/schema.py", monkeypatch).SCHEMA
    reader = load(tmp_path, "features/datasets/visits/reader.py", monkeypatch)
    monkeypatch.setitem(catalog.SCHEMAS, "visits", schema)
    monkeypatch.setitem(readers.READERS, "visits", reader)
    monkeypatch.setattr("features.spark.session.start_session", lambda name: spark)
    monkeypatch.setenv("RANKING_VAR", str(tmp_path))
    for line in block("bash").splitlines():
        code = features_main.main(line.removeprefix("python -m features ").split())
        summary = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert code == 0, (line, summary)
    lake = Lake(tmp_path / "lake", "visits")
    assert [lake.manifest("examples", day).rows for day in lake.days("examples")] == [1000] * 3
    assert (tmp_path / "feast" / "visits" / "online.db").stat().st_size > 0


def test_its_reader_offers_what_the_jobs_and_the_push_ask_of_one(tmp_path, monkeypatch):
    load(tmp_path, "features/datasets/visits/schema.py", monkeypatch)
    reader = load(tmp_path, "features/datasets/visits/reader.py", monkeypatch)
    asked = {name for name in vars(readers.Reader) if not name.startswith("_")}
    assert {"read_files", "read_attributes"} <= asked
    assert asked | {"SUFFIX"} <= set(vars(reader))


def test_the_schedules_declaration_is_what_the_schema_says():
    declared = block('python title="dags/ranking_assets.py"')
    schema = block('python title="features/datasets/visits/schema.py"')
    reader = block('python title="features/datasets/visits/reader.py"')
    fact = r"(first_day=datetime\.date\([^)]*\)|last_day=None|holdout_days=1)"
    assert all(f"{found}," in schema for found in re.findall(fact, declared))
    assert re.search(r'suffix="(\w+)"', declared)[1] == re.search(r'SUFFIX = "(\w+)"', reader)[1]
