"""What a job must find in the lake before it may begin."""

import datetime
from types import SimpleNamespace

import pytest

from features.datasets.catalog import schema_of
from features.pipeline.workspace import require_examples_before
from features.runbooks import RunbookError

DAYS = [datetime.date(2025, 1, day) for day in range(1, 6)]


def lake_with(*present):
    def days_between(_table, first, last):
        return [day for day in present if first <= day <= last]

    return SimpleNamespace(days_between=days_between)


def test_examples_leave_no_day_out_behind_which_a_training_would_go_on():
    schema = schema_of("synthetic")
    with pytest.raises(
        RunbookError, match=r"2025-01-02 to 2025-01-03 are missing.*--to 2025-01-03"
    ):
        require_examples_before(lake_with(DAYS[0]), schema, DAYS[3:])


@pytest.mark.parametrize("present", [[], DAYS[:3], DAYS, DAYS[4:]])
def test_the_first_examples_follow_nothing_and_the_others_the_day_before(present):
    schema = schema_of("synthetic")
    assert require_examples_before(lake_with(*present), schema, DAYS[3:]) is None
