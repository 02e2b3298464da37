"""The page of the prediction log has each column as the code has it."""

import re
from pathlib import Path

import pytest
from support.serving import stand_ins

from features.datasets.catalog import schema_of
from features.prediction_log.columns import (
    ANSWER,
    CANDIDATE,
    FOR_DATA_SET,
    FORMAT_VERSION,
    arrow_schema,
    require_free_names,
)

PAGE = Path(__file__).resolve().parents[3] / "docs" / "prediction-log.md"
PARTS = {"ANSWER": ANSWER, "CANDIDATE": CANDIDATE, "FOR_DATA_SET": FOR_DATA_SET}


def table(columns):
    """What the page has of them; paste it there when this test fails."""
    head = ["| column | type | unit | meaning |", "|---|---|---|---|"]
    kinds = ["by the item's id" if c.arrow_type == "null" else str(c.arrow_type) for c in columns]
    return "\n".join(
        head
        + [
            f"| `{c.name}` | {kind} | {c.unit or 'none'} | {c.meaning} |"
            for c, kind in zip(columns, kinds, strict=True)
        ]
    )


@pytest.mark.parametrize("name", PARTS)
def test_the_page_has_name_type_unit_and_meaning_of_each_column(name):
    assert table(PARTS[name]) in PAGE.read_text(), table(PARTS[name])


def test_the_page_has_no_column_that_the_log_has_not():
    named = re.findall(
        r"^\| `(\w+)` \| [^|]+ \| [^|]+ \| [^|]+ \|$", PAGE.read_text(), re.MULTILINE
    )
    assert named == [column.name for part in PARTS.values() for column in part]


def test_every_column_of_a_log_is_described_once():
    names = arrow_schema(stand_ins.SCHEMA).names
    assert len(set(names)) == len(names)
    own = {column.name for part in PARTS.values() for column in part} - {"day", "hour"}
    of_schema = {column.name for column in stand_ins.SCHEMA.columns()} | {"timestamp"}
    tables = "|".join(one.name for one in stand_ins.SCHEMA.tables)
    times = {n for n in names if re.fullmatch(f"({tables})__(event_timestamp|created|status)", n)}
    assert set(names) <= own | of_schema | times
    assert len(times) == 3 * len(stand_ins.SCHEMA.tables)
    assert FORMAT_VERSION == 1


@pytest.mark.parametrize("name", ["synthetic-shop", "movielens-100k", "open-bandit"])
def test_built_in_data_sets_can_be_logged(name):
    """The shop's impressions have a request's id of their own, which no request brings."""
    require_free_names(schema_of(name))
    names = arrow_schema(schema_of(name)).names
    assert len(set(names)) == len(names)
