"""The forms that a loss may follow as a resource x grows, and their fits.

All are L(x) = α (x / x₀)^(-β) + γ, x₀ the geometric mean of the points' x, so that α is the
reducible loss in the middle of the points and hardly moves with β:

* ``FLOOR``: a power law above a floor γ (Ardalani et al., arXiv 2208.08489).
* ``POWER``: γ = 0. The Wukong paper's y = -100 + 99.56 x^(-0.00071) is this form: y is the loss in
  per cent of a reference, less 100 (arXiv 2403.02545, section 7.2; printed without the minus).
* ``FLAT``: the resource does nothing.

Fits minimise relative residuals. For a given β the floored law is linear in α and γ, so the search
is over β alone: a grid, then finer ones around the best. A whole bootstrap is one call.
"""

import dataclasses
import enum

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

BETA_RANGE = (0.01, 3.0)
"""Of the floored law; below, it cannot be told from a logarithm."""
_GRID_SIZE = 40
_ZOOM_SIZE = 11
_ZOOMS = 4


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


def geometric_mean(x: FloatArray) -> float:
    """The x₀ of these points."""
    return float(np.exp(np.log(x).mean()))


def fit(form: Form, x: FloatArray, loss: FloatArray, weight: FloatArray) -> Laws:
    """The best law of a form for (points,) x and each row of (size, points) losses, all above 0.

    The (points,) weight is such as the number of seeds.
    """
    scale, log_loss = geometric_mean(x), np.log(loss)
    if form is Form.FLOOR:
        # Residuals relative to the losses, then to the law that this gives.
        rough = _search(x / scale, loss, weight / loss**2, scale, zooms=0)
        return _search(x / scale, loss, weight / rough.at(x) ** 2, scale, zooms=_ZOOMS)
    level = np.average(log_loss, axis=1, weights=weight)
    zeros = np.zeros(len(loss))
    if form is Form.FLAT:
        return Laws(zeros, zeros, np.exp(level), scale)
    log_x = np.log(x / scale)
    middle = np.average(log_x, weights=weight)
    centred = weight * (log_x - middle)
    slope = (log_loss @ centred) / (centred @ (log_x - middle))
    beta = np.clip(-slope, 0, BETA_RANGE[1])
    return Laws(np.exp(level + beta * middle), beta, zeros, scale)


def _search(
    ratio: FloatArray, loss: FloatArray, weight: FloatArray, scale: float, *, zooms: int
) -> Laws:
    grid = np.geomspace(*BETA_RANGE, _GRID_SIZE)
    step, rows = np.log(grid[1] / grid[0]), np.arange(len(loss))
    beta = grid[None]
    for left in range(zooms, -1, -1):
        alpha, gamma, cost = _linear_part(ratio, loss, weight, beta)
        best = cost.argmin(axis=1)
        exponents = np.broadcast_to(beta, cost.shape)
        found = Laws(alpha[rows, best], exponents[rows, best], gamma[rows, best], scale)
        if left:
            near = np.exp(np.linspace(-step, step, _ZOOM_SIZE))
            beta = np.clip(found.beta[:, None] * near, *BETA_RANGE)
            step /= _ZOOM_SIZE // 2
    return found


def _linear_part(
    ratio: FloatArray, loss: FloatArray, weight: FloatArray, beta: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Least squares of α ≥ 0 and 0 ≤ γ ≤ the row's least loss, for each β.

    A convex problem of two variables: where its free minimum is outside the box, the minimum is on
    an edge, and each edge has one variable. α = 0 is no edge of interest: γ would be at its top.

    Args:
        ratio: (points,), x / x₀.
        loss: (size, points).
        weight: (size, points), of the squared residuals.
        beta: (size or 1, grid).

    Returns:
        (size, grid) α, γ and sums of squares.
    """
    power = np.exp(-beta[..., None] * np.log(ratio))
    p, py = _sums(power, weight), _sums(power, weight * loss)
    pp = _sums(power**2, weight)
    total, y, yy = (
        (weight * part).sum(axis=1)[:, None] for part in (np.ones(loss.shape), loss, loss**2)
    )
    top = np.broadcast_to(loss.min(axis=1)[:, None], p.shape)
    # At least 5 different x and β ≥ 0.01: the powers are not all equal.
    determinant = total * pp - p**2
    alpha, gamma = (total * py - p * y) / determinant, (pp * y - p * py) / determinant
    is_inside = (alpha >= 0) & (gamma >= 0) & (gamma <= top)
    edges = (np.zeros(p.shape), top)
    alphas = np.stack([alpha, *(np.maximum((py - edge * p) / pp, 0) for edge in edges)])
    gammas = np.stack([gamma, *edges])
    costs = yy + alphas * (alphas * pp - 2 * py) + gammas * (gammas * total - 2 * y)
    costs += 2 * alphas * gammas * p
    costs[0] = np.where(is_inside, costs[0], np.inf)
    best = costs.argmin(axis=0)[None]
    chosen = [np.take_along_axis(a, best, axis=0)[0] for a in (alphas, gammas, costs)]
    return chosen[0], chosen[1], chosen[2]


def _sums(power: FloatArray, weight: FloatArray) -> FloatArray:
    """(size, grid) sums over the points of (size or 1, grid, points) × (size, points)."""
    return np.asarray(np.matmul(power, weight[..., None])[..., 0])
