"""Declared histories in a schema file: what they become, and errors that name the line."""

from pathlib import Path

import pytest

from features.datasets.schema_files.build import read_data_set
from features.datasets.schema_files.problems import SchemaFileError
from features.schema import Kind
from features.schema.fingerprints import rows_fingerprint

SHOP = (Path(__file__).parent / "shop.yaml").read_text()
DECLARED = """\
  - kind: aggregates
    name: interests_daily
    by: [user_id]
    ttl: 7d
    delay: 1h
    histories:
      bought: {of: sale, length: 3, columns: [item_id, item_colour, age]}
      seen: {of: impressions, length: 9, columns: [item_id, device]}
"""
COLOUR = "      item_colour: {type: string, kind: sparse, hash_size: 9, doc: Its colour.}\n"
GOOD = SHOP.replace("  - kind: item_attributes\n", f"{DECLARED}  - kind: item_attributes\n")
GOOD = GOOD.replace("      item_price:\n", f"{COLOUR}      item_price:\n")


def read(tmp_path, text):
    path = tmp_path / "shop.yaml"
    path.write_text(text)
    return read_data_set(path).schema


def test_a_history_is_a_list_for_each_column_that_it_keeps(tmp_path):
    """Of attributes too, which are declared after it; ids look up the table of the item."""
    schema = read(tmp_path, GOOD)
    table = schema.table("interests_daily")
    found = [(c.name, c.kind, c.max_length, c.shares_table_with) for c in table.columns]
    assert found == [
        ("bought_item_id", Kind.SPARSE, 3, "item_id"),
        ("bought_item_colour", Kind.SPARSE, 3, "item_colour"),
        ("bought_age", Kind.AGE, 3, ""),
        ("seen_item_id", Kind.SPARSE, 9, "item_id"),
        ("seen_device", Kind.SPARSE, 9, "device"),
    ]
    assert [name for name in schema.dense_inputs() if "bought" in name] == [
        "bought_age_0",
        "bought_age_1",
        "bought_age_2",
    ]
    assert schema.table_owners["seen_item_id"].name == "item_id"
    assert table.doc == "Histories by user_id, as of the end of a day."


def test_a_table_may_have_aggregates_and_histories(tmp_path):
    counts = "    columns: {bought_shown: {of: impressions, kind: count}}\n    histories:\n"
    schema = read(tmp_path, GOOD.replace("    histories:\n", counts))
    names = [column.name for column in schema.table("interests_daily").columns]
    assert names[:2] == ["bought_shown_all", "bought_item_id"]


def test_what_is_declared_changes_the_fingerprint_of_rows(tmp_path):
    changes = ("length: 9", "length: 8"), ("of: impressions", "of: sale")
    texts = [GOOD, SHOP, *(GOOD.replace(*change) for change in changes)]
    assert len({rows_fingerprint(read(tmp_path, text)) for text in texts}) == 4


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "of: sale, l",
            "of: sold, l",
            "bought.of: 'sold'; table interests_daily, history bought: ",
        ),
        ("length: 3", "length: 0", "bought.length: '0'; expected greater than or equal to 1"),
        ("length: 9", "length: 1001", "seen.length: '1001'; expected less than or equal to 1000"),
        ("length: 3, ", "", "bought.length: missing; this key is required"),
        ("id, device", "id, bought", "seen.columns.1: 'bought'; table interests_daily, history"),
        ("item_colour, age", "item_price, age", "bought.columns.1: 'item_price'; table interests"),
        ("id, device", "id, last_items", "seen.columns.1: 'last_items'; table interests_daily"),
        ("id, device", "id, item_id", "seen.columns.1: 'item_id'; table interests_daily, history"),
        ("[item_id, device]", "[]", "seen.columns: a list; list should have at least 1 item"),
    ],
)
def test_an_error_names_the_key(tmp_path, old, new, said):
    changed = GOOD.replace(old, new)
    assert changed != GOOD
    with pytest.raises(SchemaFileError) as caught:
        read(tmp_path, changed)
    (line,) = str(caught.value).splitlines()
    number, _, found = line.removeprefix(f"{tmp_path / 'shop.yaml'}:").partition(": ")
    assert found.startswith(f"tables.2.histories.{said}")
    assert int(number) == 59 + ("seen" in said.partition(".")[0])


def test_a_history_that_can_keep_nothing_of_the_kind_says_what_it_can(tmp_path):
    with pytest.raises(SchemaFileError) as caught:
        read(tmp_path, GOOD.replace("id, device", "id, item_price"))
    assert "columns 'item_price'; each one of ['age', 'browser', 'device', 'item_colour', " in str(
        caught.value
    )


def test_age_is_no_column_of_the_schema(tmp_path):
    changed = GOOD.replace("  browser:", "  age:")
    with pytest.raises(SchemaFileError, match=r"columns.2: .*a column of this name; rename that"):
        read(tmp_path, changed)
    assert read(tmp_path, changed.replace("item_colour, age", "item_colour"))


def test_a_table_of_nothing_is_an_error(tmp_path):
    start, end = GOOD.index("    histories:"), GOOD.index("  - kind: item_attributes")
    with pytest.raises(SchemaFileError, match=r"shop.yaml:53: tables.2: .*needs columns, hist"):
        read(tmp_path, GOOD[:start] + GOOD[end:])


def test_an_input_of_a_place_has_a_name_of_its_own(tmp_path):
    with pytest.raises(SchemaFileError, match=r"\['bought_age_1'\] are declared twice"):
        read(
            tmp_path,
            GOOD.replace("      item_colour:", "      bought_age_1:").replace("item_colour, ", ""),
        )
