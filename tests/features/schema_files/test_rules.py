"""Declarations that would fail only later, or mean something else, are errors with their line."""

import re
from pathlib import Path

import pytest

from features.datasets.schema_files.build import read_data_set
from features.datasets.schema_files.problems import SchemaFileError

GOOD = (Path(__file__).parent / "shop.yaml").read_text()
TABLES = GOOD.partition("tables:")[2].partition("limits:")[0]
WORDS = "[phone, desktop]"
RENAMED = "    item_id: article"
ITEM = "  type: int64\n  kind: sparse\n  num_ids: 21\n"
BOUGHT = "    type: int64\n    minimum: 0\n    maximum: 1\n"
SHARES = "context.last_items.shares_table_with"
OWN_NAMES = (
    *("day", "example_id", "created", "event_timestamp", "source_file", "source_line"),
    *("timestamp", "label", "user_state_missing", "item_daily__event_timestamp"),
)


def error_of(tmp_path, text):
    """What is said of the file after its name and the line, which must be one."""
    path = tmp_path / "shop.yaml"
    path.write_text(text)
    with pytest.raises(SchemaFileError) as caught:
        read_data_set(path)
    (line,) = str(caught.value).splitlines()
    found = re.fullmatch(rf"{re.escape(str(path))}:(\d+): (.*)", line)
    assert found, line
    return found[2]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("_with: item_id", "_with: bought", f"{SHARES}: 'bought'; .* is of kind stored"),
        ("_with: item_id", "_with: last_items", f"{SHARES}: 'last_.* has no table of its own"),
        ("_with: item_id", "_with: device", f"{SHARES}: .* ids of type string, not int64"),
        (
            "kind: dense",
            "kind: dense\n        shares_table_with: item_id",
            r"tables.2.columns.item_price.shares_table_with: 'item_id'; .* only a sparse column",
        ),
        (ITEM, "  type: int64\n  kind: stored\n", "item.kind: 'stored'; .* must be sparse"),
        (
            ITEM,
            ITEM.replace("int64", "list<int64>\n  max_length: 3"),
            "item.type: 'list<int64>'; .* of type int64 or string",
        ),
        (
            "{name: user_id, type: int64, kind: sparse, hash_size: 100,",
            "{name: user_id, type: list<int64>, max_length: 2, kind: sparse, hash_size: 100,",
            "user.type: 'list<int64>'; .* the id of users must be of type int64 or string",
        ),
        (
            "stored:",
            "example_id: {from: [user_id, page]}\nstored:",
            r"example_id.from.1: 'page'; .* 'page' is unknown; each one of .*'user_id'",
        ),
        (
            "stored:",
            "example_id: {from: [user_id, user_id]}\nstored:",
            "example_id.from.1: 'user_id'; .* 'user_id' is there twice; each one of .* once",
        ),
        (
            "stored:",
            "example_id: {from: [user_id], column: uuid}\nstored:",
            "example_id: a mapping; needs exactly one of from and column",
        ),
        ("stored:", "example_id: {keys: [user_id]}\nstored:", "example_id.keys: .*unknown key"),
        (
            "context:\n  device: &device",
            "example_id: {column: uuid}\ncontext:\n  example_key: &device",
            "context.example_key: .*has a column of this name itself, the text of which",
        ),
        (
            "csv",
            "parquet\n  compression: gz",
            "source: a mapping; compression: goes with format csv, tsv, jsonl",
        ),
        ("csv", "csv\n  path: /shop/visits", "source: .*; path: goes with format delta, iceberg"),
        ("csv", "delta\n  path: shop/visits", "source.path: 'shop/visits'; .* match pattern"),
        (
            "csv",
            "delta\n  ready: {marker: _A}",
            "source: .*; ready: goes with format csv, tsv",
        ),
        ("csv", "csv\n  ready: {marker: _A}", "source: .*; ready.marker: of a file, its name has"),
        ("csv", "parquet\n  ready: {marker: A}", "source.ready: .* or _DONE within a folder"),
        ("csv", "kafka", "source: a mapping; format kafka needs kafka: {servers, topic}"),
        (
            f"{RENAMED}\n",
            f"{RENAMED}\n    example_id: id\nexample_id: {{column: uuid}}\n",
            "source.columns.example_id: 'id'; columns are",
        ),
        (BOUGHT, "    type: string\n", "labels.sale.column: 'bought'; .* string; int64 or float64"),
        (
            BOUGHT,
            f"{BOUGHT}    nullable: true\n",
            "labels.sale.column: .* int64, nullable; int64 or",
        ),
        (
            f"{BOUGHT}    doc: Whether it was bought.\nlabels:\n  sale:\n",
            "    type: float64\n    doc: Stars.\nlabels:\n  sale:\n    has_rating: true\n",
            r"labels.sale.column: .* type float64; int64, not nullable \(has_rating adds whole",
        ),
        (TABLES, " []\n", "tables: a list; list should have at least 1 item"),
        ("_rate: 0.01", "_rate: 0.95", "limits.min_positive_rate: '0.95'; not above max_pos.* 0.9"),
        (WORDS, f"{WORDS}\n    minimum: 3", "context.device.minimum: '3'; .*with type string"),
        (WORDS, f"{WORDS}\n    maximum: 3", "context.device.maximum: '3'; .*with type string"),
        ("doc: Price", "vocabulary: [a]\n        doc: Price", ".*item_price.vocabulary: a list; "),
        (WORDS, "[phone, desktop, phone]", r"context.device.vocabulary: .* has \['phone'\] twice"),
        ("kind: dense", "kind: dense\n        num_ids: 3", ".*item_price.num_ids: '3'; .*a sparse"),
        ("kind: dense", "kind: count\n        hash_size: 3", ".*item_price.hash_size: '3'; .*a sp"),
        (RENAMED, f"{RENAMED}\n    device: article", "source.columns.device: .*item_id and device"),
        (RENAMED, f"{RENAMED}\n    device: bought", "source.columns.device: .*device and bought"),
        (RENAMED, f"{RENAMED}\n    item_price: article", "source.columns.item_price: .*'article'"),
        ("column: at", "column: bought", "source.time.column: 'bought'; timestamp and bought"),
        *(
            ("  last_items:", f"  {name}:", f"context.{name}: .*has a column of this name itself")
            for name in OWN_NAMES
        ),
    ],
)
def test_a_declaration_that_no_job_could_honour_is_refused(tmp_path, old, new, said):
    assert GOOD.count(old) == 1, old
    assert re.match(said, error_of(tmp_path, GOOD.replace(old, new)))


def test_a_stored_label_is_allowed_where_it_is_what_examples_have(tmp_path):
    named = GOOD.replace("  bought:", "  label:").replace("column: bought", "column: label")
    (tmp_path / "shop.yaml").write_text(named)
    assert read_data_set(tmp_path / "shop.yaml").schema.label.column == "label"
    for old, new in (("_from: 1", "_from: 0"), ("minimum: 0\n    maximum: 1", "minimum: 0")):
        said = error_of(tmp_path, named.replace(old, new))
        assert said.startswith("stored.label: a mapping; column label: the pipeline has a column")
