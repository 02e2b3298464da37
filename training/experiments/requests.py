"""The requests of experiments and plans, as ``training.requests`` has those of a day."""

import dataclasses
import datetime
import re
from typing import Literal

from features.datasets.catalog import known
from features.options import OfDataset, OfDay, count, from_flags, option, whole
from features.places import Place
from training.distributed.accelerators import ACCELERATORS, Accelerator
from training.experiments.scaling.points import AXES
from training.recipes import recipe_of
from training.requests import (
    RECIPE_TEXT,
    ChangesRecipe,
    OfRecipe,
    ReadsLake,
    Reports,
    Tracks,
    UsesCompiled,
    UsesStudy,
    recipe_name,
)

_UNITS = {"KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}


def _axes(text: str) -> tuple[str, ...]:
    """``compute,data`` as names of axes; a name that is there twice counts once."""
    names = tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in AXES]:
        raise ValueError(f"{unknown}: axes are {sorted(AXES)}")
    return names


def _size_in_bytes(text: str) -> int:
    """``80GB`` as a number."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(KB|MB|GB|TB)", text, re.IGNORECASE)
    if not found or not float(found[1]):
        raise ValueError(f"{text!r}: a size such as 80GB or 512MB")
    return int(float(found[1]) * _UNITS[found[2].upper()])


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
class PlanRequest(ChangesRecipe, OfRecipe):
    """Print how a recipe's tables would be spread over devices, and what an epoch would take.

    The trainer plans with the same code; nothing is allocated, so that a plan for GPUs is made on a
    laptop.
    """

    dataset: str = option("whose tables", metavar="NAME", parse=known, default="movielens-100k")
    devices: Literal["cpu", "cuda"] = option("of the ranks", default="cuda")
    gpu: str | None = option(
        "whose memory and bandwidths, in hosts of 8 (else the planner's own)",
        choices=sorted(ACCELERATORS),
        default=None,
    )
    ranks: int = option("processes, one a device", parse=count, default=8)
    ranks_per_host: int | None = option(
        "that share fast links (else 8 with --gpu, else all)",
        parse=count,
        metavar="N",
        default=None,
    )
    hbm: int | None = option(
        "a device's memory, such as 80GB (else --gpu's)",
        parse=_size_in_bytes,
        metavar="SIZE",
        default=None,
    )
    ddr: int | None = option(
        "the host's memory for a rank", parse=_size_in_bytes, metavar="SIZE", default=None
    )
    hbm_bandwidth: int | None = option(
        "of a device and its memory in a second (else --gpu's)",
        parse=_size_in_bytes,
        metavar="SIZE",
        default=None,
    )
    nvlink_bandwidth: int | None = option(
        "to other devices of the host in a second (else --gpu's)",
        parse=_size_in_bytes,
        metavar="SIZE",
        default=None,
    )
    network_bandwidth: int | None = option(
        "to other hosts in a second, of each device (else --gpu's)",
        parse=_size_in_bytes,
        metavar="SIZE",
        default=None,
    )
    rows_times: int = option("plan for tables so many times as long", parse=count, default=1)
    rows: int | None = option(
        "plan for so many rows of all tables, or a few more (else --rows-times)",
        parse=count,
        default=None,
    )
    teraflops: float | None = option(
        "what a rank reaches on the dense part (else 58 % of --gpu's peak, else 20)", default=None
    )
    examples: int = option("of an epoch", parse=count, default=1_000_000_000)

    def __post_init__(self) -> None:
        """ValueError for a bandwidth of a device that is not named."""
        if self.gpu is None and (
            self.hbm_bandwidth or self.nvlink_bandwidth or self.network_bandwidth
        ):
            raise ValueError("gpu: none; a bandwidth replaces that of a device that --gpu names")

    def accelerator(self) -> Accelerator | None:
        """The device of the data sheets, with the bandwidths that the request has."""
        if self.gpu is None:
            return None
        names = ("hbm_bandwidth", "nvlink_bandwidth", "network_bandwidth")
        given = {name: value for name in names if (value := getattr(self, name))}
        return dataclasses.replace(ACCELERATORS[self.gpu], **given)


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
        "data, dense (all MLPs), dim (embedding width), overarch (the MLP behind the "
        "interactions), rows (of the tables)",
        flag="--axis",
        parse=_axes,
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
