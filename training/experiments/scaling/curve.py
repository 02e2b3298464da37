"""The laws and the floor of one axis and one family of rankers, with notes in plain words."""

import dataclasses
import itertools
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from training.experiments.scaling.bootstrap import (
    DRAWS,
    LEVEL,
    Fitted,
    Interval,
    Observations,
    draw,
    fit_form,
    independent,
)
from training.experiments.scaling.laws import BETA_RANGE, FloatArray, Form, Laws
from training.experiments.scaling.points import MIN_POINTS, Point

_SAME = 2.0
"""A difference of AICc below it decides nothing."""
_FEW = 10
"""Fewer independent observations, and what the AICc adds for parameters decides, not the points."""


@dataclasses.dataclass(frozen=True)
class Curve:
    """NE against one resource.

    Predictions are the floored law's, which has the other forms within it: γ = 0 and α = 0. The
    AICc says which form the points ask for and changes no prediction (decision 12).
    """

    axis: str
    model: str
    unit: str
    points: tuple[Point, ...]
    """The runs, by x and seed."""
    observed: Observations
    """The runs' NE."""
    fits: Mapping[Form, Fitted]
    criteria: Mapping[Form, float]
    """AICc above the least one, of the forms that have one."""
    draws: Laws
    """Of the floored law; ``draws.at`` is ``expected``, drawn: (draws, points)."""
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
        basis, notes_on_noise = independent(observed)
        fits = {form: fit_form(basis, form) for form in Form}
        known = {form: one.criterion for form, one in fits.items() if one.criterion is not None}
        above = {form: value - min(known.values()) for form, value in known.items()}
        # Of its own for each curve: the draws of two are compared as if independent.
        draws = draw(basis, fits[Form.FLOOR], seed=zlib.crc32(name.encode()), size=DRAWS)
        why_no_floor = _why_no_floor(fits[Form.FLOOR], above, draws, observed)
        notes = (*notes_on_noise, *_notes_on_forms(len(basis.log_loss), above), why_no_floor)
        return cls(
            axis=runs[0].axis,
            model=runs[0].model,
            unit=units[0],
            points=runs,
            observed=observed,
            fits=fits,
            criteria=above,
            draws=draws,
            notes=tuple(filter(None, notes)),
            is_floor_identified=not why_no_floor,
        )

    @property
    def law(self) -> Laws:
        """What predicts, of size 1."""
        return self.fits[Form.FLOOR].law

    @property
    def may_be_flat(self) -> bool:
        """Whether the AICc does not tell the points from no effect at all."""
        return self.criteria[Form.FLAT] < _SAME

    @property
    def gamma(self) -> Interval:
        """The floor's NE, by the form that has one."""
        return self._parameter("gamma")

    @property
    def beta(self) -> Interval:
        """The exponent above a floor."""
        return self._parameter("beta")

    def _parameter(self, name: str) -> Interval:
        return Interval.of(getattr(self.law, name)[0], getattr(self.draws, name))

    def expected(self, x: npt.ArrayLike) -> FloatArray:
        """(points,) NE at (points,) amounts."""
        return np.asarray(self.law.at(x)[0])

    def band(self, x: npt.ArrayLike) -> FloatArray:
        """(2, points) lower and upper end of the interval of the NE."""
        ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
        return np.asarray(np.quantile(self.draws.at(x), ends, axis=0))

    def change(self, x: float, to: float) -> tuple[float, FloatArray]:
        """Relative change of the NE from one amount to another, negative is better.

        Returns:
            The expected one, and (draws,).
        """
        now, then = self.expected([x, to])
        draws = self.draws.at([x, to])
        return float(then / now - 1), draws[:, 1] / draws[:, 0] - 1

    def distance_to_floor(self, x: float) -> Interval:
        """Share of the NE at ``x`` that more of this resource could still take away."""
        share = 1 - self.law.gamma[0] / self.expected(x)[0]
        return Interval.of(share, 1 - self.draws.gamma / self.draws.at(x)[:, 0])

    @property
    def rises(self) -> bool:
        """Whether the NE gets worse, not better, as the resource grows (5 % level)."""
        found = stats.linregress(np.log(self.observed.x), np.log(self.observed.means))
        return bool(found.slope > 0 and found.pvalue < 0.05)

    def to_dict(self) -> dict[str, object]:
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
                    "relative_residuals": found.residuals.tolist(),
                }
                for form, found in self.fits.items()
            },
            "alpha": dataclasses.asdict(self._parameter("alpha_of_one_unit")),
            "beta": dataclasses.asdict(self.beta),
            "gamma": dataclasses.asdict(self.gamma),
            "is_floor_identified": self.is_floor_identified,
            "notes": list(self.notes),
        }


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


_NAMES = {
    Form.FLOOR: "a power law with a floor",
    Form.POWER: "a power law without one",
    Form.FLAT: "no effect at all",
}


def _notes_on_forms(size: int, above: Mapping[Form, float]) -> list[str]:
    if size < _FEW:
        return [
            f"{size} independent observations are too few for the AICc to tell "
            f"{_NAMES[Form.FLOOR]} from {_NAMES[Form.POWER]}; at least {_FEW}."
        ]
    near = [form for form in above if above[form] < _SAME]
    if len(near) == 1:
        return []
    names = ", ".join(_NAMES[form] for form in near[:-1]) + " from " + _NAMES[near[-1]]
    if Form.FLOOR not in near:
        names = names.replace("without one", "without a floor")
    apart = max(above[form] for form in near)
    return [f"The points cannot tell {names}: the AICc differ by {apart:.1f}, less than {_SAME:g}."]


def _why_no_floor(
    floor: Fitted, above: Mapping[Form, float], draws: Laws, observed: Observations
) -> str | None:
    """Why the floor is not identified; None when it is."""
    gamma = Interval.of(floor.law.gamma[0], draws.gamma)
    observed_range = float(np.ptp(observed.means))
    share_at_bound = float(np.mean(draws.beta <= BETA_RANGE[0] * 1.001))
    start = "The floor is not identified: "
    best = min(above, key=lambda form: above[form])
    if len(floor.residuals) >= _FEW and above[Form.FLOOR] >= _SAME:
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
