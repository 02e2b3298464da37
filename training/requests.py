"""The requests of ``python -m training``: the flags of each command, and what it is for.

Those that change nothing which serves are in ``training.experiments.requests``.
"""

import dataclasses
import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from features.options import OfDataset, count, folder, from_flags, local_folder, option, whole
from features.places import Place
from training.checkpoint.catalog import CONTROL, GROWN, IMMATURE
from training.config.recipe import DenseParallelism, Precision, Recipe
from training.recipes import RECIPES, USUAL, recipe_name
from training.registry.aliases import ANCHOR_DAYS

_Config = TypeVar("_Config", bound=Any)

PROBE = "probe"
"""As a growth's operator: the one that is better after some steps of each."""
ADVICE = "advice"
"""As a growth's target: what the newest scaling study recommends."""
RECIPE_TEXT = (
    f"what to train, and how: {', '.join(sorted(RECIPES))}; -x2 to -x9 behind one of Wukong's "
    "scales it up, -l2 to -l9 its layers alone, -w2 to -w9 its width"
)


def growth_target(text: str) -> str:
    """A recipe's name, how many times the source's size, or ``ADVICE``."""
    is_relative = text == ADVICE or (text in "23456789" and len(text) == 1)
    return text if is_relative else recipe_name(text)


@from_flags
class OfRecipe:
    """A request about one recipe."""

    recipe: str = option(RECIPE_TEXT, parse=recipe_name, metavar="RECIPE", default=USUAL)


@from_flags
class ReadsLake(OfDataset):
    """A request that reads the examples of a data set."""

    lake: Place = folder("lake", "the Parquet tables")


@from_flags
class Tracks:
    """A request whose runs and versions MLflow has."""

    tracking: Path = local_folder("mlflow", "the MLflow database")


@from_flags
class Reports:
    """A request that ends in a page."""

    reports: Place = folder("reports", "where pages are written")


@from_flags
class UsesStudy:
    """A request about scaling studies."""

    study: Place = folder("scaling", "the runs and points of scaling studies")


@from_flags
class UsesCompiled:
    """A request that reads or writes native code."""

    compiled: Path = local_folder(
        "compiled", "native code of this machine, which only this user may write"
    )


@from_flags
class OfCheckpoints:
    """A request about the checkpoints."""

    checkpoints: Place = folder("checkpoints", "the training checkpoints")


@from_flags
class OfArtifacts:
    """A request about the exported rankers."""

    artifacts: Place = folder("artifacts", "the exported rankers")


@from_flags
class _HoldsOut:
    holdout_days: int | None = option(
        "newest days not to train on (else the schema's)", default=None
    )


@from_flags
class ChangesRecipe:
    """A request that says how to train otherwise than the recipe does."""

    batch_size: int | None = option("of all ranks (else the recipe's)", parse=count, default=None)
    dense_parallelism: DenseParallelism | None = option(
        "auto: whole on every rank (ddp) while it fits, else in pieces (else the recipe's)",
        default=None,
    )

    def changed(self, recipe: Recipe) -> Recipe:
        """A recipe with what the request says otherwise."""
        return dataclasses.replace(
            recipe,
            training=_replaced(recipe.training, batch_size=self.batch_size),
            sharding=_replaced(recipe.sharding, dense_parallelism=self.dense_parallelism),
        )


@from_flags
class TrainRequest(ChangesRecipe, _HoldsOut, Reports, Tracks, OfCheckpoints, ReadsLake):
    """Train the candidate of a day, warm from the last checkpoint."""

    date: datetime.date = option("day of the run, YYYY-MM-DD")
    recipe: str | None = option(
        f"{RECIPE_TEXT}; else that of --from, of this day's earlier run, of the champion, or "
        f"{USUAL}, in this order",
        parse=recipe_name,
        metavar="RECIPE",
        default=None,
    )
    source: str | None = option(
        "what to go on from (else the newest that fits)",
        flag="--from",
        metavar="CHECKPOINT",
        default=None,
    )
    changed_since: datetime.date | None = option("first day to learn again", default=None)
    trial: str | None = option(
        "train for a comparison, in addition to the day's own run: what grew, or what did not",
        choices=(GROWN, CONTROL),
        default=None,
    )
    immature: bool = option(
        "go on from the day's own checkpoint, on rows whose label is not final, corrected as the "
        "schema says",
        default=False,
    )
    ranks: int | None = option(
        "processes (else one a CUDA device; on a CPU 2, or 1 where there is one core)",
        parse=count,
        default=None,
    )
    epochs: int | None = option("passes (else the recipe's)", parse=count, default=None)
    precision: Precision | None = option("of the dense part (else the recipe's)", default=None)
    checkpoint_steps: int | None = option(
        "steps that a kill may cost; 0: all of them (else the recipe's)", default=None
    )
    examples_version: int | None = option("of the examples (else the newest)", default=None)
    id_log: Path | None = option("for the ids of each step's rows", metavar="DIR", default=None)

    def __post_init__(self) -> None:
        """ValueError for a trial of no checkpoint, or two that say what to go on from."""
        if self.trial and not self.source:
            raise ValueError(f"trial {self.trial}: no --from; a trial names what it goes on from")
        if self.immature and (self.source or self.recipe):
            raise ValueError("--immature: not with --from or --recipe; the day's own are taken")
        if self.changed_since and (self.source or self.immature):
            raise ValueError(f"--changed-since {self.changed_since}: not with --from or --immature")

    @property
    def role(self) -> str:
        """Of the checkpoint to be."""
        return IMMATURE if self.immature else self.trial or ""

    def changed(self, recipe: Recipe) -> Recipe:
        """A recipe with what the request says otherwise."""
        recipe, epochs = super().changed(recipe), self.epochs
        training = _replaced(
            recipe.training, cold_epochs=epochs, warm_epochs=epochs, precision=self.precision
        )
        return dataclasses.replace(recipe, training=training)


