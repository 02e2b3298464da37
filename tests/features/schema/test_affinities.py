"""Affinities in a schema file: what they become, and errors that name the line."""

from pathlib import Path

import pytest

from features.datasets.schema_files.build import read_data_set
from features.datasets.schema_files.problems import SchemaFileError
from features.parity.differences import features_of
from features.schema import Dtype, Kind
from features.schema.fingerprints import impressions_fingerprint, rows_fingerprint
from features.schema.keys import attributes_read

SHOP = (Path(__file__).parents[1] / "schema_files" / "shop.yaml").read_text()
COLOURS = """\
      item_colours: {type: list<string>, kind: sparse, hash_size: 9, max_length: 4, doc: Colours.}
"""
PLAIN = SHOP.replace("      item_price:\n", f"{COLOURS}      item_price:\n")
GOOD = PLAIN.replace(
    "    history_length: 10\n", "    history_length: 10\n    affinities: [item_colours]\n"
)


def read(tmp_path, text):
    path = tmp_path / "shop.yaml"
    path.write_text(text)
    return read_data_set(path).schema


def test_an_affinity_is_an_input_made_of_a_user_row_that_keeps_the_values_of_its_last_items(
    tmp_path,
):
    schema, plain = read(tmp_path, GOOD), read(tmp_path, PLAIN)
    state = schema.table("user_state")
    kept = [(c.name, c.dtype, c.kind, c.max_length) for c in state.columns[-2:]]
    assert kept == [
        ("user_history_item_colours", Dtype.STRING_LIST, Kind.STORED, 40),
        ("user_history_item_colours_counts", Dtype.INT64_LIST, Kind.STORED, 10),
    ]
    indicators = len(schema.tables)
    added = [*plain.dense_inputs()]
    added.insert(-indicators, "user_affinity_item_colours")
    assert [*schema.dense_inputs()] == added
    assert schema.dense_kinds()[-indicators - 1] is Kind.RATE
    assert {"user_history_item_colours", "user_history_labels"} <= {*state.encoded_columns}
    assert attributes_read(schema, state) == [schema.table("item_attributes")]
    found = features_of(schema, state)
    assert found["user_history_item_colours_counts"] == ("user_affinity_item_colours",)
    assert found["user_history_labels"][-1] == "user_affinity_item_colours"
    of_items = features_of(schema, schema.table("item_attributes"))
    assert of_items["item_colours"] == ("item_colours", "user_affinity_item_colours")


def test_rows_and_rankers_of_before_are_of_another_schema_and_the_log_is_not(tmp_path):
    schema, plain = read(tmp_path, GOOD), read(tmp_path, PLAIN)
    assert schema.fingerprint() != plain.fingerprint()
    assert rows_fingerprint(schema) != rows_fingerprint(plain)
    assert impressions_fingerprint(schema) == impressions_fingerprint(plain)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("item_price", "affinities.0: 'item_price'; table user_state: affinities 'item_price'; "),
        ("device", "affinities.0: 'device'; table user_state: affinities 'device'; each one of "),
        (
            "item_colours, item_colours",
            "affinities.1: 'item_colours'; table user_state: affinities",
        ),
    ],
)
def test_what_is_no_sparse_attribute_of_items_is_named_with_its_line(tmp_path, names, said):
    with pytest.raises(SchemaFileError) as caught:
        read(tmp_path, GOOD.replace("[item_colours]", f"[{names}]"))
    assert said in str(caught.value)
    assert "['item_colours'], which are the sparse columns of item_attributes" in str(caught.value)
