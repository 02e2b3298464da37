"""What the points of one axis and one family of rankers say: laws, floor, and in plain words."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from training.scaling.bootstrap import (
    DRAWS,
    LEVEL,
    Fitted,
    Interval,
    Observations,
    fit_with_draws,
    independent,
    lack_of_fit,
    weights,
)
from training.scaling.laws import BETA_RANGE, FloatArray, Form, Laws
from training.scaling.points import Point

MIN_POINTS = 5
"""Different amounts of a resource that a law needs."""
_SAME = 2.0
"""A difference of AICc below it decides nothing."""


@dataclasses.dataclass(frozen=True)
class Curve:
    """NE against one resource.

    Predictions are Akaike's mean over the forms, their draws a mixture of the forms' draws, so that
    not knowing the form is part of every interval.
    """

    axis: str
    model: str
    unit: str
    points: tuple[Point, ...]
    """The runs, by x and seed."""
    observed: Observations
    """The runs' NE."""
    fits: Mapping[Form, Fitted]
    weights: Mapping[Form, float]
    mixture: Laws
    """(draws,)."""
    notes: tuple[str, ...]
    """What the points cannot tell, in sentences."""
    is_floor_identified: bool

    @classmethod
    def of(cls, points: Sequence[Point]) -> "Curve":
        """Fit all forms to the runs of one axis and model.

        Raises:
            ValueError: When they have fewer than ``MIN_POINTS`` different x, or units differ.
        """
        runs = tuple(sorted(points, key=lambda point: (point.x, point.seed)))
        units = sorted({point.unit for point in runs})
        name = f"axis {runs[0].axis}, model {runs[0].model}"
        if len(units) > 1:
            raise ValueError(f"{name}, unit: {units}; the same for all points")
        observed = Observations.of([p.x for p in runs], [p.ne for p in runs])
        if len(observed.x) < MIN_POINTS:
            raise ValueError(f"{name}, points: {len(observed.x)}; at least {MIN_POINTS} for a law")
        basis = independent(observed)
        fits = {form: fit_with_draws(basis, form, seed=i) for i, form in enumerate(Form)}
        notes = (*_notes_on_noise(observed), *_notes_on_forms(fits))
        why_no_floor = _why_no_floor(fits, observed)
        return cls(
            axis=runs[0].axis,
            model=runs[0].model,
            unit=units[0],
            points=runs,
            observed=observed,
            fits=fits,
            weights=weights(fits),
            mixture=_mixture(fits),
            notes=(*notes, why_no_floor) if why_no_floor else notes,
            is_floor_identified=not why_no_floor,
        )

    @property
    def best(self) -> Form:
        """The form with the largest weight; with a floor when two are equal."""
        return max(self.weights, key=lambda form: self.weights[form])

    @property
    def gamma(self) -> Interval:
        """The floor's NE, by the form that has one."""
        return self._parameter("gamma")

    @property
    def beta(self) -> Interval:
        """The exponent above a floor."""
        return self._parameter("beta")

    def _parameter(self, name: str) -> Interval:
        floor = self.fits[Form.FLOOR]
        return Interval.of(getattr(floor.law, name)[0], getattr(floor.draws, name))

    def expected(self, x: npt.ArrayLike) -> FloatArray:
        """(points,) NE at (points,) amounts, Akaike's mean over the forms."""
        return np.asarray(
            sum(weight * self.fits[form].law.at(x)[0] for form, weight in self.weights.items())
        )

    def band(self, x: npt.ArrayLike) -> FloatArray:
        """(2, points) lower and upper end of the interval of the NE."""
        ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
        return np.asarray(np.quantile(self.mixture.at(x), ends, axis=0))

    def change(self, x: float, to: float) -> tuple[float, FloatArray]:
        """Relative change of the NE from one amount to another, negative is better.

        Returns:
            The expected one, and (draws,).
        """
        now, then = self.expected([x, to])
        draws = self.mixture.at([x, to])
        return float(then / now - 1), draws[:, 1] / draws[:, 0] - 1

    def distance_to_floor(self, x: float) -> Interval:
        """Share of the NE at ``x`` that more of this resource could still take away."""
        floor = self.fits[Form.FLOOR]
        share = 1 - floor.law.gamma / floor.law.at(x)[:, 0]
        return Interval.of(share[0], 1 - floor.draws.gamma / floor.draws.at(x)[:, 0])

    @property
    def rises(self) -> bool:
        """Whether the NE gets worse, not better, as the resource grows (5 % level)."""
        found = stats.linregress(np.log(self.observed.x), np.log(self.observed.means))
        return bool(found.slope > 0 and found.pvalue < 0.05)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "axis": self.axis,
            "model": self.model,
            "unit": self.unit,
            "points": len(self.observed.x),
            "runs": len(self.points),
            "x": self.observed.x.tolist(),
            "ne": self.observed.means.tolist(),
            "forms": {
                form: {
                    "alpha": float(found.law.alpha_of_one_unit[0]),
                    "beta": float(found.law.beta[0]),
                    "gamma": float(found.law.gamma[0]),
                    "aicc": found.criterion,
                    "weight": self.weights[form],
                    "relative_residuals": found.residuals.tolist(),
                }
                for form, found in self.fits.items()
            },
            "best_form": self.best,
            "alpha": dataclasses.asdict(self._alpha()),
            "beta": dataclasses.asdict(self.beta),
            "gamma": dataclasses.asdict(self.gamma),
            "is_floor_identified": self.is_floor_identified,
            "notes": list(self.notes),
        }

    def _alpha(self) -> Interval:
        floor = self.fits[Form.FLOOR]
        return Interval.of(floor.law.alpha_of_one_unit[0], floor.draws.alpha_of_one_unit)


