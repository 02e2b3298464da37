"""How sure a law is: bootstrap draws, intervals, and an information criterion.

Draws are a law's own predictions with its relative residuals dealt out anew. The residuals are
widened for the parameters that were fitted, and in each draw for not knowing the noise itself
(a χ² of the degrees of freedom), without which few points give intervals that are too narrow.
"""

import dataclasses

import numpy as np
import numpy.typing as npt
from scipy import stats

from training.bootstrap import interval
from training.experiments.scaling.laws import FloatArray, Form, Laws, fit, refit

LEVEL = 0.9
"""Of every interval."""
DRAWS = 1_000
_LACK_OF_FIT = 0.1
"""Below this p-value, seeds scatter too little to explain how the points lie beside the law."""
_EXACT = 1e-9
"""Relative residuals below this are rounding."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """An estimate and what ``LEVEL`` of the draws lie within."""

    estimate: float
    low: float
    high: float

    @classmethod
    def of(cls, estimate: float, draws: FloatArray) -> "Interval":
        """Quantiles of (draws,)."""
        return cls(float(estimate), *interval(draws, level=LEVEL))


@dataclasses.dataclass(frozen=True)
class Observations:
    """What a law is fitted to: runs, by the amount of the resource that they had."""

    x: FloatArray
    """(points,), ascending, each once."""
    index: npt.NDArray[np.int64]
    """(runs,), which of the points each run is at."""
    log_loss: FloatArray
    """(runs,), the natural logarithm of the runs' losses."""

    @classmethod
    def of(cls, x: npt.ArrayLike, loss: npt.ArrayLike) -> "Observations":
        """From (runs,) amounts and losses, in any order."""
        values, index = np.unique(np.asarray(x, float), return_inverse=True)
        return cls(values, index, np.log(np.asarray(loss, float)))

    @property
    def counts(self) -> FloatArray:
        """(points,) the runs at each point."""
        return np.bincount(self.index).astype(float)

    @property
    def means(self) -> FloatArray:
        """(points,) geometric means of the losses."""
        return np.asarray(np.exp(np.bincount(self.index, self.log_loss) / self.counts))

    def collapsed(self) -> "Observations":
        """Each point's mean as if it were one run."""
        return Observations(self.x, np.arange(len(self.x)), np.log(self.means))

    def residuals(self, law: Laws) -> FloatArray:
        """(runs,) relative residuals, as logarithms."""
        return np.asarray(self.log_loss - np.log(law.at(self.x)[0])[self.index])


def lack_of_fit(observations: Observations) -> float | None:
    """P-value of an F test: are the points farther from the law than seeds make them?

    Returns:
        None when no point has a second seed, and nothing can be said.
    """
    runs, points = len(observations.log_loss), len(observations.x)
    freedom = points - Form.FLOOR.parameters
    if runs == points or freedom <= 0:
        return None
    law = fit_form(observations, Form.FLOOR).law
    within = observations.log_loss - np.log(observations.means)[observations.index]
    residuals = np.log(observations.means) - np.log(law.at(observations.x)[0])
    noise = max(float(within @ within) / (runs - points), _EXACT**2)
    return float(
        stats.f.sf(observations.counts @ residuals**2 / freedom / noise, freedom, runs - points)
    )


def independent(observations: Observations) -> tuple[Observations, tuple[str, ...]]:
    """The observations whose errors may be called independent, with notes in plain words.

    Seeds of a point share its learning rate and whatever else the law does not know. Where that
    shows, the points' means are the observations, otherwise the runs.
    """
    p_value = lack_of_fit(observations)
    if p_value is None:
        note = "One seed a point: the noise is read off the distances to the law."
        return observations, (note,)
    if p_value >= _LACK_OF_FIT:
        return observations, ()
    note = (
        f"The points lie farther from the law than their seeds scatter (p = {p_value:.2g}), so "
        "each point counts once: something that all seeds of a point share, such as its learning "
        "rate, or the law itself, is off."
    )
    return observations.collapsed(), (note,)


@dataclasses.dataclass(frozen=True)
class Fitted:
    """One form on one curve."""

    law: Laws
    """Of size 1."""
    residuals: FloatArray
    """(observations,), relative, in the order of the observations."""
    criterion: float | None
    """AICc, the noise counted as a parameter; None when there are too few observations for it."""


def fit_form(observations: Observations, form: Form) -> Fitted:
    """The best law of a form, and how far the observations are from it."""
    law = fit(form, observations.x, observations.means, observations.counts)
    residuals = observations.residuals(law)
    size, parameters = len(residuals), form.parameters + 1
    spare, criterion = size - parameters - 1, None
    if spare > 0:
        variance = max(float(residuals @ residuals) / size, _EXACT**2)
        misfit = size * np.log(variance)
        criterion = float(misfit + 2 * parameters + 2 * parameters * (parameters + 1) / spare)
    return Fitted(law, residuals, criterion)


def draw(observations: Observations, floored: Fitted, *, seed: int, size: int) -> Laws:
    """``size`` floored laws that the noise could have led to as well.

    The observations are independent, and more than the form has parameters.
    """
    runs, generator = len(floored.residuals), np.random.default_rng(seed)
    freedom = runs - Form.FLOOR.parameters
    errors = generator.choice(floored.residuals * np.sqrt(runs / freedom), size=(size, runs))
    errors *= np.sqrt(freedom / generator.chisquare(freedom, size=(size, 1)))
    is_at = np.eye(len(observations.x))[observations.index] / observations.counts
    drawn = floored.law.at(observations.x) * np.exp(errors @ is_at)
    return refit(floored.law, observations.x, drawn, observations.counts)