@from_flags
class UpscaleRequest(_HoldsOut, UsesStudy, Tracks, OfCheckpoints, ReadsLake):
    """Grow a checkpoint into a larger Wukong.

    More layers, embeddings, rank and wider or deeper MLPs keep what was trained, tables and moments
    included; before it is written, its logits are compared with the parent's on the newest
    examples. Exactly, it computes the same; with a fresh head, for more layers, it does not. The
    next `train --recipe TARGET` goes on from it. With --date, an older checkpoint of
    the source's family grows, one that leaves days to train on.
    """

    source: str = option(
        "its folder's name, or champion or challenger", flag="--from", metavar="CHECKPOINT"
    )
    target: str = option(
        "a recipe such as wukong-small-x2, or 2 to 9: so many times the source's",
        flag="--to",
        parse=growth_target,
        metavar="TARGET",
    )
    date: datetime.date | None = option("day of the run that will train it on", default=None)
    operator: Literal["exact", "fresh-head", "probe"] = option(
        "exact: it computes what its parent does; fresh-head, for more layers: the new ones are no "
        "identity and the head begins anew, so that it has to be trained before it is any good; "
        "probe, with --date: the one with the lower loss after 200 steps on the days to train on",
        default="exact",
    )
    budget_days: int = option("with --date: most days to train on", parse=count, default=14)

    def __post_init__(self) -> None:
        """ValueError for a probe without days."""
        if self.operator == PROBE and self.date is None:
            raise ValueError("operator: probe; needs --date, which says on which days to try")


@from_flags
class ExportRequest(UsesCompiled, Tracks, OfArtifacts, OfCheckpoints, ReadsLake):
    """Make a checkpoint an artifact and register it."""

    date: datetime.date | None = option(
        "day whose checkpoint; with immature rows, where the day has one", default=None
    )
    checkpoint: str | None = option("else its folder's name", metavar="CHECKPOINT", default=None)
    tables: Literal["fp32", "int8", "int4"] = option(
        "numbers of the embedding tables; the summary has the cost of each", default="int8"
    )

    def __post_init__(self) -> None:
        """ValueError unless one checkpoint is named."""
        if self.date and self.checkpoint:
            raise ValueError("argument --checkpoint: not allowed with argument --date")
        if not self.date and not self.checkpoint:
            raise ValueError("one of the arguments --date --checkpoint is required")


@from_flags
class CompileRequest(UsesCompiled):
    """Compile an artifact's dense part for this machine.

    A server does it by itself when it loads an architecture that it has not met; done before, the
    load is quick. The code has no weights in it, and serves every artifact of the same
    architecture.
    """

    artifact: Place = option("folder of one artifact", metavar="DIR")


@from_flags
class EvaluateRequest(Reports, Tracks, OfArtifacts, OfCheckpoints, ReadsLake):
    """Judge a day's candidate; the gate.

    It says promote when log loss, GAUC, calibration and slices are shown to be within their limits
    against the champion and an older one, the anchor; refuse when one is shown to be beyond; hold
    when the days cannot tell. With --candidate and --control, judge a ranker that grew: it must be
    shown to be better than the champion and than the one that did not grow. docs/training.md has
    the limits.
    """

    date: datetime.date = option("last day of the holdout, YYYY-MM-DD")
    drill: Literal["spoilt"] | None = option("spoil the candidate on purpose", default=None)
    candidate: str | None = option("else the day's newest", metavar="VERSION", default=None)
    control: str | None = option("the un-grown one of a trial", metavar="VERSION", default=None)
    anchor_days: int = option(
        "compare with who was champion so many days before, too; 0: do not",
        parse=whole,
        metavar="DAYS",
        default=ANCHOR_DAYS,
    )
    first: bool = option(
        "where nothing serves yet: let a candidate through that is shown to beat the base rate, "
        "even if there are too few rows to judge its calibration or a slice",
        default=False,
    )
    no_gauc: bool = option(
        "do not compare GAUC: for logs in which hardly any user has both labels", default=False
    )

    def __post_init__(self) -> None:
        """ValueError for one of a trial's two versions without the other."""
        if bool(self.candidate) != bool(self.control):
            raise ValueError(
                f"candidate {self.candidate!r}, control {self.control!r}; a trial has both"
            )


def _replaced(config: _Config, **changes: object) -> _Config:
    """A configuration with those of the changes that are not None."""
    known = {name: value for name, value in changes.items() if value is not None}
    replaced: _Config = dataclasses.replace(config, **known)
    return replaced
