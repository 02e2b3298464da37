"""A sketch says of a distribution, in some hundred numbers, what all of its values say."""

import numpy as np
import pytest

from training.data.sketches import MOST_CATEGORIES, MOST_VALUES, Categories, Numbers, Share

random = np.random.default_rng(1)
SMOOTH = random.lognormal(size=20_000)
WITH_ZEROS = np.where(random.random(20_000) < 0.3, 0.0, SMOOTH)
FEW = random.poisson(3.0, 5_000).astype(float)


def numbers(values, weight=None):
    return Numbers.of(np.asarray(values), np.ones(len(values)) if weight is None else weight)


@pytest.mark.parametrize("values", [SMOOTH, WITH_ZEROS, FEW], ids=["smooth", "zeros", "few"])
def test_the_distribution_function_is_that_of_the_values(values):
    points = np.unique(np.r_[np.linspace(-1, 12, 300), 0.0, 3.0])
    below, upto = numbers(values).below_and_upto(points)
    ordered = np.sort(values)
    expected = [np.searchsorted(ordered, points, side) / len(values) for side in ("left", "right")]
    assert np.abs(np.array([below, upto]) - expected).max() < 1 / MOST_VALUES
    assert len(numbers(values).values) <= MOST_VALUES


def test_it_is_exact_where_there_are_few_values():
    points = np.arange(-1.0, 15.0)
    _, upto = numbers(FEW).below_and_upto(points)
    assert upto.tolist() == pytest.approx([(point >= FEW).mean() for point in points], abs=1e-12)


def test_quantiles_are_those_of_the_values():
    shares = np.array([0.05, 0.1, 0.5, 0.9, 0.95])
    found = numbers(WITH_ZEROS).quantiles(shares)
    expected = np.quantile(WITH_ZEROS, shares)
    assert found.tolist() == pytest.approx(expected.tolist(), rel=0.02, abs=1e-9)


def test_weights_count_as_repeated_rows_do():
    weight = random.integers(1, 4, len(FEW))
    weighted, repeated = numbers(FEW, weight.astype(float)), numbers(np.repeat(FEW, weight))
    assert weighted.at.tolist() == repeated.at.tolist()
    assert weighted.rows < weighted.total == repeated.rows


def test_missing_numbers_are_counted_apart():
    found = numbers([np.nan, 1.0, np.nan, 2.0], np.array([1.0, 1.0, 2.0, 4.0]))
    assert (found.missing, found.total) == (3.0, 5.0)
    assert numbers([np.nan]).total == 0.0


def test_frequent_categories_are_kept_and_the_others_counted_together():
    keys = np.r_[np.repeat(7, 50), np.arange(1, 201), 0, 0]
    found = Categories.of(keys, np.ones(len(keys)), missing=3.0, rows=255.0)
    assert (found.keys[0], found.counts[0], len(found.keys)) == (7, 51.0, MOST_CATEGORIES)
    assert (found.rest, found.unknown, found.total) == (100.0, 2.0, 255.0)


def test_shares_of_cells_add_up_and_what_is_not_asked_for_is_the_rest():
    found = Categories.of(np.array([1, 1, 2, 3, 0]), np.ones(5), missing=5.0, rows=10.0)
    assert found.cells(np.array([1, 9])).tolist() == [0.2, 0.0, 0.2, 0.5, 0.1]


def test_a_share_is_weighted():
    assert Share.of(np.array([1.0, 0.0]), np.array([3.0, 1.0])).share == 0.75
