"""The three parts of a log, and the search for a learning rate."""

import datetime
import math

import pytest

from training.experiments.one_pass import START, Days, next_to_try, tuned


def test_the_parts_are_apart_and_in_order():
    days = [datetime.date(2025, 1, 1) + datetime.timedelta(days=n) for n in range(17)]
    parts = Days.of(days)
    assert [*parts.train, *parts.valid, *parts.test] == days
    assert (len(parts.valid), len(parts.test)) == (2, 2)


def test_too_few_days_are_refused():
    with pytest.raises(ValueError, match="days with examples: 2; at least 3"):
        Days.of([datetime.date(2025, 1, 1), datetime.date(2025, 1, 2)])


def test_a_search_ends_between_two_worse_rates():
    losses = {}
    while (n := next_to_try(losses, most=9)) is not None:
        losses[n] = abs(n - 2)
    assert sorted(losses) == [0, 1, 2, 3]
    assert next_to_try({0: 1.0, 1: 0.5}, most=2) is None


def test_each_rate_is_the_best_at_the_others_best():
    asked = []

    def loss_of(rates):
        asked.append(rates)
        tables = math.log2(rates.tables / START.tables)
        dense = math.log2(rates.dense / START.dense)
        # The lower the dense part's rate, the higher the best one of the tables.
        return (tables - 1 + dense / 2) ** 2 + (dense + 2) ** 2

    best = tuned(START, loss_of, most=6)
    assert best == START.times("tables", 2).times("dense", -2)
    assert len(set(asked)) == len(asked)
    asked.clear()
    assert tuned(START, loss_of, most=1) == START
    assert asked == [START]


def test_a_search_ends_at_the_series_end_and_leaves_rates_at_which_training_diverged():
    assert next_to_try({-9: 0.5, -8: 0.6}, most=6) is None
    assert next_to_try({2: 0.5, 3: math.inf}, most=6) == 1
    assert next_to_try({2: math.inf, 3: 0.5}, most=6) == 4
