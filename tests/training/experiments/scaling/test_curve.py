"""What a curve says about its own limits."""

import numpy as np
import pytest
from support.made_points import point, published, runs

from training.experiments.scaling.curve import Curve, curves_of
from training.experiments.scaling.laws import Form

X = np.geomspace(1e5, 1e7, 6)


def floored(x):
    return 0.1 * (x / 1e6) ** -0.4 + 0.75


def test_a_floor_that_the_points_bend_to_is_found_within_its_interval():
    curve = Curve.of(runs(floored, X))
    assert (curve.criteria[Form.FLOOR], curve.is_floor_identified, curve.notes) == (0, True, ())
    assert curve.gamma.low < 0.75 < curve.gamma.high
    assert curve.beta.low < 0.4 < curve.beta.high
    assert curve.distance_to_floor(1e6).estimate == pytest.approx(0.1 / 0.85, rel=0.2)
    assert not curve.rises


@pytest.mark.parametrize(
    ("law", "message"),
    [
        (lambda x: 0.85 * (x / 1e6) ** -0.02, "the AICc prefers a power law without one"),
        (lambda x: 0.5 * (x / 1e6) ** -0.05 + 0.35, "cannot tell a power law with a floor from"),
        (lambda x: 0.2 * (x / 1e6) ** -0.1 + 0.65, "is wider than the range of the measured NE"),
        (lambda x: 0.85, "the AICc prefers no effect at all"),
        (lambda x: 0.85 - 0.01 * np.log(x / 1e6), "The floor is not identified"),
    ],
)
def test_what_the_points_cannot_tell_is_said(law, message):
    curve = Curve.of(runs(law, X, noise=0.003, seed=4))
    assert not curve.is_floor_identified
    assert any(message in note for note in curve.notes), curve.notes


def test_one_seed_a_point_is_noted_and_five_of_them_compare_no_forms():
    notes = Curve.of(runs(floored, X[:5], seeds=1)).notes
    assert notes[0].startswith("One seed a point")
    assert "5 independent observations are too few" in notes[1]


def test_an_error_that_all_seeds_of_a_point_share_is_noted():
    off = dict(zip(X, 0.01 * np.random.default_rng(1).standard_normal(6), strict=True))
    curve = Curve.of(runs(lambda x: floored(x) * (1 + off[x]), X))
    assert "something that all seeds of a point share" in curve.notes[0]


def test_predictions_lie_in_their_band_and_the_band_widens_beyond_the_runs():
    curve = Curve.of(runs(floored, X, noise=0.003))
    low, high = curve.band([1e6, 1e8])
    assert (low < curve.expected([1e6, 1e8])).all()
    assert (curve.expected([1e6, 1e8]) < high).all()
    assert high[1] - low[1] > 2 * (high[0] - low[0])


def test_the_papers_points_give_its_exponent_and_a_floor_that_gains_less():
    curve = Curve.of(published())
    without_floor = curve.fits[Form.POWER].law
    assert without_floor.beta[0] == pytest.approx(0.000707, abs=5e-7)
    straight = without_floor.at([108, 432])[0]
    # The paper: about 0.1 % for four times the compute.
    assert straight[1] / straight[0] - 1 == pytest.approx(-0.00098, abs=1e-5)
    change, draws = curve.change(108, 432)
    assert -0.0007 < change < -0.0002
    assert np.quantile(draws, 0.95) < 0
    assert any("7 independent observations are too few" in note for note in curve.notes)


def test_each_axis_and_family_has_a_curve_or_a_reason_why_it_has_none():
    few = [point(axis="dim", x=x, unit="dimensions") for x in (8.0, 16.0)]
    mixed = [point(axis="rows", x=x, unit=f"rows {x}") for x in X]
    curves, refused = curves_of([*runs(floored, X), *runs(floored, X, model="dlrm"), *few, *mixed])
    assert [(curve.axis, curve.model) for curve in curves] == [
        ("data", "dlrm"),
        ("data", "wukong"),
    ]
    assert refused[0] == "axis dim, model wukong, points: 2; at least 5 for a law"
    assert refused[1].startswith("axis rows, model wukong, unit: ['rows 1")
