"""A label that comes later, as a file declares it; and what no job could honour."""

import datetime
import re
from pathlib import Path

import pytest

from features.datasets.schema_files.build import read_data_set
from features.datasets.schema_files.problems import SchemaFileError
from features.schema.fingerprints import (
    events_fingerprint,
    impressions_fingerprint,
    rows_fingerprint,
)

GOOD = (Path(__file__).parents[2] / "support" / "labels" / "orders.yaml").read_text()
HOUR = datetime.timedelta(hours=1)
IDS = "[user_id, item_id]"


def read(tmp_path, text=GOOD):
    (tmp_path / "orders.yaml").write_text(text)
    return read_data_set(tmp_path / "orders.yaml")


def test_it_has_events_a_window_and_a_time_from_which_it_is_known(tmp_path):
    data_set = read(tmp_path)
    click, order = data_set.schema.labels
    assert data_set.schema.label is order
    assert (order.comes_later, click.comes_later) == (True, False)
    assert (order.join, order.column, order.positive_from) == (("user_id", "item_id"), "order", 1)
    assert (order.known_after, click.known_after) == (38 * HOUR, HOUR / 6)
    assert (data_set.schema.maturity_days, data_set.label_sources.keys()) == (2, {"order"})
    columns = data_set.schema.event_columns(order)
    assert [column.name for column in columns] == ["timestamp", "user_id", "item_id"]
    by_click = read(tmp_path, GOOD.replace("target: order", "target: click")).schema
    assert by_click.maturity_days == 0


def test_its_window_changes_rows_and_leaves_the_log_as_it_is(tmp_path):
    one, other = read(tmp_path).schema, read(tmp_path, GOOD.replace("36h", "35h")).schema
    assert rows_fingerprint(one) != rows_fingerprint(other)
    assert one.fingerprint() != other.fingerprint()
    assert impressions_fingerprint(one) == impressions_fingerprint(other)
    assert events_fingerprint(one, one.label) == events_fingerprint(other, other.label)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("    window: 36h\n", "", "labels.order.window: missing; this key is required"),
        ("window: 36h", "window: 0s", "labels.order.window: '0s'; expected a time longer than 0s"),
        ("    window:", "    column: x\n    window:", "labels.order.column: 'x'; unknown key"),
        (IDS, "[]", "labels.order.join: a list; list should have at least 1 item"),
        (IDS, "[user_id, item_id, page]", "labels.order.join: a list; .*'page', which is no colu"),
        (IDS, "[item_id, timestamp]", "labels.order.join: .*'timestamp', which is no column"),
        ("  order:\n", "  clicked:\n", "labels.clicked: .* has the name of a column"),
        ("  order:\n", "  day:\n", "labels.day: .* has the name of a column"),
        ("item_id: art", "item: art", "labels.order.source.columns.item: 'article'; join has"),
        ("item_id: article", "item_id: at", "labels.order.source.columns.item_id: 'at'; timestamp"),
        ("      format: csv\n", "", "labels.order.source: .*exactly one of format and reader"),
        (
            "      format: csv\n      time",
            "      format: csv\n      fetch: shop\n      time",
            "labels.order: .*source of a label: a format of files .* no reader, no fetch",
        ),
        (
            "hash_size: 100, doc",
            "nullable: true, hash_size: 100, doc",
            ".*join: .*string, nullable;",
        ),
    ],
)
def test_a_declaration_that_no_job_could_honour_is_refused(tmp_path, old, new, said):
    assert GOOD.count(old) == 1, old
    changed = GOOD.replace(old, new)
    if "clicked:\n" in new or "day:\n" in new:
        changed = changed.replace("target: order", f"target: {new.strip(' :' + chr(10))}")
    with pytest.raises(SchemaFileError) as caught:
        read(tmp_path, changed)
    (line,) = str(caught.value).splitlines()
    found = re.fullmatch(rf"{re.escape(str(tmp_path))}/orders.yaml:(\d+): (.*)", line)
    assert found, line
    assert re.match(said, found[2]), line
