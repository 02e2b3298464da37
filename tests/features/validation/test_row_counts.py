"""How many published rows stop a day, and how many are only reported."""

import dataclasses
import datetime

import pytest

from features.datasets.catalog import schema_of
from features.validation.checks import check_row_counts

DAY = datetime.date(2025, 1, 6)
LIMITS = schema_of("synthetic").limits  # at least one row, 0.2 to 5 trailing medians
MAY_BE_EMPTY = dataclasses.replace(LIMITS, min_rows=0)


@pytest.mark.parametrize(
    ("limits", "rows", "trailing", "critical", "reported"),
    [
        (LIMITS, 1000, [1000] * 5, 0, 0),
        (LIMITS, 200, [1000] * 5, 0, 0),
        (LIMITS, 199, [1000] * 5, 1, 0),
        (LIMITS, 199, [1000, 1000], 0, 1),  # too few days to compare with
        (LIMITS, 300, [1000] * 4 + [90_000], 0, 0),  # one large day moves no median
        (LIMITS, 5001, [1000] * 5, 0, 1),
        (LIMITS, 0, [], 1, 0),
        (LIMITS, 1, [], 0, 0),
        (MAY_BE_EMPTY, 0, [1000] * 5, 0, 0),
        (MAY_BE_EMPTY, 1, [1000] * 5, 1, 0),
    ],
)
def test_too_few_rows_stop_a_day(limits, rows, trailing, critical, reported):
    found = check_row_counts(limits, {DAY: rows}, trailing)
    assert tuple(map(len, found)) == (critical, reported)
    for sentence in (*found[0], *found[1]):
        assert sentence.startswith(f"rows of 2025-01-06: {rows} published; at ")


def test_one_empty_day_stops_a_range():
    days = {DAY + n * datetime.timedelta(days=1): rows for n, rows in enumerate([500, 0, 500])}
    assert check_row_counts(LIMITS, days, [])[0] == ["rows of 2025-01-07: 0 published; at least 1"]
