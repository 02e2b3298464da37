"""Distances of a day from the reference, as others compute them from all rows."""

import math

import numpy as np
import pytest
from scipy import stats

from training.data.sketches import Categories, Numbers, Share
from training.monitoring.drift_statistics import psi, statistics, tenths

random = np.random.default_rng(7)
WAS, NOW = random.normal(size=5_000), random.normal(0.2, 1.1, 3_000)
FEW_WAS, FEW_NOW = random.poisson(3.0, 5_000) * 1.0, random.poisson(3.3, 3_000) * 1.0


def numbers(values):
    return Numbers.of(values, np.ones(len(values)))


def categories(keys, *, missing=0.0):
    return Categories.of(keys, np.ones(len(keys)), missing=missing, rows=len(keys) + missing)


def by_name(reference, day):
    return {one.name: one for one in statistics(reference, day)}


@pytest.mark.parametrize(
    ("was", "now", "error"), [(WAS, NOW, 0.01), (FEW_WAS, FEW_NOW, 1e-9)], ids=["smooth", "few"]
)
def test_ks_and_mann_whitney_are_those_of_scipy(was, now, error):
    found = by_name(numbers(was), numbers(now))
    above = stats.mannwhitneyu(now, was).statistic / len(was) / len(now)
    assert found["ks"].value == pytest.approx(stats.ks_2samp(was, now).statistic, abs=error)
    assert found["mann_whitney"].value == pytest.approx(above, abs=error / 10)


def test_psi_is_over_tenths_of_the_reference():
    cuts = tenths(numbers(WAS))
    cells = [np.bincount(np.searchsorted(cuts, one), minlength=10) / len(one) for one in (WAS, NOW)]
    expected = float(((cells[1] - cells[0]) * np.log(cells[1] / cells[0])).sum())
    assert by_name(numbers(WAS), numbers(NOW))["psi"].value == pytest.approx(expected, rel=0.03)
    assert len(cuts) == 9


def test_total_variation_is_half_of_all_differences():
    found = by_name(categories(np.repeat([1, 2], [6, 4])), categories(np.repeat([1, 3], [5, 5])))
    assert found["total_variation"].value == pytest.approx(0.5)


def test_missing_and_unknown_shares_are_of_all_rows():
    day = categories(np.array([1, 1, 0]), missing=1.0)
    found = by_name(categories(np.array([1])), day)
    assert (found["missing"].value, found["unknown"].value) == (0.25, 0.25)
    numeric = Numbers.of(np.array([np.nan, 1.0]), np.ones(2))
    assert by_name(numbers(WAS), numeric)["missing"].value == 0.5


def test_equal_distributions_have_no_distance():
    found = by_name(numbers(WAS), numbers(WAS))
    assert found["mann_whitney"].value == pytest.approx(0.5)
    assert (found["psi"].value, found["ks"].value) == pytest.approx((0.0, 0.0), abs=1e-9)


def test_without_a_number_only_the_missing_share_is_known():
    gone = Numbers.of(np.array([np.nan]), np.ones(1))
    assert [one.name for one in statistics(numbers(WAS), gone)] == ["missing"]
    assert statistics(numbers(WAS), numbers(np.array([]))) == []


def test_two_kinds_cannot_be_compared():
    with pytest.raises(ValueError, match="Numbers and Share; one kind"):
        statistics(numbers(WAS), Share(with_it=1.0, total=2.0, rows=2.0))


def test_a_distance_is_judged_as_a_logarithm_and_shown_as_it_is():
    found = by_name(numbers(WAS), numbers(NOW))
    for one in found.values():
        assert one.unscaled(one.scaled) == pytest.approx(one.value)
        assert one.scaled_sd > 0
    assert found["psi"].scaled == math.log(found["psi"].value + found["psi"].start)


@pytest.mark.parametrize("name", ["missing", "psi", "ks", "mann_whitney"])
def test_rows_drawn_independently_vary_about_as_is_said(name):
    rows = np.r_[WAS, np.full(500, np.nan)]
    found = [by_name(numbers(rows), numbers(one))[name] for one in random.choice(rows, (60, 800))]
    times = np.std([one.value for one in found]) / np.mean([one.sampling_sd for one in found])
    assert 0.6 < times < 2.5


def test_an_empty_cell_counts_a_little():
    expected = (0.5 - 1e-4) * math.log(0.5 / 1e-4) + (0.5 - 1.0) * math.log(0.5)
    assert psi(np.array([0.0, 1.0]), np.array([0.5, 0.5])) == pytest.approx(expected)
