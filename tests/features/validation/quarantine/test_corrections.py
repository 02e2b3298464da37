"""Mappings and files of corrected rows: what they say, and what is wrong with them, in words."""

import datetime
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.datasets.catalog import schema_of
from features.datasets.schema_files.problems import SchemaFileError
from features.places import place
from features.spark.row_rules import names_of_warnings
from features.validation.quarantine.corrected_file import read_corrected
from features.validation.quarantine.mapping import Replacement, read_mapping

SCHEMA = schema_of("synthetic")
RULES = names_of_warnings(SCHEMA)


def mapping_of(tmp_path, text):
    path = tmp_path / "fix.yaml"
    path.write_text(text)
    return read_mapping(path, SCHEMA, RULES)


def test_a_mapping_says_by_rule_and_column_what_takes_a_values_place(tmp_path):
    text = """
device:vocabulary:
  device: {fridge: phone, toaster: null}
device:present:
  device: {null: desktop}
true_probability:range:
  true_probability: {2: 1.0}
  click: {7: 1}
"""
    assert mapping_of(tmp_path, text) == [
        Replacement("device:vocabulary", "device", "fridge", "phone"),
        Replacement("device:vocabulary", "device", "toaster", None),
        Replacement("device:present", "device", None, "desktop"),
        Replacement("true_probability:range", "true_probability", 2.0, 1.0),
        Replacement("true_probability:range", "click", 7, 1),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("device:vocab:\n  device: {a: b}", "1: device:vocab: a mapping; no rule that holds rows"),
        ("device:vocabulary:\n  devise: {a: b}", "2: device:vocabulary.devise: .*no such column"),
        ("device:vocabulary:\n  timestamp: {a: b}", "timestamp: .*type timestamp.*--file"),
        ("click:range:\n  click:\n    7: one", "3: click:range.click.7: 'one'; .*valid integer"),
        ("click:range:\n  click: {seven: 1}", "click.seven: .*replaced: .*valid integer"),
        ("click:range:\n  click: {7: true}", "click.7: 'true'; expected a valid integer"),
        ("device:vocabulary:\n  device: [fridge]", "device:vocabulary.device: .*valid dictionary"),
        ("- device", "the file: a list; expected a valid dictionary"),
    ],
)
def test_what_is_wrong_in_a_mapping_is_named_with_file_key_and_value(tmp_path, text, said):
    with pytest.raises(SchemaFileError, match=rf"fix\.yaml:\d?.*{said}"):
        mapping_of(tmp_path, text)


def test_a_file_has_the_columns_to_correct_and_those_of_the_quarantine_do_not_matter(tmp_path):
    path = tmp_path / "fix.csv"
    path.write_text(
        "example_id,device,timestamp,click,reasons\n"
        '7,phone,2025-01-02T10:00:00,1,"[outside]"\n8,,2025-01-02T10:00:00+01:00,,\n'
    )
    moments = [datetime.datetime(2025, 1, 2, hour, tzinfo=datetime.UTC) for hour in (10, 9)]
    assert read_corrected(place(path), SCHEMA).to_pydict() == {
        "example_id": [7, 8],
        "device": ["phone", None],
        "timestamp": moments,
        "click": [1, None],
    }
    found = pa.table({"example_id": pa.array([7], pa.int32()), "device": ["tablet"]})
    pq.write_table(found, tmp_path / "fix.parquet")
    read = read_corrected(place(tmp_path / "fix.parquet"), SCHEMA)
    assert read.to_pydict() == {"example_id": [7], "device": ["tablet"]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("example_id,devise\n7,phone\n", "column devise: not in the schema"),
        ("device\nphone\n", "columns ['device']; expected example_id and at least one"),
        ("example_id\n7\n", "columns ['example_id']; expected example_id and at least one"),
        ("example_id,click\n7,one\n", "column click: "),
        ("example_id,timestamp\n7,noon\n", "column timestamp: Invalid isoformat string: 'noon'"),
        ('example_id,timestamp\n7,""\n', "column timestamp: Invalid isoformat string: ''"),
        ("example_id,timestamp\n7,0001-01-01T00:00:00+05:00\n", "column timestamp: '0001-01-01T00"),
        ("example_id,click,click\n7,1,0\n", "column click: there 2 times; once at most"),
        ("example_id,click\n7,1\n7,0\n", "example_id [7] there more than once"),
        ("example_id,click\n7,1\n,0\n", "example_id is missing in 1 rows, the first is row 2"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_column_and_value(tmp_path, text, said):
    path = tmp_path / "fix.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"{path}: {said}")):
        read_corrected(place(path), SCHEMA)


def test_a_file_of_another_kind_or_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"fix\.xlsx: ends with '\.xlsx'; expected one of"):
        read_corrected(place(tmp_path / "fix.xlsx"), SCHEMA)
    with pytest.raises(ValueError, match=r"none\.csv: cannot be read"):
        read_corrected(place(tmp_path / "none.csv"), SCHEMA)
