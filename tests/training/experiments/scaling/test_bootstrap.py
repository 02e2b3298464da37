"""Intervals that hold what they promise."""

import numpy as np
import pytest

from training.experiments.scaling.bootstrap import (
    LEVEL,
    Interval,
    Observations,
    draw,
    fit_form,
    independent,
    lack_of_fit,
)
from training.experiments.scaling.laws import Form

TRIALS = 80


def observed(generator, *, points=6, seeds=3, noise=0.003, shared=0.0, law=(0.2, 0.3, 0.7)):
    """Runs of α x^-β + γ; ``shared`` is noise that all seeds of a point have."""
    x = np.geomspace(1 / 8, 8, points)
    alpha, beta, gamma = law
    size = (points, seeds)
    loss = (alpha * x**-beta + gamma)[:, None] * np.exp(
        shared * generator.standard_normal((points, 1)) + noise * generator.standard_normal(size)
    )
    return Observations.of(np.repeat(1e6 * x, seeds), loss.ravel())


@pytest.mark.parametrize(
    ("points", "seeds", "noise", "shared"),
    [(7, 3, 0.003, 0.0), (5, 1, 0.003, 0.0), (7, 3, 0.002, 0.004)],
)
def test_intervals_cover_the_laws_parameters_about_as_often_as_they_say(
    points, seeds, noise, shared
):
    alpha, beta, gamma = truth = (0.2, 0.3, 0.7)
    covered = np.zeros(3)
    for trial in range(TRIALS):
        generator = np.random.default_rng(trial)
        runs = observed(
            generator, points=points, seeds=seeds, noise=noise, shared=shared, law=truth
        )
        basis, _ = independent(runs)
        draws = draw(basis, fit_form(basis, Form.FLOOR), seed=trial, size=60)
        for i, (true, drawn) in enumerate(
            [(alpha, draws.alpha), (beta, draws.beta), (gamma, draws.gamma)]
        ):
            interval = Interval.of(true, drawn)
            covered[i] += interval.low <= true <= interval.high
    assert pytest.approx(LEVEL) == 0.9
    assert ((covered / TRIALS >= 0.8) & (covered / TRIALS <= 0.98)).all(), covered / TRIALS


def test_seeds_that_scatter_less_than_their_points_are_seen():
    generator = np.random.default_rng(0)
    apart = [lack_of_fit(observed(generator, shared=0.02)) for _ in range(30)]
    alike = [lack_of_fit(observed(generator)) for _ in range(30)]
    assert np.mean(np.array(apart) < 0.1) > 0.9
    assert np.mean(np.array(alike) < 0.1) < 0.3
    assert lack_of_fit(observed(generator, seeds=1)) is None


def test_points_count_once_where_their_seeds_share_an_error():
    runs = observed(np.random.default_rng(0), shared=0.02)
    found, (note,) = independent(runs)
    assert len(found.log_loss) == 6
    assert found.means == pytest.approx(runs.means)
    assert "each point counts once" in note
    found, notes = independent(observed(np.random.default_rng(0)))
    assert (len(found.log_loss), notes) == (18, ())


@pytest.mark.parametrize(
    ("law", "form"),
    [((0.2, 0.5, 0.7), Form.FLOOR), ((0.9, 0.1, 0.0), Form.POWER), ((0.0, 1.0, 0.8), Form.FLAT)],
)
def test_the_form_that_made_the_points_has_the_least_criterion_most_often(law, form):
    found = []
    for trial in range(30):
        runs = observed(np.random.default_rng(trial), law=law)
        criteria = {f: fit_form(runs, f).criterion for f in Form}
        found.append(min(criteria, key=lambda f: criteria[f]))
    assert np.mean([best is form for best in found]) > 0.75


def test_five_runs_have_no_criterion_for_three_parameters_and_the_noise():
    runs = observed(np.random.default_rng(0), points=5, seeds=1)
    assert fit_form(runs, Form.FLOOR).criterion is None
    assert fit_form(runs, Form.POWER).criterion is not None
