"""Declared aggregates in a schema file: what they become, and errors that name the line."""

import re
from pathlib import Path

import pytest

from features.datasets.schema_files.build import read_data_set
from features.datasets.schema_files.problems import SchemaFileError
from features.schema import Kind, Role
from features.schema.fingerprints import rows_fingerprint

PAGE = Path(__file__).parents[3] / "docs" / "features-without-python.md"
SHOP = (Path(__file__).parent / "shop.yaml").read_text()
DECLARED = """\
  - kind: aggregates
    name: device_daily
    by: [user_id, device]
    windows_days: [1, 7]
    ttl: 7d
    delay: 1h
    columns:
      device_sold: {of: sale, kind: count}
      device_rate: {of: sale, kind: rate}
      device_last: {of: impressions, kind: recency}
      device_items: {of: sale, kind: distinct, distinct_of: item_id}
"""
GOOD = SHOP.replace("  - kind: item_attributes\n", f"{DECLARED}  - kind: item_attributes\n")


def read(tmp_path, text):
    path = tmp_path / "shop.yaml"
    path.write_text(text)
    return read_data_set(path).schema


def test_a_declared_table_has_a_column_for_each_window(tmp_path):
    schema = read(tmp_path, GOOD)
    table = schema.table("device_daily")
    assert (table.role, table.by) == (Role.CANDIDATE, ("user_id", "device"))
    assert schema.key_of(table).name == "by_user_id_and_device"
    assert {column.name: column.kind for column in table.columns} == {
        "device_sold_1d": Kind.COUNT,
        "device_sold_7d": Kind.COUNT,
        "device_sold_all": Kind.COUNT,
        "device_rate_1d": Kind.RATE,
        "device_rate_7d": Kind.RATE,
        "device_rate_all": Kind.RATE,
        "device_last_all": Kind.AGE,
        "device_items_1d": Kind.COUNT,
        "device_items_7d": Kind.COUNT,
        "device_daily_sale_labelled_all": Kind.STORED,
    }
    assert {"device_rate_7d", "device_daily_missing"} <= set(schema.dense_inputs())


@pytest.mark.parametrize(("by", "role"), [("user_id", Role.USER), ("item_id", Role.ITEM)])
def test_a_table_by_an_entity_is_one_of_the_entity(tmp_path, by, role):
    schema = read(tmp_path, GOOD.replace("[user_id, device]", f"[{by}]"))
    assert (schema.table("device_daily").role, schema.table("device_daily").by) == (role, ())


def test_what_is_declared_changes_the_fingerprint_of_rows(tmp_path):
    changes = ("[user_id, device]", "[device]"), ("of: sale, kind: rate", "of: bought, kind: sum")
    found = {rows_fingerprint(read(tmp_path, GOOD.replace(*change))) for change in changes}
    found |= {rows_fingerprint(read(tmp_path, text)) for text in (GOOD, SHOP)}
    assert len(found) == 4


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("of: sale, kind: rate", "of: sold, kind: rate", "tables.2.columns.device_rate.of: 'sol"),
        ("kind: recency", "kind: latest", "tables.2.columns.device_last.kind: 'latest'; expected"),
        (
            "distinct_of: item_id",
            "distinct_of: last_items",
            "tables.2.columns.device_items.distinct_of: 'last_items'; ",
        ),
        (", distinct_of: item_id", "", "tables.2.columns.device_items.distinct_of: missing; "),
        ("kind: count}", "kind: count, scale: 1}", "tables.2.columns.device_sold.scale: '1'; "),
        ("[user_id, device]", "[bought]", "tables.2.by: a list; table device_daily: by 'bought', "),
        ("[user_id, device]", "[user_id, a, b]", "tables.2.by: a list; list should have at most 2"),
        ("device_daily", "user_state", "tables.2: a mapping; table user_state: is declared twice"),
        ("device_daily", "examples", "tables.2.name: 'examples'; table examples: the lake has a"),
        ("    delay: 1h\n    columns", "    columns", "tables.2.delay: missing; this key is requ"),
    ],
)
def test_an_error_names_the_key(tmp_path, old, new, said):
    changed = GOOD.replace(old, new)
    assert changed != GOOD
    with pytest.raises(SchemaFileError) as caught:
        read(tmp_path, changed)
    (line,) = str(caught.value).splitlines()
    number, _, found = line.removeprefix(f"{tmp_path / 'shop.yaml'}:").partition(": ")
    assert found.startswith(said)
    assert 51 < int(number) < 66


def test_two_keys_have_two_names(tmp_path):
    """The rows of a device and an item would be read as those of a column of both names."""
    second = DECLARED.replace("device_", "other_").replace(
        "[user_id, device]", "[user_id_and_device]"
    )
    changed = GOOD.replace("  - kind: item_attributes\n", f"{second}  - kind: item_attributes\n")
    changed = changed.replace("  browser:", "  user_id_and_device:")
    with pytest.raises(
        SchemaFileError, match=r"have one name, by_user_id_and_device; rename a col"
    ):
        read(tmp_path, changed)


@pytest.mark.parametrize("name", ["device", "impressions"])
def test_a_label_has_no_name_of_what_is_known_with_the_request(tmp_path, name):
    changed = GOOD.replace("  sale:", f"  {name}:").replace("target: sale", f"target: {name}")
    with pytest.raises(SchemaFileError, match=rf"labels.{name}: .*known with the request; not one"):
        read(tmp_path, changed.replace("of: sale", f"of: {name}"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("device_sold_7d", r"columns \['device_sold_7d'\] are declared twice"),
        ("by_user_id_and_device", "has a column of this name itself, the key of device_daily"),
        ("device_daily_missing", "the input that says whether device_daily has a row"),
    ],
)
def test_a_column_cannot_have_the_name_of_what_is_made(tmp_path, name, said):
    with pytest.raises(SchemaFileError, match=rf"shop.yaml:25: context.{name}: .*{said}"):
        read(tmp_path, GOOD.replace("  browser:", f"  {name}:"))


def test_the_examples_of_the_page_are_tables(tmp_path):
    """In place of the attributes of the shop, with its other tables."""
    page = PAGE.read_text()
    blocks = re.findall(r'^```yaml title="part of a schema file"\n(.*?)^```', page, re.M | re.S)
    before, _, rest = SHOP.partition("  - kind: item_attributes")
    limits = "limits:" + rest.partition("limits:")[2]
    schema = read(tmp_path, before + "".join(blocks).removeprefix("tables:\n") + limits)
    assert [table.of for table in schema.tables[2:]] == [
        "item",
        "by_item_category",
        "by_user_id_and_item_category",
        "user",
        "item",
        "user",
    ]
    names = {column.name for column in schema.columns()} | set(schema.dense_inputs())
    columns = r"`(\w+_(?:\d+d|all)|(?:bought|seen|visitor_positive)_\w+)`"
    named = set(re.findall(columns, page))
    assert len(named) == 11
    assert named <= names