def curves_of(points: Sequence[Point]) -> tuple[list[Curve], list[str]]:
    """A curve for each axis and model; and why some points became none."""
    found, refused = [], []
    ordered = sorted(points, key=lambda point: (point.axis, point.model))
    for _, runs in itertools.groupby(ordered, key=lambda point: (point.axis, point.model)):
        try:
            found.append(Curve.of(list(runs)))
        except ValueError as error:
            refused.append(str(error))
    return found, refused


def _mixture(fits: dict[Form, Fitted]) -> Laws:
    """Draws of each form, as many as its weight says."""
    mixture = None
    for form, weight in weights(fits).items():
        part = fits[form].draws.head(round(weight * DRAWS))
        mixture = mixture.with_others(part) if mixture else part
    assert mixture is not None
    return mixture


def _notes_on_noise(observed: Observations) -> list[str]:
    p_value = lack_of_fit(observed)
    if p_value is None:
        return ["One seed a point: the noise is read off the distances to the law."]
    if independent(observed) is not observed:
        return [
            "The points lie farther from the law than their seeds scatter "
            f"(p = {p_value:.2g}), so each point counts once: something that all seeds of a point "
            "share, such as its learning rate, or the law itself, is off."
        ]
    return []


_NAMES = {
    Form.FLOOR: "a power law with a floor",
    Form.POWER: "a power law without one",
    Form.FLAT: "no effect at all",
}


def _notes_on_forms(fits: dict[Form, Fitted]) -> list[str]:
    if fits[Form.FLOOR].criterion is None:
        size = len(fits[Form.FLOOR].residuals)
        return [
            f"{size} independent observations are too few to compare {_NAMES[Form.FLOOR]} with "
            f"{_NAMES[Form.POWER]}; both count the same."
        ]
    criteria = {form: found.criterion or 0.0 for form, found in fits.items()}
    least = min(criteria.values())
    near = [form for form in criteria if criteria[form] - least < _SAME]
    if len(near) == 1:
        return []
    apart = max(criteria[form] for form in near) - least
    names = ", ".join(_NAMES[form] for form in near[:-1]) + " from " + _NAMES[near[-1]]
    if Form.FLOOR not in near:
        names = names.replace("without one", "without a floor")
    return [f"The points cannot tell {names}: the AICc differ by {apart:.1f}, less than {_SAME:g}."]


def _why_no_floor(fits: dict[Form, Fitted], observed: Observations) -> str | None:
    """Why the floor is not identified; None when it is."""
    floor = fits[Form.FLOOR]
    gamma = Interval.of(floor.law.gamma[0], floor.draws.gamma)
    observed_range = float(np.ptp(observed.means))
    share_at_bound = float(np.mean(floor.draws.beta <= BETA_RANGE[0] * 1.001))
    start = "The floor is not identified: "
    criteria = {form: found.criterion for form, found in fits.items() if found.criterion}
    best = min(criteria, key=lambda form: criteria[form])
    if Form.FLOOR in criteria and criteria[Form.FLOOR] - criteria[best] >= _SAME:
        return f"{start}the AICc prefers {_NAMES[best]}."
    if gamma.low <= 0:
        return f"{start}its interval reaches 0 ({gamma.low:.4g} to {gamma.high:.4g})."
    if gamma.high - gamma.low > observed_range:
        return (
            f"{start}its interval, {gamma.low:.4g} to {gamma.high:.4g}, is wider than the range of "
            f"the measured NE, {observed_range:.2g}."
        )
    if share_at_bound > 1 - LEVEL:
        return (
            f"{start}{share_at_bound:.0%} of the draws end at the smallest exponent, "
            f"{BETA_RANGE[0]}, where the law is a logarithm and has none."
        )
    return None
