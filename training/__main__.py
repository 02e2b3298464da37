"""The door of the ranker: ``python -m training VERB --help``."""

import argparse
import dataclasses
import datetime
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from features.cli import CommandLine, Summary, add_date
from features.datasets.catalog import SCHEMAS, schema_of
from training.cli import export
from training.cli.arguments import (
    ADVICE,
    add_anchor,
    add_dense_parallelism,
    add_holdout,
    add_recipe,
    add_training,
    axes,
    chosen_recipe,
    count,
    day,
    growth_target,
    recipe_name,
    size_in_bytes,
    with_parallelism,
)
from training.recipes import recipe_of, target_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    return _command_line().main(arguments)


def _train(options: argparse.Namespace) -> Summary:
    from training.cli.torchrun import default_ranks, train_and_track
    from training.registry.parent_selection import training_recipe

    schema = schema_of(options.dataset)
    options.recipe = training_recipe(schema, options)
    options.ranks = options.ranks or default_ranks()
    return train_and_track(schema, chosen_recipe(options), options)


def _worker(options: argparse.Namespace) -> Summary:
    from training.cli.rank_worker import run_rank

    run_rank(schema_of(options.dataset), chosen_recipe(options), options)
    return {}


def _upscale(options: argparse.Namespace) -> Summary:
    from training.cli.torchrun import upscale_on_ranks
    from training.registry.parent_selection import growth_source

    if options.target == ADVICE:
        from training.experiments.sweep.run_study import advised_target

        options.target = advised_target(options.study, schema_of(options.dataset))
    # A wrong name is told before any process is started.
    source = growth_source(schema_of(options.dataset), options)
    options.source, options.ranks = source.name, source.manifest.ranks
    options.target = target_of(source.recipe_name, options.target)
    return upscale_on_ranks(options)


def _grow(options: argparse.Namespace) -> Summary:
    from training.cli.rank_worker import grow_rank

    grow_rank(schema_of(options.dataset), recipe_of(options.target), options)
    return {}


def _evaluate(options: argparse.Namespace) -> Summary:
    from training.cli.evaluate import judge

    return judge(schema_of(options.dataset), options)


def _family(options: argparse.Namespace) -> Summary:
    from training.cli.evaluate import show_family

    return show_family(schema_of(options.dataset), options)


def _backtest(options: argparse.Namespace) -> Summary:
    from training.cli.rank_worker import process_group
    from training.data.dataset import ExampleTable
    from training.experiments.backtest import run_backtest, to_dict

    schema, recipe = schema_of(options.dataset), recipe_of(options.recipe)
    table = ExampleTable(options.lake, schema)
    first = options.date - datetime.timedelta(days=options.days - 1)
    with process_group():
        found = run_backtest(schema, recipe, table, table.days(first, options.date))
    return {"dataset": schema.name, "recipe": recipe.name, **to_dict(found)}


def _benchmark(options: argparse.Namespace) -> Summary:
    from training.cli.rank_worker import process_group
    from training.experiments.public_data.run import run_benchmark

    with process_group():
        return run_benchmark(
            options.dataset,
            options.data,
            options.model,
            recipe=options.recipe,
            seeds=options.seeds,
            trials=options.search,
        )


def _speed(options: argparse.Namespace) -> Summary:
    from training.cli.rank_worker import process_group
    from training.cli.torchrun import speed_on_ranks
    from training.experiments import train_speed

    if options.ranks > 1:
        return speed_on_ranks(options)
    with process_group():
        if options.result:
            found = train_speed.speed_of_ranks(options.configuration)
            options.result.write_text(json.dumps(found))
            return {}
        if options.profile:
            return {
                "markdown": train_speed.profile(options.configuration, is_compiled=options.compile)
            }
        measured = train_speed.measure(options.configuration, is_compiled=options.compile)
    return train_speed.to_dict(measured)


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


def _growth(options: argparse.Namespace) -> Summary:
    from training.cli.rank_worker import process_group
    from training.data.dataset import ExampleTable
    from training.experiments.growth_comparison import Comparison, compare

    table = ExampleTable(options.lake, schema_of(options.dataset))
    recipes = (recipe_of(options.recipe), recipe_of(options.target))
    with process_group():
        comparison = Comparison(table, *recipes, batch_size=options.batch_size, share=options.share)
        return compare(comparison, seeds=options.seeds)


def _scaling(options: argparse.Namespace) -> Summary:
    from training.cli.rank_worker import process_group
    from training.experiments.sweep.run_study import run_study

    with process_group():
        return run_study(schema_of(options.dataset), options)


def _law(options: argparse.Namespace) -> Summary:
    from training.experiments.scaling.page import write_law_page
    from training.experiments.scaling.points import read_points
    from training.experiments.scaling.study import read_current, study

    current = read_current(options.current) if options.current else None
    found = study(read_points(options.points), current)
    page = write_law_page(options.reports, options.points.stem, found)
    return {**found.to_dict(), "report": page}


