"""Who changes which rows are made of the same inputs says so: old days are stale then."""

import pytest
from support.labels.orders_log import DAYS

from features.lake.lake import EXAMPLES, IMPRESSIONS, IMPRESSIONS_RAW
from features.provenance.inputs import CODE_VERSIONS
from features.schema.fingerprints import digest

pytestmark = pytest.mark.spark

TABLES = {
    "ingest": (IMPRESSIONS_RAW, "labels_order_raw"),
    "checks": (IMPRESSIONS, "labels_order"),
    "features": ("user_state", "item_daily"),
    "examples": (EXAMPLES,),
}
ROWS = {
    "ingest": (1, "7f130fa01e79ea08"),
    "checks": (1, "5910e17250665f24"),
    "features": (1, "1025b492ec9c7a31"),
    "examples": (1, "53f954ba321941d7"),
}
"""A version of code, and a hash of the rows that it makes of one log. Rows have changed: raise the
version in ``CODE_VERSIONS``, and write it down here with the hash that the test has found."""


def test_rows_change_with_the_version_of_the_code_that_makes_them(finished):
    assert not any(one.critical for one in finished.check(DAYS[:1]))
    lake = finished.work.lake
    found = {}
    for code, tables in TABLES.items():
        parts = [lake.manifest(table, day) for table in tables for day in lake.days(table)]
        hashes = [f"{part.table} {part.day} {part.content_hash}" for part in parts]
        found[code] = (CODE_VERSIONS[code], digest(tuple(hashes)))
    assert found == ROWS
