"""Whether a version's quality is broken: shown to be outside its limits, not merely near them."""

import dataclasses
import math

from training.evaluation.findings import Verdict, kept
from training.monitoring.quality.figures import Figure, Figures


@dataclasses.dataclass(frozen=True, kw_only=True)
class QualityLimits:
    """The limits of what was served."""

    calibration: tuple[float, float] = (0.8, 1.25)
    """Bounds of the sum of scores over that of labels. Wider than the gate's: an interval of one
    day has the sample of its answers, and not what differs from day to day."""
    ne_margin: float = 0.05
    """Largest normalised entropy above the champion's at its training, as a share of that one."""
    most_ne: float = 1.0
    """Of the base rate, which needs no ranker."""
    min_requests: int = 100
    """Fewest judged answers of a day; of fewer nothing is said."""

    def __post_init__(self) -> None:
        """ValueError for limits that nothing, or everything, keeps."""
        low, high = self.calibration
        if not 0 < low < 1 < high:
            raise ValueError(f"calibration bounds: {low} to {high}; 1 is between them, 0 is not")
        if self.ne_margin < 0:
            raise ValueError(f"ne_margin: {self.ne_margin}; at least 0")

    def highest_ne(self, champion_ne: float | None) -> float:
        """The largest NE that is allowed, given the champion's at its training, if known."""
        if champion_ne is None:
            return self.most_ne
        return min(self.most_ne, champion_ne * (1 + self.ne_margin))


@dataclasses.dataclass(frozen=True)
class Judged:
    """What is said of a version's day."""

    is_broken: bool | None
    """None: not known, as labels are not final or answers are too few."""
    reason: str


def judge(
    figures: Figures,
    limits: QualityLimits,
    *,
    requests: int,
    champion_ne: float | None,
    bad_scores: int = 0,
) -> Judged:
    """Whether figures of final labels are shown to be outside the limits.

    Args:
        figures: Of one version and day.
        limits: The limits.
        requests: Answers that were judged.
        champion_ne: The normalised entropy of the champion at its training; None: not known.
        bad_scores: Rows whose score is no probability, of which one is too many.
    """
    if bad_scores:
        return Judged(True, f"scores: {bad_scores:,} rows are no probabilities; none may be")
    if requests < limits.min_requests:
        return Judged(
            None, f"requests: {requests:,} with final labels; at least {limits.min_requests:,}"
        )
    highest = limits.highest_ne(champion_ne)
    found = [_of_calibration(figures["calibration"], limits), _of_ne(figures["ne"], highest)]
    broken = [text for verdict, text in found if verdict is Verdict.REFUSE]
    if broken:
        return Judged(True, "; ".join(broken))
    text = "; ".join(text for _, text in found)
    return Judged(None if _unknown(figures) else False, text)


def _of_calibration(figure: Figure, limits: QualityLimits) -> tuple[Verdict, str]:
    low, high = _ends(figure)
    least, most = limits.calibration
    verdicts = kept(-high, -low, at_most=-least), kept(low, high, at_most=most)
    verdict = max(verdicts, key=list(Verdict).index)
    return verdict, f"calibration {words(figure)}; bounds {least:g} to {most:g}"


def _of_ne(figure: Figure, highest: float) -> tuple[Verdict, str]:
    return kept(*_ends(figure), at_most=highest), f"NE {words(figure)}; at most {highest:.4f}"


def _unknown(figures: Figures) -> bool:
    return not all(
        math.isfinite(end) for name in ("calibration", "ne") for end in _ends(figures[name])
    )


def _ends(figure: Figure) -> tuple[float, float]:
    low, high = figure["low"], figure["high"]
    return (math.nan if low is None else low), (math.nan if high is None else high)


def words(figure: Figure, places: int = 4) -> str:
    """A figure and its interval."""
    value, low, high = (
        "unknown" if one is None else f"{one:.{places}f}"
        for one in (figure["value"], figure["low"], figure["high"])
    )
    return f"{value} ({low} to {high})"
