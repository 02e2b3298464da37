"""What several commands of the command line share: values that they read, and flags."""

import argparse
import dataclasses
import datetime
import re
from pathlib import Path

from training.checkpoint.catalog import CONTROL, GROWN
from training.config.recipe import DenseParallelism, Precision, Recipe
from training.experiments.scaling.points import AXES
from training.recipes import RECIPES, USUAL, recipe_of
from training.registry.aliases import ANCHOR_DAYS

_UNITS = {"KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}


def size_in_bytes(text: str) -> int:
    """``80GB`` as a number."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(KB|MB|GB|TB)", text, re.IGNORECASE)
    if not found or not float(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r}: a size such as 80GB or 512MB")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def count(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number, at least 1")
    return int(text)


def whole(text: str) -> int:
    """A whole number, 0 too."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number, at least 0")
    return int(text)


_RECIPES_HELP = (
    f"what to train, and how: {', '.join(sorted(RECIPES))}; -x2 to -x9 behind one of Wukong's "
    "scales it up"
)


def add_recipe(
    command: argparse.ArgumentParser, *, default: str | None = USUAL, otherwise: str = ""
) -> None:
    """Give a command its ``--recipe``; ``otherwise`` says what is taken where none is named."""
    text = f"{_RECIPES_HELP} (else {otherwise})" if otherwise else _RECIPES_HELP
    command.add_argument("--recipe", type=recipe_name, default=default, metavar="RECIPE", help=text)


def add_holdout(command: argparse.ArgumentParser) -> None:
    """Give a command its ``--holdout-days``."""
    command.add_argument(
        "--holdout-days", type=int, help="newest days not to train on (else the schema's)"
    )


def add_training(command: argparse.ArgumentParser) -> None:
    """Give a command what says how a day is trained."""
    add_holdout(command)
    command.add_argument(
        "--recipe",
        type=recipe_name,
        metavar="RECIPE",
        help=f"{_RECIPES_HELP}; else that of --from, of this day's earlier run, of the champion, "
        f"or {USUAL}, in this order",
    )
    command.add_argument(
        *("--from",),
        dest="source",
        metavar="CHECKPOINT",
        help="what to go on from (else the newest that fits)",
    )
    command.add_argument(
        "--trial",
        choices=(GROWN, CONTROL),
        help="train for a comparison, beside the day's own run: what grew, or what did not",
    )
    command.add_argument(
        "--ranks",
        type=count,
        help="processes (else one a CUDA device; on a CPU 2, or 1 where there is one core)",
    )
    command.add_argument("--batch-size", type=count, help="of all ranks (else the recipe's)")
    command.add_argument("--epochs", type=count, help="passes over the days (else the recipe's)")
    command.add_argument(
        "--precision", choices=list(Precision), help="of the dense part (else the recipe's)"
    )
    add_dense_parallelism(command)
    command.add_argument(
        "--checkpoint-steps",
        type=int,
        help="steps that a kill may cost; 0: all of them (else the recipe's)",
    )
    command.add_argument(
        "--id-log", type=Path, metavar="DIR", help="log the ids of every step's examples here"
    )
    command.add_argument("--mlflow-run", type=Path, help=argparse.SUPPRESS)
    command.add_argument("--result", type=Path, help=argparse.SUPPRESS)


def add_anchor(command: argparse.ArgumentParser, text: str) -> None:
    """Give a command its ``--anchor-days``."""
    command.add_argument(
        "--anchor-days", type=whole, default=ANCHOR_DAYS, metavar="DAYS", help=text
    )


def add_dense_parallelism(command: argparse.ArgumentParser) -> None:
    """Give a command its ``--dense-parallelism``."""
    command.add_argument(
        "--dense-parallelism",
        choices=list(DenseParallelism),
        help="auto: whole on every rank (ddp) while it fits, else in pieces (else the recipe's)",
    )


ADVICE = "advice"
"""As a growth's target: what the newest scaling study recommends."""


def growth_target(text: str) -> str:
    """A recipe's name, how many times the source's size, or ``ADVICE``."""
    is_relative = text == ADVICE or (text in "23456789" and len(text) == 1)
    return text if is_relative else recipe_name(text)


def axes(text: str) -> list[str]:
    """``compute,data`` as names of axes; a name that is there twice counts once."""
    names = list(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in AXES]:
        raise argparse.ArgumentTypeError(f"{unknown}: axes are {sorted(AXES)}")
    return names


day = datetime.date.fromisoformat


def recipe_name(name: str) -> str:
    """A name that ``recipe_of`` knows."""
    try:
        return recipe_of(name).name
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def chosen_recipe(options: argparse.Namespace) -> Recipe:
    """The recipe that was named, with what the command line says otherwise."""
    recipe = recipe_of(options.recipe)
    training = recipe.training
    if options.batch_size:
        training = dataclasses.replace(training, batch_size=options.batch_size)
    if options.epochs:
        epochs = options.epochs
        training = dataclasses.replace(training, cold_epochs=epochs, warm_epochs=epochs)
    if options.precision:
        training = dataclasses.replace(training, precision=Precision(options.precision))
    return with_parallelism(dataclasses.replace(recipe, training=training), options)


def with_parallelism(recipe: Recipe, options: argparse.Namespace) -> Recipe:
    """A recipe under another parallelism of its dense part, where one is named."""
    if not options.dense_parallelism:
        return recipe
    chosen = DenseParallelism(options.dense_parallelism)
    sharding = dataclasses.replace(recipe.sharding, dense_parallelism=chosen)
    return dataclasses.replace(recipe, sharding=sharding)
