"""Fits of the laws, beside many more starts and closed forms."""

import numpy as np
import pytest
from scipy.optimize import least_squares
from support.made_points import WUKONG

from training.experiments.scaling.laws import BETA_RANGE, Form, fit, refit

X = np.geomspace(1e5, 1e7, 6)


@pytest.mark.parametrize("beta", [0.05, 0.3, 1.0, 2.5])
def test_a_law_is_recovered_from_points_without_noise(beta):
    loss = 0.1 * (X / 1e6) ** -beta + 0.7
    law = fit(Form.FLOOR, X, loss, np.ones(6))
    assert law.beta == pytest.approx([beta], rel=1e-3)
    assert law.gamma == pytest.approx([0.7], abs=1e-3)
    assert law.at(X)[0] == pytest.approx(loss, rel=2e-4)
    assert law.alpha_of_one_unit == pytest.approx([0.1 * 1e6**beta], rel=0.15)


def test_a_floored_law_is_as_good_as_the_best_of_scipys_many_starts():
    generator = np.random.default_rng(0)
    for _ in range(15):
        beta, gamma = generator.uniform(0.05, 1.5), generator.uniform(0.3, 0.9)
        loss = 0.2 * (X / 1e6) ** -beta + gamma
        loss *= np.exp(0.005 * generator.standard_normal(6))
        ours = np.log(fit(Form.FLOOR, X, loss, np.ones(6)).at(X)[0] / loss)
        assert ours @ ours <= 1.01 * _many_starts(loss)


def _many_starts(loss):
    """Least sum of squares of scipy's bounded solver, in the logarithm of the loss."""
    ratio = X / np.exp(np.log(X).mean())

    def residuals(values):
        alpha, beta, gamma = values
        return np.log((alpha * ratio**-beta + gamma) / loss)

    bounds = ([1e-9, BETA_RANGE[0], 0], [10, BETA_RANGE[1], loss.min()])
    starts = [(0.1, beta, share * loss.min()) for beta in (0.05, 0.3, 1, 2) for share in (0.1, 0.9)]
    return min(2 * least_squares(residuals, start, bounds=bounds).cost for start in starts)


def test_a_law_that_is_fitted_again_from_a_near_one_is_as_good_as_from_all_starts():
    generator = np.random.default_rng(1)
    made = fit(Form.FLOOR, X, 0.2 * (X / 1e6) ** -0.3 + 0.6, np.ones(6))
    losses = made.at(X) * np.exp(0.01 * generator.standard_normal((20, 6)))
    again = refit(made, X, losses, np.ones(6)).at(X)
    for loss, law in zip(losses, again, strict=True):
        ours, best = (
            np.log(law / loss),
            np.log(fit(Form.FLOOR, X, loss, np.ones(6)).at(X)[0] / loss),
        )
        assert ours @ ours <= 1.01 * (best @ best)


def test_laws_stay_in_their_bounds_whatever_the_losses():
    for loss in np.random.default_rng(2).uniform(0.5, 1.0, size=(20, 6)):
        for form in Form:
            law = fit(form, X, loss, np.ones(6))
            assert (law.alpha >= 0).all()
            assert ((law.gamma >= 0) & (law.beta >= 0) & (law.beta <= BETA_RANGE[1])).all()
            if form is Form.FLOOR:
                assert (law.gamma <= loss.min()).all()
                assert (law.beta >= BETA_RANGE[0]).all()


def test_a_law_that_wants_to_leave_its_bounds_ends_on_them():
    log_x = np.log(X / 1e6)
    steeper = fit(Form.FLOOR, X, np.exp(-0.1 * log_x - 0.02 * log_x**2), np.ones(6))
    assert steeper.gamma == [0]
    faster = fit(Form.FLOOR, X, 0.8 - 0.002 * log_x - 0.0002 * log_x**2, np.ones(6))
    assert faster.beta == [BETA_RANGE[0]]
    rising = fit(Form.POWER, X, 0.8 + 0.02 * log_x, np.ones(6))
    assert rising.beta == [0]


def test_the_form_without_a_floor_is_the_wukong_papers_fit_to_its_seven_points():
    gflop, change = np.array(list(WUKONG)), np.array(list(WUKONG.values()))
    law = fit(Form.POWER, gflop, 1 + change / 100, np.ones(7))
    assert law.beta[0] == pytest.approx(0.000707, abs=5e-7)
    assert 100 * law.alpha_of_one_unit[0] == pytest.approx(99.560, abs=5e-4)
    residuals = change - (100 * law.at(gflop)[0] - 100)
    expected = [0.045, 0.006, -0.037, -0.038, -0.011, 0.030, 0.010]
    assert residuals == pytest.approx(expected, abs=2e-3)


def test_a_point_weighs_as_much_as_it_has_seeds():
    generator = np.random.default_rng(3)
    loss = (0.8 * (X / 1e6) ** -0.1) * np.exp(0.01 * generator.standard_normal(6))
    seeds = np.array([1.0, 5, 2, 1, 1, 3])
    slope, level = np.polyfit(np.log(X), np.log(loss), 1, w=np.sqrt(seeds))
    law = fit(Form.POWER, X, loss, seeds)
    assert law.beta == pytest.approx([-slope])
    assert law.alpha_of_one_unit == pytest.approx([np.exp(level)])
    repeated = fit(Form.FLOOR, np.repeat(X, 2), np.repeat(loss, 2), np.repeat(seeds, 2))
    assert repeated.at(X) == pytest.approx(fit(Form.FLOOR, X, loss, seeds).at(X), rel=1e-4)
