"""What a training comes from: a day's recipe, the parent that was named, the one that grows."""

import argparse
import datetime
import logging
from typing import TYPE_CHECKING

from features.cli import SkippedError
from features.schema import Schema
from training.checkpoint.catalog import GROWN, Checkpoint, Checkpoints
from training.config.recipe import Recipe
from training.recipes import USUAL, recipe_of
from training.registry.aliases import CHALLENGER, CHAMPION

if TYPE_CHECKING:
    # Every rank imports this module for its days, and does not need MLflow.
    from training.registry.mlflow_registry import Registry

logger = logging.getLogger(__name__)

ALIASES = (CHAMPION, CHALLENGER)


def training_recipe(schema: Schema, options: argparse.Namespace) -> str:
    """Name of the recipe that ``train`` uses: the one asked for, the parent's, or the day's own."""
    checkpoints = Checkpoints(options.checkpoints, schema)
    if options.trial and not options.source:
        raise ValueError(f"trial {options.trial}: no --from; a trial names what it goes on from")
    if options.recipe:
        name = str(options.recipe)
    elif options.source:
        name = checkpoints.named(options.source).recipe_name
    else:
        from training.registry.mlflow_registry import Registry

        registry = Registry(options.tracking, schema.name)
        return recipe_of_day(checkpoints, registry, options.date)
    if options.source:
        through = holdout_start(schema, options)
        check_parent(checkpoints, options.source, recipe=recipe_of(name), through=through)
    return name


def growth_source(schema: Schema, options: argparse.Namespace) -> Checkpoint:
    """What ``upscale`` grows: the checkpoint that is named, or the one behind an alias.

    With ``options.date`` an older one of its family, so that there are days to train on.
    """
    checkpoints = Checkpoints(options.checkpoints, schema)
    if options.source in ALIASES:
        from training.registry.mlflow_registry import Registry

        registry = Registry(options.tracking, schema.name)
        found = checkpoint_of_alias(checkpoints, registry, options.source, day=options.date)
    else:
        found = checkpoints.named(options.source)
    if options.date is None:
        return found
    through = holdout_start(schema, options)
    return rewound(found, checkpoints, through=through, days=options.budget_days)


def holdout_start(schema: Schema, options: argparse.Namespace) -> datetime.date:
    """Last day to train on: the run's day less the holdout."""
    days = schema.holdout_days if options.holdout_days is None else options.holdout_days
    if days < 0:
        raise ValueError(f"holdout_days: {days}; at least 0")
    last: datetime.date = options.date - datetime.timedelta(days=days)
    return last


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
    if found.manifest.model_fingerprint != recipe.model_fingerprint():
        raise ValueError(f"checkpoint {name}: of {found.recipe_name}, no parent of {recipe.name}")
    if found.trained_through >= through:
        raise ValueError(
            f"checkpoint {name}: trained through {found.trained_through}; must be before {through}"
        )
    found.verify()


def checkpoint_of_alias(
    checkpoints: Checkpoints, registry: "Registry", alias: str, *, day: datetime.date | None
) -> Checkpoint:
    """The checkpoint behind an alias.

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
    return checkpoints.named(known.checkpoint)


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
