"""A whole study: points in, curves and advice out."""

import dataclasses
import json
from collections.abc import Sequence

from features.places import Place
from training.experiments.scaling.advice import Advice, Current, advise
from training.experiments.scaling.curve import Curve, curves_of
from training.experiments.scaling.points import Point


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


def read_current(path: Place) -> Current:
    """The production model from a JSON object with ``Current``'s fields.

    Raises:
        ValueError: Naming the file and what is wrong in it.
    """
    try:
        return Current(**json.loads(path.read_text()))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from error
