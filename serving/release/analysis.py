"""Whether a canary does as well as the control, by what both did at the same time.

Each check is a figure and what is allowed of it. A check is *broken* when the figure's whole
interval is outside, *kept* when all of it is inside, and *open* in between. A step is passed only
when every check is kept: that nothing was found against a canary is no proof.
"""

import dataclasses
import enum
import math
from collections.abc import Callable, Iterator, Mapping

from features.options import from_flags, option
from serving.release import intervals
from serving.release.intervals import Interval
from serving.release.metrics_window import Observation, Pairs

P95 = 0.95
FEWEST_REQUESTS = 100
"""Below it no interval of a 95th percentile has an upper end."""
EARLY_LOOKS, LATE_LOOKS = 6, 2
"""Looks before and after the one at ``min_requests``, each at twice the requests of the last."""
_NUM_STEPS, _NUM_SIDES = 4, 7
_CHANCE_BROKEN = 0.05 / (_NUM_STEPS * _NUM_SIDES)
"""Of sending back a canary that equals its control, in all steps and checks together: 5 %."""
_CHANCE_KEPT = 0.05
"""Of passing a check at one step with a figure that lies on its limit."""
_HIGHEST_SCORE, _HIGHEST_RATIO, _HIGHEST_DISTANCE = 1.0, 2.0, 2.0
_SCORE_RATIO, _RANK_CORRELATION = 1.0, 0.2
"""Limits where neither the command nor the gate knows better."""
_SHARE_OF_CORRELATION = 0.5
"""Of the rank correlation on the days held out, which callers' candidates need not reach."""
_LEAST_CORRELATION = 0.02
"""Below it an order is none: it could be chance."""
_LEAST_ORDERED = 0.1
"""Share of pairs with two candidates or more, below which the order is not checked."""


class State(enum.StrEnum):
    """Of a check or of a step."""

    KEPT = "kept"
    OPEN = "open"
    BROKEN = "broken"


