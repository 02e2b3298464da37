"""The built-in data sets are what their files say, and stay it."""

import enum
import json
from pathlib import Path

import pytest
import yaml

from features.datasets.schema_files.build import read_data_set
from features.datasets.schema_files.marked_yaml import MarkedYaml
from features.datasets.schema_files.models import DataSetEntry
from features.schema.fingerprints import impressions_fingerprint, rows_fingerprint

FOLDER = Path(__file__).resolve().parents[3] / "features" / "datasets"
FINGERPRINTS = {
    "movielens-100k": ("dd97eaa22e906bcc", "1fc4728efbe1b7e0", "a35f8cb19ae96454"),
    "movielens-1m": ("12704b35d0a08728", "7373cc6df04ba0d6", "f7dd7187fb8e5c4e"),
    "synthetic-shop": ("69d532e001567d08", "ef1232c90b1779f9", "bef186fa5a3daea0"),
    "open-bandit": ("ec05a88859dbb5a3", "625ad95c9bb58f0e", "ddb012b8b1bdda3a"),
    "synthetic": ("15c9c259df6cd15a", "dba733397ff13414", "1bc66f29a4b8257a"),
    "synthetic-fields": ("e0d065c5ff417173", "4bf9198b1178795c", "ad2d825bf5b2ffc2"),
}
"""Of the whole, of the rows, of the impressions: with others, what was made under them is void."""


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_a_file_declares_what_the_rows_and_rankers_of_before_were_made_under(name):
    schema = read_data_set(FOLDER / f"{name}.yaml").schema
    found = (schema.fingerprint(), rows_fingerprint(schema), impressions_fingerprint(schema))
    assert found == FINGERPRINTS[name]


class Dumper(yaml.SafeDumper):
    """Writes the words of enumerations."""


Dumper.add_multi_representer(enum.StrEnum, lambda dumper, word: dumper.represent_str(word.value))


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_what_was_read_can_be_written_and_read_again(name, tmp_path):
    path = FOLDER / f"{name}.yaml"
    entry = DataSetEntry.model_validate(MarkedYaml(path).data)
    again = tmp_path / path.name
    again.write_text(yaml.dump(entry.model_dump(exclude_unset=True, by_alias=True), Dumper=Dumper))
    read, expected = read_data_set(again), read_data_set(path)
    # Dumped keys are in alphabetical order, and the order of columns is that of the inputs.
    assert read.source == expected.source
    assert DataSetEntry.model_validate(MarkedYaml(again).data) == entry
    again.write_text(yaml.dump(entry.model_dump(by_alias=True), Dumper=Dumper, sort_keys=False))
    assert read_data_set(again).schema == expected.schema


def test_an_editor_completes_the_files_by_the_schema_of_the_models():
    committed = json.loads((FOLDER / "schema.json").read_text())
    for name in FINGERPRINTS:
        first = (FOLDER / f"{name}.yaml").read_text().partition("\n")[0]
        assert first == "# yaml-language-server: $schema=schema.json"
    assert committed["properties"].keys() == DataSetEntry.model_fields.keys()
