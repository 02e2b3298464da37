"""A whole study, points in and advice out: what each resource buys, and what to grow next."""

import dataclasses
import enum
import json
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.interpolate import make_interp_spline

from features.places import Place
from training.experiments.scaling.bootstrap import LEVEL, Interval, Observations
from training.experiments.scaling.curve import Curve, curves_of
from training.experiments.scaling.points import AXES, Point, require_positive

WORTH = 0.0002
"""Smallest relative gain that counts: 0.02 %, significant to the Wukong paper (section 7)."""
_LITTLE = 0.001
"""Largest gain of a doubling that a resource without a visible effect may still hide."""
_FACTOR = 2.0
_FACTORS = (math.sqrt(2), 4.0)
"""Steps to a measured amount are between these."""


class Regime(enum.StrEnum):
    """What a doubling of a resource does."""

    GROWING = "growing"
    SATURATED = "saturated"
    WORSE = "worse"
    UNCLEAR = "unclear"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Current:
    """The production model."""

    name: str
    model: str
    """Its family, as in the points."""
    x: Mapping[str, float]
    """How much of each axis's resource it has; of an axis left out, the largest that was run."""
    ne: float | None = None
    """Its own NE on the days that the points were judged on."""

    def __post_init__(self) -> None:
        for axis, x in self.x.items():
            if axis not in AXES:
                raise ValueError(f"current, x: {axis!r}; an axis is one of {sorted(AXES)}")
            require_positive(f"current, x of {axis}", x)
        if self.ne is not None:
            require_positive("current, ne", self.ne)


def read_current(path: Place) -> Current:
    """The production model from a JSON object with ``Current``'s fields.

    Raises:
        ValueError: Naming the file and what is wrong in it.
    """
    try:
        return Current(**json.loads(path.read_text()))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One resource, grown from where production is."""

    axis: str
    model: str
    unit: str
    x: float
    to: float
    ne_change: Interval
    """Relative, of the whole step; negative is better."""
    ne: Interval
    """After the step, on the curve."""
    compute_factor: float
    """Training FLOPs after over those before."""
    recipe: str | None
    """What a run at ``to`` was made of, where one was."""
    doubling: Interval
    """Relative change of the NE for twice the resource: the marginal gain."""
    compute_doubling: float | None
    """The expected one for twice the training FLOPs; None where the resource takes none."""
    distance_to_floor: Interval | None
    """Share of the NE that more of it could still take away; None: no floor is identified."""
    regime: Regime
    is_extrapolated: bool
    """Whether ``to`` is beyond what was run."""
    share_best: float
    """Share of the draws in which no other resource's doubling buys more."""
    factor: float
    """How many times the resource."""


@dataclasses.dataclass(frozen=True)
class Advice:
    """Steps, the one that buys most first."""

    model: str
    steps: tuple[Step, ...]

    @property
    def next(self) -> Step | None:
        """The best step among those that are shown to gain."""
        return next((step for step in self.steps if step.regime is Regime.GROWING), None)

    @property
    def target(self) -> str | None:
        """The recipe of the best step that gains and has one: what to upscale to."""
        gaining = (step for step in self.steps if step.regime is Regime.GROWING)
        return next((step.recipe for step in gaining if step.recipe), None)

    @property
    def sentences(self) -> list[str]:
        """The advice for people, the recommendation first."""
        others = [_sentence(step) for step in self.steps if step is not self.next]
        return [_recommended(self.next, self.steps), *others]

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "model": self.model,
            "text": self.sentences,
            "next": dataclasses.asdict(self.next) if self.next else None,
            "target": self.target,
            "interval": LEVEL,
            "steps": [dataclasses.asdict(step) for step in self.steps],
        }


@dataclasses.dataclass(frozen=True)
class Study:
    """What a set of points says."""

    curves: tuple[Curve, ...]
    advice: Advice
    current: Current | None
    refused: tuple[str, ...]
    """Why some points became no curve."""

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "advice": self.advice.to_dict(),
            "current": dataclasses.asdict(self.current) if self.current else None,
            "curves": [curve.to_dict() for curve in self.curves],
            "refused": list(self.refused),
        }


def study(points: Sequence[Point], current: Current | None = None) -> Study:
    """Fit every axis and say what to grow next from where ``current`` is.

    Raises:
        ValueError: When no axis has enough points, saying of each why; or when the current model's
            family has none.
    """
    curves, refused = curves_of(points)
    if not curves:
        raise ValueError("; ".join(refused) or "points: 0; at least 5 of one axis")
    return Study(tuple(curves), advise(curves, current), current, tuple(refused))


