"""A file that is no schema: each error names the file, the line, the key and what was expected."""

import re
from pathlib import Path

import pytest

from features.datasets.schema_files.build import read_data_set
from features.datasets.schema_files.problems import SchemaFileError

GOOD = (Path(__file__).parent / "shop.yaml").read_text()


def write(tmp_path, text, name="shop.yaml"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def error_of(tmp_path, text):
    path = write(tmp_path, text)
    with pytest.raises(SchemaFileError) as caught:
        read_data_set(path)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{path}:") for line in lines), lines
    return [line.removeprefix(f"{path}:") for line in lines]


def test_the_good_file_is_a_schema(tmp_path):
    data_set = read_data_set(write(tmp_path, GOOD))
    assert [column.doc for column in data_set.schema.context[:2]] == [
        "Device of the request.",
        "Browser of the request.",
    ]
    assert data_set.schema.history_length == 10
    assert data_set.source.landed_suffix == "csv"


MUTATIONS = [
    # changed text, new text, key, value, what was expected
    ("licence: ours\n", "licence: ours\nlicense: mine\n", "license", "'mine'", "do you mean lic"),
    (
        "  positive_from: 1",
        "  positiv: 1",
        "labels.sale.positiv",
        "'1'",
        "do you mean positive_from",
    ),
    ("  column: bought", "  colour: red", "labels.sale.colour", "'red'", "do you mean column"),
    ("  num_ids: 21", "  rows: 21", "item.rows", "'21'", "the keys are ['doc', 'type'"),
    ("name: shop\n", "name: stall\n", "name", "'stall'", "the name of the file, shop"),
    ("name: shop\n", "name: Shop\n", "name", "'Shop'", "match pattern"),
    ("licence: ours", "licence: yes", "licence", "'yes'", "expected a text; put it into quotes"),
    ("doc: Visits of a small shop.", "doc:", "doc", "empty", "expected a text"),
    ("2025-03-01", "March", "first_day", "'March'", "a date such as 2025-01-31"),
    ("2025-03-01", "'2025-03-01'", "first_day", "'2025-03-01'", "a date such as 2025-01-31"),
    ("2025-03-01", "2025-13-01", "first_day", "'2025-13-01'", "month must be in 1..12"),
    ("2025-03-31", "2025-02-28", "last_day", "'2025-02-28'", "not before first_day 2025-03-01"),
    ("2024-01-01", "2025-03-02", "epoch", "'2025-03-02'", "not after first_day 2025-03-01"),
    ("holdout_days: 1", "holdout_days: 0", "holdout_days", "'0'", "greater than or equal to 1"),
    ("holdout_days: 1", "holdout_days: 1.5", "holdout_days", "'1.5'", "a valid integer"),
    ("holdout_days: 1", "holdout_days: yes", "holdout_days", "'yes'", "a valid integer"),
    ("[hour_of_day]", "[hour]", "time_context.0", "'hour'", "'hour_of_day' or 'day_of_week'"),
    ("  num_ids: 21", "  num_ids: many", "item.num_ids", "'many'", "a valid integer"),
    ("  minimum: 1\n", "  minimum: .nan\n", "item.minimum", "'.nan'", "a finite number"),
    ("  maximum: 20", "  maximum: 0", "item.minimum", "'1'", "minimum 1 above maximum 0"),
    ("type: string", "type: text", "context.device.type", "'text'", "'int64', 'float64'"),
    ("    kind: sparse\n    v", "    kind: id\n    v", "context.device.kind", "'id'", "'sparse', "),
    ("type: string", "type: int64", "context.device.type", "'int64'", "sparse of type int64; one"),
    ("type: float64", "type: string", "tables.2.columns.item_price.type", "'string'", "dense of"),
    ("    max_length: 5\n", "", "context.last_items.max_length", "missing", "positive max_length"),
    ("_with: item_id", "_with: ids", "context.last_items.shares_table_with", "'ids'", "no column"),
    ("[phone, desktop]", "[phone, off]", "context.device.vocabulary.1", "'off'", "into quotes"),
    ("  device: &", "  Device: &", "context.Device", "a mapping", "match pattern"),
    ("  last_items:\n", "  bought:\n", "stored.bought", "a mapping", "are declared twice"),
    ("  browser: {", "  user_last_event_at: {", "context.user_last_event_at", "a mapping", "twice"),
    (
        "  column: bought",
        "  column: sold",
        "labels.sale.column",
        "'sold'",
        "tells the label and is not",
    ),
    ("  delay: 1h", "  delay: 1", "labels.sale.delay", "'1'", "with its unit: 45s, 30m, 3h or 7d"),
    ("  delay: 1h", "  delay: 1 hour", "labels.sale.delay", "'1 hour'", "45s, 30m, 3h or 7d"),
    ("    delay: 1h\n", "", "labels.sale.delay", "missing", "this key is required"),
    ("target: sale", "target: click", "target", "'click'", "is not among its labels ['sale']"),
    ("target: sale\n", "", "target", "missing", "this key is required"),
    ("  sale:", "  Sale:", "labels.Sale", "a mapping", "match pattern"),
    ("kind: user_state", "kind: users", "tables.0.kind", "'users'", "one of ['user_state', "),
    ("- kind: user_state", "- doc: x", "tables.0.kind", "missing", "one of ['user_state', "),
    ("    ttl: 30d", "    ttl: 0d", "tables.0.ttl", "'0d'", "longer than 0s"),
    ("    delay: 5m", "    delay: 0s", "tables.0.delay", "'0s'", "must be above 0 s"),
    ("[1, 7]", "[1, week]", "tables.1.windows_days.1", "'week'", "a valid integer"),
    ("[1, 7]", "[7, 7]", "tables.1", "a mapping", "are declared twice"),
    ("_rate: 0.9", "_rate: 90", "limits.max_positive_rate", "'90'", "less than or equal to 1"),
    ("format: csv", "format: excel", "source.format", "'excel'", "'delta', 'iceberg' or"),
    ("  format: csv", "  suffix: csv", "source", "a mapping", "exactly one of format and reader"),
    ("unit: milliseconds", "unit: ms", "source.time.unit", "'ms'", "'seconds', 'milliseconds' or"),
    ("    item_id: article", "    price: eur", "source.columns.price", "'eur'", "columns are ["),
    ("stored:\n", "stored:\nstored:\n", "stored", None, "is there twice; first in line 32"),
    ("licence: ours", "licence: [ours", None, None, "is no YAML"),
    ("licence: ours", "licence: !!python/name:os.system", None, None, "is no YAML"),
    ("licence: ours", "licence: \x07", None, None, "is no YAML"),
    ("[hour_of_day]", "&a [*a]", "time_context.0", None, "contains itself"),
]


@pytest.mark.parametrize(("old", "new", "key", "value", "expected"), MUTATIONS)
def test_an_error_names_the_file_the_line_the_key_the_value_and_what_was_expected(
    tmp_path, old, new, key, value, expected
):
    assert GOOD.count(old) >= 1, old
    changed = GOOD.replace(old, new, 1)
    line, *others = error_of(tmp_path, changed)
    # What is merged into another entry is wrong there too.
    assert all("context.browser." in other for other in others)
    number, _, said = line.partition(": ")
    assert expected in said
    if key:
        assert said.startswith(f"{key}: ")
    if value:
        assert said.startswith(f"{key}: {value}; ")
    if value not in {None, "missing", "a mapping"} and key != "item.minimum":
        written = changed.splitlines()[int(number) - 1]
        assert value.strip("'") in written or value == "empty", (number, written)


def test_the_line_is_the_one_of_the_key(tmp_path):
    (line,) = error_of(tmp_path, GOOD.replace("    ttl: 7d", "    ttl: week"))
    assert line.startswith("51: tables.1.ttl: 'week'; ")
    (line,) = error_of(tmp_path, GOOD.replace("    delay: 5m\n", ""))
    assert line.startswith("45: tables.0.delay: missing; ")
    (line,) = error_of(tmp_path, GOOD.replace("doc: Browser", "docs: Browser"))
    assert line.startswith("25: context.browser.docs: ")
    (line,) = error_of(tmp_path, GOOD.replace("Browser of the request.", "3"))
    assert line.startswith("25: context.browser.doc: '3'; ")


def test_all_errors_are_named_at_once_in_the_order_of_their_lines(tmp_path):
    changed = GOOD.replace("licence: ours", "licence: 3").replace("  num_ids: 21", "  num_ids: x")
    lines = error_of(tmp_path, changed.replace("  maximum: 20", "  maximum: x"))
    assert [line.partition(": ")[0] for line in lines] == ["3", "15", "17"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "1: is empty; a mapping"),
        (b"# nothing\n", "1: is empty; a mapping"),
        (b"- a\n- b\n", "1: the file: a list; expected a mapping"),
        (b"name: shop\ndoc: \xff\n", "2: is no UTF-8: byte 0xff"),
        (b"name: a\n---\nname: b\n", "2: is no YAML"),
        (b"? [a]\n: b\n", "1: is no YAML"),
        (b"1: b\n", "1: 1: 'b'; unknown key"),
        (b"a: " + b"[" * 5000 + b"]" * 5000, "1: is nested too deeply"),
    ],
)
def test_what_is_no_mapping_is_an_error_too(tmp_path, content, expected):
    assert error_of(tmp_path, content)[0].startswith(expected)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(SchemaFileError, match=re.escape(f"{tmp_path}: cannot be read: Is a dir")):
        read_data_set(tmp_path)


