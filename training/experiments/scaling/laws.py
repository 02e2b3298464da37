"""The forms that a loss may follow as a resource x grows, and their fits.

All are L(x) = α (x / x₀)^(-β) + γ, x₀ the geometric mean of the points' x, so that α is the
reducible loss in the middle of the points and hardly moves with β:

* ``FLOOR``: a power law above a floor γ (Ardalani et al., arXiv 2208.08489).
* ``POWER``: γ = 0. The Wukong paper's y = -100 + 99.56 x^(-0.00071) is this form: y is the loss in
  per cent of a reference, less 100 (arXiv 2403.02545, section 7.2; printed without the minus).
* ``FLAT``: the resource does nothing.

Fits minimise the residuals of the logarithm of the loss: the floored law's by
``scipy.optimize.least_squares`` within bounds, the best of some starts; the others' in one step.
"""

import dataclasses
import enum
import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.optimize import least_squares

FloatArray = npt.NDArray[np.float64]

BETA_RANGE = (0.01, 3.0)
"""Of the floored law; below, it cannot be told from a logarithm."""
_LEAST_ALPHA = 1e-9
_STARTS = tuple(itertools.product((0.1, 1.0), (0.2, 0.9)))
"""β, and γ as a share of the least loss."""


class Form(enum.StrEnum):
    """A family of laws."""

    FLOOR = "floor"
    POWER = "power"
    FLAT = "flat"

    @property
    def parameters(self) -> int:
        """How many numbers a fit chooses, the noise left out."""
        return {Form.FLOOR: 3, Form.POWER: 2, Form.FLAT: 1}[self]

    @property
    def formula(self) -> str:
        """For people."""
        return {Form.FLOOR: "α·x^(−β) + γ", Form.POWER: "α·x^(−β)", Form.FLAT: "γ"}[self]


@dataclasses.dataclass(frozen=True)
class Laws:
    """``size`` laws with the same x₀; one fit is a size of 1, a bootstrap one of many."""

    alpha: FloatArray
    """(size,), the reducible loss at x₀."""
    beta: FloatArray
    """(size,)."""
    gamma: FloatArray
    """(size,), the floor."""
    scale: float
    """x₀."""

    def at(self, x: npt.ArrayLike) -> FloatArray:
        """(size, points) losses at (points,) amounts of the resource."""
        ratio = np.log(np.atleast_1d(np.asarray(x, float)) / self.scale)
        power = np.exp(-self.beta[:, None] * ratio)
        return np.asarray(self.alpha[:, None] * power + self.gamma[:, None])

    @property
    def alpha_of_one_unit(self) -> FloatArray:
        """(size,) the α of α x^(-β) + γ, with x in its own unit."""
        return np.asarray(self.alpha * self.scale**self.beta)


def fit(form: Form, x: FloatArray, loss: FloatArray, weight: FloatArray) -> Laws:
    """The best law of a form for (points,) x and losses above 0, weighted such as by seeds."""
    scale, log_loss = float(stats.gmean(x)), np.log(loss)
    log_x = np.log(x / scale)
    level = np.exp(np.average(log_loss, weights=weight))
    if form is Form.FLAT:
        return _laws([(0, 0, level)], scale)
    if form is Form.POWER:
        slope = np.polyfit(log_x, log_loss, 1, w=np.sqrt(weight))[0]
        beta = np.clip(-slope, 0, BETA_RANGE[1])
        alpha = np.exp(np.average(log_loss + beta * log_x, weights=weight))
        return _laws([(alpha, beta, 0)], scale)
    floors = [(beta, share * loss.min()) for beta, share in _STARTS]
    starts = [(level - gamma, beta, gamma) for beta, gamma in floors]
    return _laws([_floored(log_x, loss, weight, starts)], scale)


def refit(law: Laws, x: FloatArray, losses: FloatArray, weight: FloatArray) -> Laws:
    """The floored laws of (size, points) losses that are near to a floored law's, from there on."""
    start = [(law.alpha[0], law.beta[0], law.gamma[0])]
    log_x = np.log(x / law.scale)
    return _laws([_floored(log_x, loss, weight, start) for loss in losses], law.scale)


def _laws(parameters: Sequence[npt.ArrayLike], scale: float) -> Laws:
    alpha, beta, gamma = np.array(parameters, float).T
    return Laws(alpha, beta, gamma, scale)


def _floored(
    log_x: FloatArray, loss: FloatArray, weight: FloatArray, starts: Sequence[tuple[float, ...]]
) -> FloatArray:
    """α ≥ 0, β in its range and 0 ≤ γ ≤ the least loss."""
    root, log_loss = np.sqrt(weight), np.log(loss)
    bounds = ([_LEAST_ALPHA, BETA_RANGE[0], 0], [np.inf, BETA_RANGE[1], loss.min()])

    def residuals(parameters: FloatArray) -> FloatArray:
        alpha, beta, gamma = parameters
        return np.asarray(root * (np.log(alpha * np.exp(-beta * log_x) + gamma) - log_loss))

    def jacobian(parameters: FloatArray) -> FloatArray:
        alpha, beta, gamma = parameters
        power = np.exp(-beta * log_x)
        columns = np.stack([power, -alpha * log_x * power, np.ones_like(power)], axis=1)
        return np.asarray(columns * (root / (alpha * power + gamma))[:, None])

    found = [
        least_squares(residuals, np.clip(start, *bounds), jacobian, bounds=bounds)
        for start in starts
    ]
    best = min(found, key=lambda one: one.cost)
    # The solver stays within the bounds, next to one that it ends at.
    return np.where(best.active_mask < 0, bounds[0], best.x)