def advise(curves: Sequence[Curve], current: Current | None = None) -> Advice:
    """Compare the resources of one family: the current one's, else of the run with the least NE.

    Raises:
        ValueError: When the current family has no curve.
    """
    model = current.model if current else min(curves, key=lambda c: c.observed.means.min()).model
    chosen = [curve for curve in curves if curve.model == model]
    if not chosen:
        raise ValueError(f"current, model: {model!r}; one of {sorted({c.model for c in curves})}")
    given = current.x if current else {}
    starts = [given.get(curve.axis, float(curve.observed.x[-1])) for curve in chosen]
    doublings = [curve.change(x, 2 * x)[1] for curve, x in zip(chosen, starts, strict=True)]
    shares = np.bincount(np.argmin(doublings, axis=0), minlength=len(chosen)) / len(doublings[0])
    steps = map(_step, chosen, starts, shares.tolist())
    return Advice(model, tuple(sorted(steps, key=lambda step: step.doubling.estimate)))


def _step(curve: Curve, x: float, share_best: float) -> Step:
    to, recipe = _destination(curve, x)
    change, doubling = curve.change(x, to), Interval.of(*curve.change(x, 2 * x))
    compute, doubled = compute_factor(curve, x, to), compute_factor(curve, x, 2 * x)
    return Step(
        axis=curve.axis,
        model=curve.model,
        unit=curve.unit,
        x=x,
        to=to,
        ne_change=Interval.of(*change),
        ne=Interval.of(curve.expected(to)[0], curve.draws.at(to)[:, 0]),
        compute_factor=compute,
        recipe=recipe,
        doubling=doubling,
        compute_doubling=doubling.estimate / math.log2(doubled) if doubled > 1.01 else None,
        distance_to_floor=curve.distance_to_floor(x) if curve.is_floor_identified else None,
        regime=_regime(curve, doubling),
        is_extrapolated=bool(to > curve.observed.x[-1]),
        share_best=share_best,
        factor=to / x,
    )


def _destination(curve: Curve, x: float) -> tuple[float, str | None]:
    """The amount that was run nearest to twice ``x``, with its recipe; else twice ``x``."""
    low, high = _FACTORS
    runs = [point for point in curve.points if low <= point.x / x <= high]
    nearest = min(runs, key=lambda one: abs(math.log(one.x / x / _FACTOR)), default=None)
    return (nearest.x, nearest.recipe) if nearest else (_FACTOR * x, None)


def compute_factor(curve: Curve, x: float, to: float) -> float:
    """Training FLOPs at ``to`` over those at ``x``, between and beyond runs as a power of x."""
    runs = curve.points
    flops = Observations.of([p.x for p in runs], [p.training_flops for p in runs])
    law = make_interp_spline(np.log(flops.x), np.log(flops.means), k=1)
    start, end = law(np.log([x, to]))
    return math.exp(end - start)


def _regime(curve: Curve, doubling: Interval) -> Regime:
    if curve.rises:
        return Regime.WORSE
    if curve.may_be_flat:
        return Regime.SATURATED if doubling.low > -_LITTLE else Regime.UNCLEAR
    if doubling.high < -WORTH:
        return Regime.GROWING
    return Regime.SATURATED if doubling.low > -WORTH else Regime.UNCLEAR


def _recommended(step: Step | None, steps: Sequence[Step]) -> str:
    if step is None:
        return (
            f"No resource is shown to take {100 * WORTH:g} % off the NE when it is doubled: more "
            "points or seeds before the next step."
        )
    reach = f", to {step.recipe}" if step.recipe else ""
    action = AXES[step.axis].step.format(factor=f"{step.factor:.2g}")
    text = f"Next: {action}{reach}: expected NE {_effect(step)}."
    if len(steps) > 1:
        share = f"{100 * step.share_best:.0f} %"
        text += f" Of {len(steps)} resources, doubling this one buys most in {share} of the draws."
    return f"{text} The step goes beyond what was run." if step.is_extrapolated else text


def _sentence(step: Step) -> str:
    title = AXES[step.axis].title
    if step.regime is Regime.WORSE:
        return f"{title}: the NE gets worse as it grows."
    if step.regime is Regime.SATURATED:
        most = -100 * step.doubling.low
        return f"{title}: saturated; a doubling takes at most {most:.2f} % off the NE."
    word = "gains" if step.regime is Regime.GROWING else "not clear"
    reach = f" ({step.recipe})" if step.recipe else ""
    return f"{title}: {word}; {step.factor:.2g}×{reach} changes the NE by {_effect(step)}."


def _effect(step: Step) -> str:
    change = step.ne_change
    estimate, low, high = map(signed_percent, (change.estimate, change.low, change.high))
    interval = f"({100 * LEVEL:.0f} % interval {low} to {high} %)"
    return f"{estimate} % {interval} at {step.compute_factor:.2g}× training compute"


def signed_percent(share: float) -> str:
    """A share in per cent, with a sign unless it rounds to nothing."""
    rounded = round(100 * share, 2)
    return f"{rounded:+.2f}".replace("-", "−") if rounded else "0.00"