def test_how_a_number_is_written_does_not_change_the_fingerprint(tmp_path):
    read = read_data_set(write(tmp_path, GOOD)).schema
    other = GOOD.replace("positive_from: 1", "positive_from: 1.0").replace(
        "delay: 1h", "delay: 60m"
    )
    assert read_data_set(write(tmp_path, other)).schema.fingerprint() == read.fingerprint()


GARBAGE = [
    "",
    "null",
    "[]",
    "{}",
    "-1",
    "1e9",
    ".inf",
    "2025-02-30",
    "12:30",
    "no",
    "*x",
    "'",
    "\t",
]


@pytest.mark.parametrize("value", [None, *GARBAGE])
def test_whatever_a_line_says_is_a_schema_or_an_error_with_a_line(tmp_path, value):
    """Each line in turn is left out, or its value is another one."""
    lines, said = GOOD.splitlines(), []
    for index, line in enumerate(lines):
        key, colon, _ = line.partition(":")
        new = [] if value is None else [f"{key}{colon} {value}"]
        path = write(tmp_path, "\n".join([*lines[:index], *new, *lines[index + 1 :], ""]))
        try:
            read_data_set(path)
        except SchemaFileError as error:
            said += str(error).splitlines()
    numbers = [re.match(rf"{re.escape(str(path))}:(\d+): ", one) for one in said]
    assert len(numbers) > len(lines) / 2
    assert all(number and 1 <= int(number[1]) <= len(lines) for number in numbers), said
