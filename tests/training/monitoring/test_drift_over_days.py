"""Sixty days without drift raise few alerts; a small shift is found within two days."""

import datetime

import numpy as np
import pytest
from support.logs.made_days import FIRST, made_days

from training.monitoring import drift_job
from training.monitoring.drift_judge import BASE_DAYS, FALSE_ALERTS_A_WEEK
from training.monitoring.drift_noise import MIN_DAYS

DAYS = 60
FEATURES = 10


def alerted(reference, history, days):
    """Which features are alerted on which days, as the command does it day by day."""
    found, drifted = [], {}
    measured = {day: drift_job.measure(reference, one) for day, one in history.items()}
    for number in days:
        day = FIRST + datetime.timedelta(days=number)
        compared = drift_job.compare(reference, history[day], measured, day)
        before = [drifted.get(number - back, {}) for back in range(1, drift_job.GOING_ON_DAYS + 1)]
        since = {feature: first for one in reversed(before) for feature, first in one.items()}
        result = drift_job.summary(compared, since=since)
        drifted[number] = {one["feature"]: one["since"] for one in result["drifted"]}
        found += [(number, one["feature"]) for one in result["drifted"] if one["is_new"]]
    return found


def judged(reference, history, day):
    """The result of one day."""
    measured = {one: drift_job.measure(reference, profile) for one, profile in history.items()}
    compared = drift_job.compare(reference, history[day], measured, day)
    return drift_job.summary(compared, since={})


def effects(seed, kind):
    """By how much whole days are off, in deviations of a row."""
    random, size = np.random.default_rng(seed + 100), (BASE_DAYS + DAYS, FEATURES)
    if kind == "rows alone":
        return np.zeros(size)
    if kind == "long tails":
        return 0.05 * random.standard_t(5, size)
    of_week = 0.1 * np.isin(np.arange(size[0]) % 7, (5, 6))
    return of_week[:, None] + 0.01 * random.normal(size=size)


@pytest.mark.parametrize("kind", ["rows alone", "long tails", "weekends"])
def test_sixty_days_without_drift_raise_at_most_an_alert_a_week(kind):
    counts = []
    for seed in range(2):
        reference, history = made_days(
            seed,
            rows=20_000,
            features=FEATURES,
            days=BASE_DAYS + DAYS,
            effects=effects(seed, kind),
        )
        counts.append(len(alerted(reference, history, range(BASE_DAYS, BASE_DAYS + DAYS))))
    assert max(counts) <= 8, counts


def test_a_day_with_fewer_or_more_rows_is_no_drift():
    """Sampling alone makes distances of a small day larger."""
    swings = np.random.default_rng(5).choice([0.1, 0.2, 0.5, 1.0, 3.0], BASE_DAYS + 14)
    swings[:BASE_DAYS] = 1.0
    reference, history = made_days(
        0, rows=(20_000 * swings).astype(int), features=FEATURES, days=len(swings)
    )
    assert len(alerted(reference, history, range(BASE_DAYS, len(swings)))) <= 2


def is_found_within_two_days(seed, *, rows, part, shift):
    """Whether the shift of a feature is found."""
    first = BASE_DAYS + 2
    reference, history = made_days(
        seed, rows=rows, features=PLANTED, days=first + 2, shifts={(first, part, "f0"): shift}
    )
    return "f0" in [feature for _, feature in alerted(reference, history, range(first, first + 2))]


PLANTED, ALL_FEATURES, ALL_SLICES = 4, 60, 9
"""Features that are made, and how many there are said to be, in as many slices of all rows."""


@pytest.mark.parametrize(
    ("rows", "part", "shift", "others"),
    [
        # A tenth of all rows, drawn by lot, is shifted by 0.2: so is their mean, by a tenth of it.
        (80_000, "all", 0.02, 1),
        # The rows of a slice that has a tenth of them are shifted.
        (10_000, "tenth", 0.2, ALL_SLICES),
    ],
    ids=["of any rows", "of a slice"],
)
def test_a_shift_of_a_fifth_in_a_tenth_of_the_rows_is_found_within_two_days(
    rows, part, shift, others, monkeypatch
):
    """At the level that each statistic has among those of sixty features in nine slices."""
    budget = FALSE_ALERTS_A_WEEK * PLANTED / ALL_FEATURES / others
    monkeypatch.setattr("training.monitoring.drift_judge.FALSE_ALERTS_A_WEEK", budget)
    found = [
        is_found_within_two_days(seed, rows=rows, part=part, shift=shift) for seed in range(10)
    ]
    assert sum(found) >= 9, found


def test_a_shift_that_goes_on_is_one_alert():
    first = BASE_DAYS + 2
    reference, history = made_days(
        3, rows=20_000, features=4, days=first + 12, shifts={(first, "all", "f1"): 0.3}
    )
    found = alerted(reference, history, range(first - 1, first + 12))
    assert [feature for _, feature in found] == ["f1"]


def test_a_drift_that_is_over_does_not_hide_the_next():
    """The days of the first are far from the others, and no part of the noise."""
    first = BASE_DAYS + 2
    reference, history = made_days(
        4, rows=20_000, features=4, days=first + 1, shifts={(first, "all", "f1"): 0.1}
    )
    strange = {(0, part, f"f{n}"): 3.0 for part in ("all", "tenth") for n in range(4)}
    _, other = made_days(5, rows=20_000, features=4, days=first - 12, shifts=strange)
    for day in list(other)[-2:]:
        history[day] = other[day]
    assert [feature for _, feature in alerted(reference, history, [first])] == ["f1"]


def test_with_too_few_days_before_nothing_is_said():
    reference, history = made_days(
        6, rows=1_000, features=2, days=MIN_DAYS, shifts={(MIN_DAYS - 1, "all", "f0"): 3.0}
    )
    day = FIRST + datetime.timedelta(days=MIN_DAYS - 1)
    result = judged(reference, history, day)
    assert (result["judged"], result["alerts"]) == (False, [])
    assert result["why_not_judged"] == f"{MIN_DAYS - 1} days before with rows; at least {MIN_DAYS}"
    history[FIRST - datetime.timedelta(days=1)] = history[FIRST]
    result = judged(reference, history, day)
    assert [one["feature"] for one in result["drifted"]] == ["f0"]
