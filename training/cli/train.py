"""The commands around a training run: train, its ranks, a plan of its tables, and prune.

They import what is slow to import when they run.
"""

import argparse
import dataclasses

from features.cli import CommandLine, Summary, add_date
from features.datasets.catalog import SCHEMAS, schema_of
from features.imports import without_collection
from training.cli.arguments import (
    add_anchor,
    add_dense_parallelism,
    add_recipe,
    add_training,
    chosen_recipe,
    count,
    size_in_bytes,
    with_parallelism,
)
from training.recipes import recipe_of


def add_train(command_line: CommandLine) -> None:
    """The commands ``train`` and ``worker``."""
    for name, run, text in (
        ("train", _train, "Train the candidate of a day, warm from the last checkpoint."),
        ("worker", _worker, "Be one rank of a training run; torchrun starts it, not a person."),
    ):
        train = command_line.command(name, run, text, "lake", "checkpoints", "tracking", "reports")
        add_date(train, "day of the run, YYYY-MM-DD")
        add_training(train)


def add_plan(command_line: CommandLine) -> None:
    """The command ``plan``."""
    text = (
        "Print how a recipe's tables would be spread over devices. The trainer plans with the same "
        "code; nothing is allocated, so that a plan for GPUs is made on a laptop."
    )
    plan = command_line.command("plan", _plan, text, has_dataset=False)
    plan.add_argument(
        "--dataset", choices=sorted(SCHEMAS), default="movielens-100k", help="whose tables"
    )
    add_recipe(plan)
    plan.add_argument("--devices", choices=("cpu", "cuda"), default="cuda", help="of the ranks")
    plan.add_argument("--ranks", type=count, default=8, help="processes, one a device")
    plan.add_argument(
        "--ranks-per-host", type=count, metavar="N", help="that share fast links (else all)"
    )
    add_dense_parallelism(plan)
    plan.add_argument(
        "--hbm", type=size_in_bytes, metavar="SIZE", help="a device's memory, such as 80GB"
    )
    plan.add_argument(
        "--ddr", type=size_in_bytes, metavar="SIZE", help="the host's memory for a rank"
    )
    plan.add_argument("--batch-size", type=count, help="of all ranks (else the recipe's)")
    plan.add_argument(
        "--rows-times", type=count, default=1, help="plan for tables so many times as long"
    )
    plan.add_argument(
        "--teraflops", type=float, default=20.0, help="what a rank reaches on the dense part"
    )


def add_prune(command_line: CommandLine) -> None:
    """The command ``prune``."""
    text = "Drop checkpoints and artifacts that nothing needs."
    prune = command_line.command("prune", _prune, text, "checkpoints", "artifacts", "tracking")
    prune.add_argument("--keep", type=int, default=10, help="newest to keep of each")
    add_anchor(prune, "keep the artifacts of champions as old as the gate's anchor")


def _train(options: argparse.Namespace) -> Summary:
    from training.cli.torchrun import default_ranks, train_and_track
    from training.registry.parent_selection import training_recipe

    schema = schema_of(options.dataset)
    options.recipe = training_recipe(schema, options)
    options.ranks = options.ranks or default_ranks()
    return train_and_track(schema, chosen_recipe(options), options)


def _worker(options: argparse.Namespace) -> Summary:
    with without_collection():
        from training.cli.rank_worker import run_rank

    run_rank(schema_of(options.dataset), chosen_recipe(options), options)
    return {}


def _plan(options: argparse.Namespace) -> Summary:
    from training.distributed.device import Machine
    from training.distributed.plan_report import planned
    from training.model.inputs import inputs_of

    machine = Machine(
        device=options.devices,
        ranks=options.ranks,
        ranks_per_host=options.ranks_per_host,
        hbm_bytes=options.hbm,
        ddr_bytes=options.ddr,
    )
    recipe = with_parallelism(recipe_of(options.recipe), options)
    if options.batch_size:
        training = dataclasses.replace(recipe.training, batch_size=options.batch_size)
        recipe = dataclasses.replace(recipe, training=training)
    inputs = inputs_of(schema_of(options.dataset)).with_rows_times(options.rows_times)
    return planned(inputs, recipe, machine, teraflops=options.teraflops)


def _prune(options: argparse.Namespace) -> Summary:
    from training.registry.retention import prune

    schema = schema_of(options.dataset)
    return prune(
        *(schema, options.checkpoints, options.artifacts, options.tracking),
        keep=options.keep,
        anchor_days=options.anchor_days,
    )
