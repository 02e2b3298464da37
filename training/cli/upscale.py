"""The command ``upscale``, and ``grow``, which is one of its ranks.

They import what is slow to import when they run.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from features.cli import CommandLine, Summary
from features.datasets.catalog import schema_of
from training.cli.arguments import ADVICE, add_holdout, count, day, growth_target, recipe_name
from training.recipes import recipe_of, target_of


def add_upscale(command_line: CommandLine) -> None:
    """The commands ``upscale`` and ``grow``."""
    text = (
        "Grow a checkpoint into a larger Wukong that computes the same. More layers, embeddings, "
        "rank and wider or deeper MLPs keep what was trained, tables and moments included; before "
        "it is written, its logits are compared with the parent's on the newest examples. The next "
        "`train --recipe TARGET` goes on from it. With --date, an older checkpoint of the source's "
        "family grows, one that leaves days to train on."
    )
    upscale = command_line.command(
        "upscale", _upscale, text, "lake", "checkpoints", "tracking", "study"
    )
    _add_growth_ends(upscale, "its folder's name, or champion or challenger", growth_target)
    upscale.add_argument(
        "--date", type=day, metavar="YYYY-MM-DD", help="day of the run that will train it on"
    )
    add_holdout(upscale)
    upscale.add_argument(
        "--budget-days", type=count, default=14, help="with --date: most days to train on"
    )
    text = "Be one rank of an upscaling; torchrun starts it, not a person."
    grow = command_line.command("grow", _grow, text, "lake", "checkpoints")
    _add_growth_ends(grow, "its folder's name", recipe_name)
    grow.add_argument("--result", type=Path, help=argparse.SUPPRESS)


def _add_growth_ends(
    command: argparse.ArgumentParser, source: str, target: Callable[[str], str]
) -> None:
    command.add_argument(
        *("--from",), dest="source", required=True, metavar="CHECKPOINT", help=source
    )
    command.add_argument(
        *("--to",),
        dest="target",
        required=True,
        type=target,
        metavar="TARGET",
        help="a recipe such as wukong-small-x2, or 2 to 9: so many times the source's",
    )


def _upscale(options: argparse.Namespace) -> Summary:
    from training.cli.torchrun import upscale_on_ranks
    from training.registry.parent_selection import growth_source

    if options.target == ADVICE:
        from training.experiments.sweep.run_study import advised_target

        options.target = advised_target(options.study, schema_of(options.dataset))
    # A wrong name is an error before any process is started.
    source = growth_source(schema_of(options.dataset), options)
    options.source, options.ranks = source.name, source.manifest.ranks
    options.target = target_of(source.recipe_name, options.target)
    return upscale_on_ranks(options)


def _grow(options: argparse.Namespace) -> Summary:
    from training.cli.rank_worker import grow_rank

    grow_rank(schema_of(options.dataset), recipe_of(options.target), options)
    return {}
