"""The commands of experiments: backtest, benchmark, growth, scaling, law and speed.

They import what is slow to import when they run.
"""

import argparse
import datetime
import json
from pathlib import Path

from features.cli import CommandLine, Summary, add_date
from features.datasets.catalog import SCHEMAS, schema_of
from training.cli.arguments import add_recipe, axes, count, day, recipe_name
from training.recipes import recipe_of

BENCHMARKS = (
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
MODELS = ("wukong", "dlrm", "dcnv2", "autoint", "finalmlp", "masknet", "xdeepfm", "afn")


def add_backtest(command_line: CommandLine) -> None:
    """The command ``backtest``."""
    text = "Predict the last days one by one, beside simple baselines."
    backtest = command_line.command("backtest", _backtest, text, "lake")
    add_date(backtest)
    backtest.add_argument("--days", type=int, default=28, help="days to predict, to --date")
    add_recipe(backtest)


def add_growth(command_line: CommandLine) -> None:
    """The command ``growth``."""
    text = (
        "Compare growing a ranker with training the large one from scratch. Loss against training "
        "FLOPs over one pass of the lake's days, for the small, the large and the small one grown "
        "at several moments; `make bench-growth` runs it on two data sets."
    )
    growth = command_line.command("growth", _growth, text, "lake")
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


def add_scaling(command_line: CommandLine) -> None:
    """The command ``scaling``."""
    text = (
        "Run the points of a scaling law: one resource at a time, one pass over the lake's days, "
        "every size with the learning rate that validation days choose. Logs the estimated time "
        "first and keeps to the budget; the same command goes on where it stopped. Then fits "
        "a law to all points of the data set, writes its page, and says what to grow next, which "
        "`upscale --to advice` takes as its target."
    )
    scaling = command_line.command(
        "scaling", _scaling, text, "lake", "study", "tracking", "reports"
    )
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


def add_law(command_line: CommandLine) -> None:
    """The command ``law``."""
    text = (
        "Say what to grow next from points that were run. Fits the NE against each resource, with "
        "and without a floor, and writes one page with law.json beside it; docs/scaling.md has the "
        "format of the points and how the fit works."
    )
    law = command_line.command("law", _law, text, "reports", has_dataset=False)
    law.add_argument(
        "--points", type=Path, required=True, metavar="FILE", help="JSON lines, one run each"
    )
    law.add_argument(
        "--current",
        type=Path,
        metavar="FILE",
        help="JSON of the production model: name, model, x by axis, ne (else each axis's last run)",
    )


def add_benchmark(command_line: CommandLine) -> None:
    """The command ``benchmark``."""
    text = (
        "Train a ranker on a public data set and print its test figures. The files are read as "
        "they are published (docs/benchmarks.md says which); validation decides when to stop and "
        "what a search keeps, the test split is scored once."
    )
    benchmark = command_line.command("benchmark", _benchmark, text, has_dataset=False)
    benchmark.add_argument("--dataset", required=True, choices=BENCHMARKS, help="the data set")
    benchmark.add_argument(
        "--data", type=Path, default=Path("var/lake"), metavar="DIR", help="where its files are"
    )
    benchmark.add_argument("--model", choices=MODELS, default="wukong", help="the ranker")
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


def add_speed(command_line: CommandLine) -> None:
    """The command ``speed``."""
    text = (
        "Measure the training speed of a fixed configuration. Full steps on all threads, as a "
        "share of the machine's best float32 matrix product; `make bench-train` runs both."
    )
    speed = command_line.command("speed", _speed, text, has_dataset=False)
    speed.add_argument("--configuration", choices=("A", "B"), required=True, help="which one")
    speed.add_argument("--compile", action="store_true", help="compile the dense part")
    speed.add_argument("--profile", action="store_true", help="print the operators instead")
    speed.add_argument("--ranks", type=count, default=1, help="processes that share the cores")
    speed.add_argument("--result", type=Path, help=argparse.SUPPRESS)


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