@from_flags
class Limits:
    """What a canary must keep at each step, and how long it may take.

    ``min_requests`` are those of each version, at which a step is judged; what is open then is
    looked at again at twice and at four times as many. ``expected_score_ratio`` and
    ``min_rank_correlation`` are between the canary and the control; the gate has seen what they are
    on the days held out.
    """

    min_requests: int = option("requests of each model at each step, at least 100", default=2_000)
    max_error_rate_increase: float = option(
        "failed share of requests above the stable model's", default=0.005
    )
    max_degraded_increase: float = option(
        "degraded share of requests above the stable model's", default=0.05
    )
    max_p95_ratio: float = option("p95 as a multiple of the stable model's", default=1.25)
    max_score_change: float = option(
        "share by which the mean score may be off from what is expected", default=0.1
    )
    expected_score_ratio: float | None = option(
        "mean score over the stable model's; without it what the gate saw on the days held out, "
        f"or {_SCORE_RATIO:g}",
        default=None,
    )
    max_score_psi: float = option(
        "population stability index between the mean scores of requests, on a cluster", default=0.25
    )
    min_rank_correlation: float | None = option(
        "with the stable model's scores within a request, on the local server; without it half of "
        f"what the gate saw, or {_RANK_CORRELATION:g}",
        default=None,
    )
    step_timeout_seconds: float = option(
        "a step without enough requests fails after this", default=3_600.0
    )
    ready_timeout_seconds: float = option(
        "a canary that is not ready fails after this", default=900.0
    )

    def __post_init__(self) -> None:
        """ValueError for limits under which every canary fails or none can."""
        for field in dataclasses.fields(Limits):
            value = getattr(self, field.name)
            if value is not None and (not math.isfinite(value) or value <= 0):
                raise ValueError(f"{field.name}: {value}; a finite number above 0")
        if self.min_requests < FEWEST_REQUESTS:
            raise ValueError(
                f"min_requests: {self.min_requests}; at least {FEWEST_REQUESTS}, below which "
                "nothing can be shown of a 95th percentile"
            )
        if self.max_p95_ratio <= 1:
            raise ValueError(f"max_p95_ratio: {self.max_p95_ratio}; above 1")
        for name in ("max_score_change", "min_rank_correlation"):
            if (getattr(self, name) or 0) >= 1:
                raise ValueError(f"{name}: {getattr(self, name)}; below 1")

    def requests_of(self, look: int) -> int:
        """Requests of each version at which a look is due."""
        return math.ceil(self.min_requests * 2.0 ** (look - EARLY_LOOKS))

    def with_agreement(self, agreement: Mapping[str, float | None] | None) -> "Limits":
        """These limits; what none was given for, from the days held out.

        Args:
            agreement: How candidate and champion agreed there, of the gate's decision; None where
                it did not compare them.
        """
        found = agreement or {}
        correlation = found.get("rank_correlation")
        if correlation is not None:
            correlation = max(_SHARE_OF_CORRELATION * correlation, _LEAST_CORRELATION)
        return dataclasses.replace(
            self,
            expected_score_ratio=self.expected_score_ratio or found.get("score_ratio"),
            min_rank_correlation=self.min_rank_correlation or correlation,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One check at one look."""

    check: str
    state: State
    seen: Interval
    allowed: tuple[float, float]

    def __str__(self) -> str:
        """The sentence of an error."""
        value, low, high = (_text(number) for number in self.seen.as_tuple())
        least, most = (_text(number) for number in self.allowed)
        # A figure that nothing is known of has no middle.
        found = f"{value} ({low} to {high})" if math.isfinite(self.seen.value) else "not known"
        limits = [f"at least {least}"] if math.isfinite(self.allowed[0]) else []
        limits += [f"at most {most}"] if math.isfinite(self.allowed[1]) else []
        return f"{self.check}: {found}; {' and '.join(limits)}"

    def to_dict(self) -> dict[str, object]:
        """As plain values; what is not finite is None, which JSON has."""
        value, low, high = (plain(number) for number in self.seen.as_tuple())
        least, most = (plain(number) for number in self.allowed)
        return {
            **{"check": self.check, "state": self.state.value, "value": value},
            **{"low": low, "high": high, "at_least": least, "at_most": most},
        }


def judge(canary: Observation, control: Observation, *, limits: Limits, look: int) -> list[Finding]:
    """Every check at a look.

    Args:
        canary: What the canary did since the step began.
        control: What the control did in the same time.
        limits: What is allowed.
        look: Which look of the step it is, from 0.
    """
    broken = intervals.deviations(_CHANCE_BROKEN, look=look)
    # Nothing is passed before there are enough requests, so no chance is spent on it either.
    is_due = look >= EARLY_LOOKS
    kept = intervals.deviations(_CHANCE_KEPT, look=look - EARLY_LOOKS) if is_due else math.inf
    return [
        _finding(name, allowed, figure, broken=broken, kept=kept)
        for name, allowed, figure in _checks(canary, control, limits)
    ]


Figure = Callable[[float], Interval]
"""An interval of so many standard deviations on each side."""
_Check = tuple[str, tuple[float, float], Figure]


def _checks(canary: Observation, control: Observation, limits: Limits) -> Iterator[_Check]:
    most = (-math.inf, limits.max_error_rate_increase)
    yield "error rate above the control's", most, _shares(canary, control, "num_failed")
    most = (-math.inf, limits.max_degraded_increase)
    yield "degraded share above the control's", most, _shares(canary, control, "num_degraded")
    yield (
        *("p95 over the control's", (-math.inf, limits.max_p95_ratio)),
        lambda z: _ratio(
            *(intervals.quantile(seen.seconds, P95, z=z) for seen in (canary, control))
        ),
    )
    expected, change = limits.expected_score_ratio or _SCORE_RATIO, limits.max_score_change
    ratio = (expected * (1 - change), expected * (1 + change))
    if canary.pairs is None:
        yield from _unpaired(canary, control, limits, ratio)
    else:
        yield from _paired(canary.pairs, limits, ratio)


def _unpaired(
    canary: Observation, control: Observation, limits: Limits, allowed: tuple[float, float]
) -> Iterator[_Check]:
    """Of the scores where each version has other requests, dealt out by chance."""
    yield (
        *("mean score over the control's", allowed),
        lambda z: _ratio(
            *(
                intervals.mean(seen.scores, highest=_HIGHEST_SCORE, z=z)
                for seen in (canary, control)
            )
        ),
    )
    most = (-math.inf, limits.max_score_psi)
    yield (
        *("PSI of the mean scores of requests", most),
        lambda z: intervals.stability_index(canary.scores, control.scores, z=z),
    )


def _paired(pairs: Pairs, limits: Limits, allowed: tuple[float, float]) -> Iterator[_Check]:
    """Of the scores where both versions have scored the same requests."""
    yield (
        *("mean score over the control's for the same requests", allowed),
        lambda z: intervals.mean(pairs.score_ratios, highest=_HIGHEST_RATIO, z=z),
    )
    num_pairs, num_ordered = (
        sum(histogram.counts) for histogram in (pairs.score_ratios, pairs.rank_distances)
    )
    # Requests of one candidate have no order that could be lost.
    if num_ordered >= num_pairs * _LEAST_ORDERED:

        def correlation(z: float) -> Interval:
            found = intervals.mean(pairs.rank_distances, highest=_HIGHEST_DISTANCE, z=z)
            return Interval(1 - found.value, 1 - found.high, 1 - found.low)

        least = (limits.min_rank_correlation or _RANK_CORRELATION, math.inf)
        yield "rank correlation with the control within a request", least, correlation


def _ratio(one: Interval, other: Interval) -> Interval:
    return intervals.difference(one.log(), other.log()).exp()


def _shares(canary: Observation, control: Observation, count: str) -> Figure:
    return lambda z: intervals.difference(
        *(
            intervals.share(getattr(seen, count), seen.num_requests, z=z)
            for seen in (canary, control)
        )
    )


def _finding(
    name: str, allowed: tuple[float, float], figure: Figure, *, broken: float, kept: float
) -> Finding:
    least, most = allowed
    seen, state = figure(broken), State.OPEN
    if seen.low > most or seen.high < least:
        state = State.BROKEN
    elif math.isfinite(kept):
        seen = figure(kept)
        state = State.KEPT if least <= seen.low and seen.high <= most else State.OPEN
    return Finding(check=name, state=state, seen=seen, allowed=allowed)


def _text(number: float) -> str:
    return f"{number:.4g}"


def plain(number: float) -> float | None:
    """As JSON has it, to six digits; None for what is not finite."""
    return round(number, 6) if math.isfinite(number) else None