def _prune(options: argparse.Namespace) -> Summary:
    from training.registry.retention import prune

    schema = schema_of(options.dataset)
    return prune(
        *(schema, options.checkpoints, options.artifacts, options.tracking),
        keep=options.keep,
        anchor_days=options.anchor_days,
    )


_FOLDERS = {
    "lake": ("lake", "the Parquet tables"),
    "checkpoints": ("checkpoints", "the training checkpoints"),
    "artifacts": ("artifacts", "the exported rankers"),
    "tracking": ("mlflow", "the MLflow database"),
    "reports": ("reports", "where pages are written"),
    "study": ("scaling", "the runs and points of scaling studies"),
    "compiled": ("compiled", "native code of this machine, which only this user may write"),
}


def _command_line() -> CommandLine:
    door = CommandLine(
        "training",
        description="Train, export and judge the ranker, one job a command.",
        epilog="The recipes are described in training/recipes.py.",
        folders=_FOLDERS,
    )
    _add_training(door)
    _add_upscale(door)
    export.add_export(door)
    export.add_compile(door)
    export.add_bench(door)
    _add_evaluate(door)
    text = "Print the family of the rankers: who was trained, or grew, from whom."
    door.command("family", _family, text, "checkpoints", "artifacts", "tracking", "reports")
    text = "Predict the last days one by one, beside simple rivals."
    backtest = door.command("backtest", _backtest, text, "lake")
    add_date(backtest)
    backtest.add_argument("--days", type=int, default=28, help="days to predict, to --date")
    add_recipe(backtest)
    _add_plan(door)
    _add_growth(door)
    _add_scaling(door)
    _add_law(door)
    _add_benchmark(door)
    _add_speed(door)
    text = "Drop checkpoints and artifacts that nothing needs."
    prune = door.command("prune", _prune, text, "checkpoints", "artifacts", "tracking")
    prune.add_argument("--keep", type=int, default=10, help="newest to keep of each")
    add_anchor(prune, "keep the artifacts of champions as old as the gate's anchor")
    return door


def _add_evaluate(door: CommandLine) -> None:
    text = (
        "Judge a day's candidate; the gate. It says promote when log loss, GAUC, calibration and "
        "slices are shown to be within their limits beside the champion and an older one, the "
        "anchor; refuse when one is shown to be beyond; hold when the days cannot tell. With "
        "--candidate and --control, judge a ranker that grew: it must be shown to be better than "
        "the champion and than the one that did not grow. docs/training.md has the limits."
    )
    folders = ("lake", "checkpoints", "artifacts", "tracking", "reports")
    evaluate = door.command("evaluate", _evaluate, text, *folders)
    add_date(evaluate, "last day of the holdout, YYYY-MM-DD")
    evaluate.add_argument("--drill", choices=("spoilt",), help="spoil the candidate on purpose")
    evaluate.add_argument("--candidate", metavar="VERSION", help="else the day's newest")
    evaluate.add_argument("--control", metavar="VERSION", help="the un-grown one of a trial")
    add_anchor(evaluate, "compare with who was champion so many days before, too; 0: do not")
    evaluate.add_argument(
        "--first",
        action="store_true",
        help="where nothing serves yet: let a candidate through that is shown to beat the base "
        "rate, though too few rows tell of its calibration or a slice",
    )
    evaluate.add_argument(
        "--no-gauc",
        action="store_true",
        help="do not compare GAUC: for logs in which hardly any user has both labels",
    )


def _add_training(door: CommandLine) -> None:
    for name, run, text in (
        ("train", _train, "Train the candidate of a day, warm from the last checkpoint."),
        ("worker", _worker, "Be one rank of a training run; torchrun starts it, not a person."),
    ):
        train = door.command(name, run, text, "lake", "checkpoints", "tracking", "reports")
        add_date(train, "day of the run, YYYY-MM-DD")
        add_training(train)


def _add_upscale(door: CommandLine) -> None:
    text = (
        "Grow a checkpoint into a larger Wukong that computes the same. More layers, embeddings, "
        "rank and wider or deeper MLPs keep what was trained, tables and moments included; before "
        "it is written, its logits are compared with the parent's on the newest examples. The next "
        "`train --recipe TARGET` goes on from it. With --date, an older checkpoint of the source's "
        "family grows, one that leaves days to train on."
    )
    upscale = door.command("upscale", _upscale, text, "lake", "checkpoints", "tracking", "study")
    _add_growth_ends(upscale, "its folder's name, or champion or challenger", growth_target)
    upscale.add_argument(
        "--date", type=day, metavar="YYYY-MM-DD", help="day of the run that will train it on"
    )
    add_holdout(upscale)
    upscale.add_argument(
        "--budget-days", type=count, default=14, help="with --date: most days to train on"
    )
    text = "Be one rank of an upscaling; torchrun starts it, not a person."
    grow = door.command("grow", _grow, text, "lake", "checkpoints")
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


_BENCHMARKS = (
    "frappe",
    "frappe-stand-in",
    "movielens-latest",
    "microvideo",
    "kuaivideo",
    "taobao-ad",
    "criteo-kaggle",
    "criteo-terabyte",
    *sorted(SCHEMAS),
)
_MODELS = ("wukong", "dlrm", "dcnv2", "autoint", "finalmlp", "masknet", "xdeepfm", "afn")


