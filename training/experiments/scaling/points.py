"""The points of a scaling study: one finished run each, a JSON line each."""

import dataclasses
import json
import math
from collections.abc import Iterable

from features.places import Place
from training.experiments.journal import append_lines, whole_lines

MIN_POINTS = 5
"""Different amounts of a resource that a law needs: with a floor it has three parameters."""


@dataclasses.dataclass(frozen=True)
class Axis:
    """A resource that is grown while the others are held."""

    title: str
    step: str
    """What a person does to grow it; ``{factor}`` is filled in."""


AXES = {
    "data": Axis("Data", "train on {factor}× the examples"),
    "rows": Axis("Rows per table", "give the tables {factor}× the rows"),
    "dim": Axis("Embedding width", "make the embeddings {factor}× as wide"),
    "overarch": Axis("Over-arch", "make the over-arch {factor}× as wide"),
    "dense": Axis("All MLPs", "make all MLPs {factor}× as wide"),
    "depth": Axis("Depth", "stack {factor}× the layers"),
    "compute": Axis(
        "Wukong's ladder", "climb Wukong's ladder to {factor}× the compute of an example"
    ),
}
"""Every resource by its name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """One run: how much of a resource it had, and how well it predicts the days after.

    Raises:
        ValueError: Naming the field, the value and the limit.
    """

    axis: str
    """The resource that was varied; one of ``AXES``."""
    model: str
    """The family of rankers, such as wukong; each has a curve of its own on an axis."""
    x: float
    """How much of the resource, in ``unit``."""
    unit: str
    ne: float
    """Normalised entropy on the days after the training's last."""
    log_loss: float
    """On the same rows, in nats."""
    seed: int
    dense_flops_per_example: float
    """Of training, 6 × MACs of the dense part."""
    training_flops: float
    """Of the whole run."""
    examples: int
    """That were trained on."""
    learning_rate: float
    """Of the dense part."""
    tables_learning_rate: float | None = None
    recipe: str | None = None
    """A name that ``training.recipes`` knows, where the run's size has one."""
    key: str
    """Hash of the code and the configuration behind the run."""

    def __post_init__(self) -> None:
        if self.axis not in AXES:
            raise ValueError(f"axis: {self.axis!r}; one of {sorted(AXES)}")
        for name in ("x", "ne", "log_loss", "training_flops", "examples", "learning_rate"):
            require_positive(name, getattr(self, name))
        # A ranker may have no dense part.
        if self.dense_flops_per_example != 0:
            require_positive("dense_flops_per_example, if not 0", self.dense_flops_per_example)


def require_positive(name: str, value: object) -> None:
    """ValueError unless it is a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{name}: {value!r}; a finite number above 0")


def read_points(path: Place) -> list[Point]:
    """The points of a file, in its order; of a run that is there twice, the later one.

    Raises:
        ValueError: Naming the file, the line and what is wrong there.
    """
    runs: dict[tuple[str, str, float, int], Point] = {}
    for number, line in enumerate(whole_lines(path), start=1):
        try:
            if line.strip():
                point = Point(**json.loads(line))
                runs[point.axis, point.model, point.x, point.seed] = point
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
    return list(runs.values())


def append_points(path: Place, points: Iterable[Point]) -> None:
    """Add finished runs to a file."""
    append_lines(path, map(dataclasses.asdict, points))
