"""The requests of experiments, as ``training.requests`` has those of a day."""

import datetime
import functools
from collections.abc import Collection
from typing import Literal

from features.options import OfDataset, OfDay, count, from_flags, option, whole
from features.places import Place
from training.experiments.daily.policies import POLICIES
from training.experiments.scaling.points import AXES
from training.recipes import recipe_name, recipe_of
from training.requests import (
    RECIPE_TEXT,
    OfRecipe,
    ReadsLake,
    Reports,
    Tracks,
    UsesCompiled,
    UsesStudy,
)


def _names(what: str, known: Collection[str], text: str) -> tuple[str, ...]:
    """``compute,data`` as known names; one that is there twice counts once."""
    names = tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{unknown}: {what} are {sorted(known)}")
    return names


@from_flags
class ExportBenchRequest(UsesCompiled, OfDataset):
    """Measure what scoring a request costs.

    Milliseconds eager and native, with tables of each precision, compared with the machine's
    limit; `make bench-export` has the loss in NE too.
    """

    recipes: tuple[str, ...] = option(
        "whose dense parts", metavar="RECIPE", default=("wukong-small", "wukong-small-x3")
    )

    def __post_init__(self) -> None:
        """ValueError for a recipe that there is not."""
        for name in self.recipes:
            recipe_of(name)


@from_flags
class BacktestRequest(OfRecipe, OfDay, ReadsLake):
    """Predict the last days one by one, compared with simple baselines."""

    days: int = option("days to predict, to --date", default=28)


@from_flags
class DailyRequest(Reports, OfRecipe, OfDay, ReadsLake):
    """Compare what a daily run may do, and say what the age of a model costs.

    Rates, passes, batches, replay, recalibration, from scratch, never: each policy predicts the
    last days one by one, and then learns them in its way.
    """

    days: int = option("days to predict, to --date", parse=count, default=28)
    seeds: int = option("runs of each policy", parse=count, default=3)
    policies: tuple[str, ...] = option(
        "besides the recipe's own, with commas between (else all)",
        metavar="NAMES",
        parse=functools.partial(_names, "policies", POLICIES),
        default=tuple(POLICIES),
    )


@from_flags
class GrowthRequest(UsesStudy, OfRecipe, ReadsLake):
    """Compare growing a ranker with training the large one from scratch.

    Loss against training FLOPs over one pass of the lake's days, each budget with its own decay,
    for the small, the large, and the small one grown halfway; and how many days until the grown one
    is better than the un-grown. The same command goes on where it stopped. `make bench-growth`
    runs it for width and for depth.
    """

    target: str = option(
        "what to grow to",
        flag="--to",
        parse=recipe_name,
        metavar="RECIPE",
        default="wukong-small-w2",
    )
    operator: Literal["exact", "fresh-head"] = option("how to grow", default="exact")
    batch_size: int = option("of every run", parse=count, default=512)
    seeds: int = option("runs of each", parse=count, default=3)
    share: float = option(
        "of the log, what the large ranker sees from scratch; a grown one of the same compute sees "
        "up to half as much again",
        default=0.65,
    )
    trials: int = option(
        "rates of tables, and of the dense part, to try at most for each ranker; 0: no search",
        parse=whole,
        default=9,
    )


@from_flags
class ScalingRequest(Reports, Tracks, UsesStudy, ReadsLake):
    """Run the points of a scaling law: one resource at a time, one pass over the lake's days.

    Every size has the learning rate that validation days choose. Logs the estimated time first and
    keeps to the budget; the same command goes on where it stopped. Then fits a law to all points of
    the data set, writes its page, and says what to grow next, which `upscale --to advice` takes as
    its target.
    """

    recipe: str | None = option(
        f"{RECIPE_TEXT} (else the champion's, or the usual one)",
        parse=recipe_name,
        metavar="RECIPE",
        default=None,
    )
    axes: tuple[str, ...] = option(
        "the resource that grows, or several one after the other: compute (Wukong's ladder), "
        "data, dense (all MLPs), depth (Wukong's layers), dim (embedding width), overarch (the MLP "
        "behind the interactions), rows (of the tables)",
        flag="--axis",
        parse=functools.partial(_names, "axes", AXES),
        metavar="AXIS[,AXIS]",
    )
    points: int = option("sizes of it; at least 5", parse=count, default=5)
    seeds: int = option("runs of each size", parse=count, default=3)
    budget: float = option("of this call", metavar="MINUTES", default=60.0)
    batch_size: int = option("of every run", parse=count, default=512)
    date: datetime.date | None = option("last day to use (else the newest)", default=None)


@from_flags
class LawRequest(Reports):
    """Say what to grow next from points that were run.

    Fits the NE against each resource, with and without a floor, and writes one page, with law.json
    in the same folder; docs/scaling.md has the format of the points and how the fit works.
    """

    points: Place = option("JSON lines, one run each", metavar="FILE")
    current: Place | None = option(
        "JSON of the production model: name, model, x by axis, ne (else each axis's last run)",
        metavar="FILE",
        default=None,
    )


@from_flags
class SpeedRequest:
    """Measure the training speed of a fixed configuration.

    Full steps on all threads, or on the GPU, as a share of the best matrix product there; `make
    bench-train` runs both.
    """

    configuration: Literal["A", "B"] = option("which one")
    compile: bool = option("compile the dense part", default=False)
    profile: bool = option("print the operators instead", default=False)
    ranks: int | None = option(
        "processes (else one a CUDA device; 1 on a CPU, whose cores they share)",
        parse=count,
        default=None,
    )
