"""What a training comes from: a day's recipe, the parent that was named, the one that grows."""

import datetime
import logging
from typing import TYPE_CHECKING

from features.cli import SkippedError
from features.schema import Schema
from training.checkpoint.catalog import GROWN, IMMATURE, Checkpoint, Checkpoints
from training.config.recipe import Recipe
from training.recipes import USUAL
from training.registry.aliases import CHALLENGER, CHAMPION

if TYPE_CHECKING:
    # Its import is slow, and a training whose recipe is named does not need it.
    from training.registry.mlflow_registry import Registry

logger = logging.getLogger(__name__)

ALIASES = (CHAMPION, CHALLENGER)


def holdout_start(schema: Schema, run_day: datetime.date, *, days: int | None) -> datetime.date:
    """Last day to train on: the run's day less the holdout, of so many days or the schema's."""
    days = schema.holdout_days if days is None else days
    if days < 0:
        raise ValueError(f"holdout_days: {days}; at least 0")
    return run_day - datetime.timedelta(days=days)


def recipe_of_day(checkpoints: Checkpoints, registry: "Registry", day: datetime.date) -> str:
    """Name of the recipe that a day's run trains where none is asked for.

    A day that is run again trains what it trained before. Else the champion's recipe, so that the
    days after a promotion go on from a champion that has grown; the usual one when there is no
    champion, or when it is no older than the day.
    """
    before = checkpoints.find(day.isoformat())
    version = registry.alias(CHAMPION)
    champion = registry.version(version) if version else None
    if before is not None:
        name, why = before.recipe_name, f"as the run of {day} before this one"
    elif champion is not None and champion.recipe and champion.day < day:
        name, why = champion.recipe, f"that of the champion {champion.version}"
    else:
        name, why = USUAL, "the usual one: no champion of an earlier day"
    logger.info("recipe %s, %s", name, why)
    return name


def check_parent(
    checkpoints: Checkpoints, name: str, *, recipe: Recipe, through: datetime.date
) -> None:
    """ValueError unless training with a recipe, to ``through``, can go on from a checkpoint."""
    found = checkpoints.named(name)
    checkpoints.adoption_from(found)
    if found.manifest.role == IMMATURE:
        limit = f"its labels were not final; go on from {found.manifest.parent}"
        raise ValueError(f"checkpoint {name}: {limit}")
    if found.manifest.model_fingerprint != recipe.model_fingerprint():
        raise ValueError(f"checkpoint {name}: of {found.recipe_name}, no parent of {recipe.name}")
    if found.trained_through >= through:
        raise ValueError(
            f"checkpoint {name}: trained through {found.trained_through}; must be before {through}"
        )
    found.verify()


def check_mature(
    checkpoints: Checkpoints,
    day: datetime.date,
    *,
    through: datetime.date,
    holdout_days: int | None,
) -> None:
    """Refuse a day's own checkpoint as the parent of its immature rows.

    Raises:
        ValueError: It is not there, is damaged, has learnt days that are held out; or
            ``holdout_days`` is not the schema's, which says which rows ``examples`` writes.
    """
    declared = checkpoints.schema.holdout_days
    if holdout_days not in {None, declared}:
        limit = f"{declared}, as the schema says: immature rows begin where those days do"
        raise ValueError(f"--holdout-days {holdout_days}: with --immature {limit}")
    own = checkpoints.named(str(day))
    if own.trained_through > through:
        limit = f"at most {through}; the days after it are held out"
        raise ValueError(f"checkpoint {day}: trained through {own.trained_through}; {limit}")
    own.verify()


def checkpoint_of_alias(
    checkpoints: Checkpoints, registry: "Registry", alias: str, *, day: datetime.date | None
) -> Checkpoint:
    """The checkpoint behind an alias; of one with immature rows, that of the mature ones alone.

    Raises:
        ValueError: Nothing has the alias, or the checkpoint is gone.
        SkippedError: A trial of ``day`` has grown it already.
    """
    version = registry.alias(alias)
    if version is None:
        raise ValueError(f"alias {alias}: on no version of {registry.name}; promote one first")
    known = registry.version(version)
    if known.role == GROWN and day is not None and known.day >= day:
        raise SkippedError(f"{alias} {version} has grown on {known.day}; a day after it may go on")
    if known.role == IMMATURE and checkpoints.find(known.checkpoint) is None:
        # Its day was trained again; the day's own checkpoint is what others go on from anyway.
        return checkpoints.named(str(known.day))
    found = checkpoints.named(known.checkpoint)
    below = found.manifest.parent if found.manifest.role == IMMATURE else None
    return checkpoints.named(below) if below else found


def rewound(
    start: Checkpoint, among: Checkpoints, *, through: datetime.date, days: int
) -> Checkpoint:
    """The oldest of a checkpoint's family that leaves 1 to ``days`` days to train on.

    Members of the family that have another model, or read another schema, do not count.

    Raises:
        ValueError: None leaves so many; the message has the days that each leaves.
        CorruptError: Its files are damaged.
    """
    names = {*start.manifest.family, start.name}
    family = [
        found
        for found in among.all()
        if found.name in names
        and found.manifest.model_fingerprint == start.manifest.model_fingerprint
        and found.manifest.schema_fingerprint == among.schema.fingerprint()
        and found.manifest.role != IMMATURE
    ]
    left = {found.name: (through - found.trained_through).days for found in family}
    fitting = [found for found in family if 1 <= left[found.name] <= days]
    if not fitting:
        raise ValueError(
            f"family of {start.name}: no checkpoint leaves 1 to {days} days to train on up to "
            f"{through}; days left by each: {left}. Run it for a later day, or raise the budget"
        )
    chosen = max(fitting, key=lambda found: left[found.name])
    chosen.verify()
    logger.info("%s leaves %d days up to %s", chosen.name, left[chosen.name], through)
    return chosen
