"""The guide to a new data set works as it is written: its files, then its commands."""

import inspect
import json
import re
import runpy
import sys
from pathlib import Path

import pytest

from features import __main__ as features_main
from features.datasets.readers import OwnReader
from features.datasets.schema_files.build import read_data_set
from features.datasets.schema_files.discovery import files_of
from features.datasets.schema_files.problems import SchemaFileError
from features.lake.lake import Lake

ROOT = Path(__file__).resolve().parents[1]
GUIDE = (ROOT / "docs" / "add-a-data-set.md").read_text()
SOURCES = (ROOT / "docs" / "sources.md").read_text()
IN_SOURCES = [
    *re.findall(r"^```yaml\n(source:\n.*?)^```", SOURCES, re.M | re.S),
    *re.findall(r"^    (source: \{.*\})$", SOURCES, re.M),
]
IDS = re.findall(r"^example_id: .*?(?=  #)", SOURCES, re.M)


def block(kind: str) -> str:
    (found,) = re.findall(rf"^```{re.escape(kind)}\n(.*?)^```", GUIDE, re.M | re.S)
    return found


def write(folder: Path, kind: str) -> Path:
    """Write a file of the guide into a scratch folder."""
    name = re.search(r'title="(.+)"', kind)[1]
    (folder / name).write_text(block(kind))
    return folder / name


@pytest.mark.spark
def test_a_new_data_set_gets_from_its_log_to_the_store_and_to_examples(
    spark, tmp_path, monkeypatch, capsys
):
    file = write(tmp_path, 'yaml title="visits.yaml"')
    loader = write(tmp_path, 'python title="land_visits.py"')
    monkeypatch.setattr("features.spark.session.start_session", lambda name: spark)
    monkeypatch.setenv("RANKING_VAR", str(tmp_path / "var"))
    export, *lines = block("bash").splitlines()
    name, _, value = export.removeprefix("export ").partition("=")
    monkeypatch.setenv(name, value.replace("$PWD", str(file.parent)))
    for line in lines:
        if line.startswith(f"python {loader.name} "):
            folder = tmp_path / line.split()[-1]
            monkeypatch.setattr(sys, "argv", [loader.name, str(folder)])
            runpy.run_path(str(loader))
            continue
        code = features_main.main(line.removeprefix("python -m features ").split())
        summary = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert code == 0, (line, summary)
    lake = Lake(tmp_path / "var" / "lake", "visits")
    assert [lake.manifest("examples", day).rows for day in lake.days("examples")] == [1000] * 3
    assert (tmp_path / "var" / "feast" / "visits" / "online.db").stat().st_size > 0


def test_its_reader_offers_what_is_asked_of_one(tmp_path):
    module = runpy.run_path(str(write(tmp_path, 'python title="visits_reader.py"')))
    for name in ("read_files", "read_attributes"):
        asked = list(inspect.signature(getattr(OwnReader, name)).parameters.values())[1:]
        assert list(inspect.signature(module[name]).parameters.values()) == asked


def test_its_error_is_the_one_that_is_shown(tmp_path):
    file = write(tmp_path, 'yaml title="visits.yaml"')
    file.write_text(file.read_text().replace("delay: 1h", "delay: 1 hour"))
    (shown,) = re.findall(r"^    (visits\.yaml:.*)$", GUIDE, re.M)
    with pytest.raises(SchemaFileError) as caught:
        read_data_set(file)
    assert str(caught.value) == f"{tmp_path}/{shown}"


def test_its_files_in_python_are_data_sets_and_its_error_is_theirs(tmp_path):
    write(tmp_path, 'python title="visits_of.py"')
    file = write(tmp_path, 'python title="visits-de.py"')
    schema = read_data_set(file).schema
    assert [column.name for column in schema.context] == ["stock_front", "stock_window"]
    assert [path.name for path in files_of(tmp_path, "")] == ["visits-de.py"]
    file.write_text(file.read_text().replace(', shelves=["front", "window"]', ""))
    (shown,) = re.findall(r"^    (visits-de\.py:.*)$", GUIDE, re.M)
    with pytest.raises(SchemaFileError) as caught:
        read_data_set(file)
    assert str(caught.value).startswith(f"{tmp_path}/{shown}")


@pytest.mark.parametrize("source", IN_SOURCES)
def test_what_the_page_of_sources_shows_is_a_source(tmp_path, source):
    file = write(tmp_path, 'yaml title="visits.yaml"')
    file.write_text(file.read_text().partition("source:")[0] + source + "\n")
    names = {line.partition(":")[0].strip() for line in source.splitlines()[1:]}
    found = read_data_set(file).source
    assert names <= {*found.model_fields_set, ""}
    assert found.format in source


def test_the_ids_that_the_page_of_sources_shows_are_declared_so(tmp_path):
    assert (len(IN_SOURCES), len(IDS)) == (3, 2)
    for text in IDS:
        file = write(tmp_path, 'yaml title="visits.yaml"')
        declared = text.replace("request_id", "user_id")
        file.write_text(file.read_text().replace("user:", f"{declared}\nuser:", 1))
        derived = read_data_set(file).schema.example_id
        assert (derived.keys, derived.column) in {(("user_id", "item_id"), ""), ((), "event_uuid")}