def _add_benchmark(door: CommandLine) -> None:
    text = (
        "Train a ranker on a public data set and print its test figures. The files are read as "
        "they are published (docs/benchmarks.md says which); validation decides when to stop and "
        "what a search keeps, the test split is scored once."
    )
    benchmark = door.command("benchmark", _benchmark, text, has_dataset=False)
    benchmark.add_argument("--dataset", required=True, choices=_BENCHMARKS, help="the data set")
    benchmark.add_argument(
        "--data", type=Path, default=Path("var/lake"), metavar="DIR", help="where its files are"
    )
    benchmark.add_argument("--model", choices=_MODELS, default="wukong", help="the ranker")
    benchmark.add_argument(
        "--recipe",
        type=recipe_name,
        metavar="RECIPE",
        help="else the data set's own for the model",
    )
    benchmark.add_argument("--seeds", type=int, default=3, help="runs to average")
    benchmark.add_argument(
        "--search", type=int, default=0, metavar="N", help="settings to try on validation first"
    )


def _add_speed(door: CommandLine) -> None:
    text = (
        "Measure the training speed of a fixed configuration. Full steps on all threads, as a "
        "share of the machine's best float32 matrix product; `make bench-train` runs both."
    )
    speed = door.command("speed", _speed, text, has_dataset=False)
    speed.add_argument("--configuration", choices=("A", "B"), required=True, help="which one")
    speed.add_argument("--compile", action="store_true", help="compile the dense part")
    speed.add_argument("--profile", action="store_true", help="print the operators instead")
    speed.add_argument("--ranks", type=count, default=1, help="processes that share the cores")
    speed.add_argument("--result", type=Path, help=argparse.SUPPRESS)


def _add_plan(door: CommandLine) -> None:
    text = (
        "Print how a recipe's tables would be spread over devices. The trainer plans with the same "
        "code; nothing is allocated, so that a plan for GPUs is made on a laptop."
    )
    plan = door.command("plan", _plan, text, has_dataset=False)
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


def _add_growth(door: CommandLine) -> None:
    text = (
        "Compare growing a ranker with training the large one from scratch. Loss against training "
        "FLOPs over one pass of the lake's days, for the small, the large and the small one grown "
        "at several moments; `make bench-growth` runs it on two data sets."
    )
    growth = door.command("growth", _growth, text, "lake")
    add_recipe(growth)
    growth.add_argument(
        "--to",
        dest="target",
        type=recipe_name,
        default="wukong-small-x3",
        metavar="RECIPE",
        help="what to grow to",
    )
    growth.add_argument("--batch-size", type=count, default=512, help="of every run")
    growth.add_argument("--seeds", type=count, default=3, help="runs of each")
    growth.add_argument(
        "--share",
        type=float,
        default=1.0,
        help="of the log, what the large ranker sees from scratch; its compute is everyone's",
    )


def _add_scaling(door: CommandLine) -> None:
    text = (
        "Run the points of a scaling law: one resource at a time, one pass over the lake's days, "
        "every size with the learning rate that validation days choose. Tells the estimated time "
        "first and keeps to the budget; the same command goes on where it stopped. Then fits "
        "a law to all points of the data set, writes its page, and says what to grow next, which "
        "`upscale --to advice` takes as its target."
    )
    scaling = door.command("scaling", _scaling, text, "lake", "study", "tracking", "reports")
    add_recipe(scaling, default=None, otherwise="the champion's, or the usual one")
    scaling.add_argument(
        "--axis",
        dest="axes",
        type=axes,
        required=True,
        metavar="AXIS[,AXIS]",
        help="the resource that grows, or several one after the other: compute (Wukong's ladder), "
        "data, dense (all MLPs), dim (embedding width), overarch (the MLP behind the "
        "interactions), rows (of the tables)",
    )
    scaling.add_argument("--points", type=count, default=5, help="sizes of it; at least 5")
    scaling.add_argument("--seeds", type=count, default=3, help="runs of each size")
    scaling.add_argument(
        "--budget", type=float, default=60.0, metavar="MINUTES", help="of this call"
    )
    scaling.add_argument("--batch-size", type=count, default=512, help="of every run")
    scaling.add_argument(
        "--date", type=day, metavar="YYYY-MM-DD", help="last day to use (else the newest)"
    )


def _add_law(door: CommandLine) -> None:
    text = (
        "Say what to grow next from points that were run. Fits the NE against each resource, with "
        "and without a floor, and writes one page with law.json beside it; docs/scaling.md has the "
        "format of the points and how the fit works."
    )
    law = door.command("law", _law, text, "reports", has_dataset=False)
    law.add_argument(
        "--points", type=Path, required=True, metavar="FILE", help="JSON lines, one run each"
    )
    law.add_argument(
        "--current",
        type=Path,
        metavar="FILE",
        help="JSON of the production model: name, model, x by axis, ne (else each axis's last run)",
    )


if __name__ == "__main__":
    sys.exit(main())
