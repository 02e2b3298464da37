"""The three parts of a log."""

import datetime

import pytest

from training.experiments.one_pass import Days


def test_the_parts_are_apart_and_in_order():
    days = [datetime.date(2025, 1, 1) + datetime.timedelta(days=n) for n in range(17)]
    parts = Days.of(days)
    assert [*parts.train, *parts.valid, *parts.test] == days
    assert (len(parts.valid), len(parts.test)) == (2, 2)


def test_too_few_days_are_refused():
    with pytest.raises(ValueError, match="days with examples: 2; at least 3"):
        Days.of([datetime.date(2025, 1, 1), datetime.date(2025, 1, 2)])
