"""The door of the ranker: ``python -m training VERB --help``.

Every verb logs to stderr and prints one JSON object as its last line on stdout. Exit code 0: done;
1: failed, with ``error: …``; 2: wrong use; 99: nothing to do, with the reason under ``skipped``.
"""

import argparse
import contextlib
import datetime
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from features.catalog import SCHEMAS, schema_of
from training.recipes import RECIPES, recipe_of

Summary = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    options = _parser().parse_args(arguments)
    # FBGEMM logs each library that it loads to the root logger.
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("training").setLevel(logging.INFO)
    # TorchRec and DCP warn on every use of what they will drop some day.
    warnings.simplefilter("ignore")
    started = time.monotonic()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            summary = options.run(options)
    except (ValueError, ChildProcessError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    seconds = round(time.monotonic() - started, 1)
    sys.stdout.write(json.dumps({"job": options.verb, **summary, "seconds": seconds}) + "\n")
    return 0


def _train(options: argparse.Namespace) -> Summary:
    from training.launch import train_and_track

    schema, recipe = schema_of(options.dataset), recipe_of(options.recipe)
    return train_and_track(schema, recipe, options)


def _worker(options: argparse.Namespace) -> Summary:
    from training.worker import run_rank

    run_rank(schema_of(options.dataset), recipe_of(options.recipe), options)
    return {}


def _export(options: argparse.Namespace) -> Summary:
    from training.export import export
    from training.registry import Registry

    schema = schema_of(options.dataset)
    manifest = export(schema, options.lake, options.checkpoints, options.artifacts, options.date)
    directory = options.artifacts / schema.name / manifest.version
    Registry(options.tracking, schema.name).register(manifest, directory)
    return {"version": manifest.version, "artifact": str(directory), "metrics": manifest.metrics}


def _evaluate(options: argparse.Namespace) -> Summary:
    from training import evaluation, report
    from training.dataset import ExampleTable
    from training.registry import CHAMPION, Registry

    schema = schema_of(options.dataset)
    registry = Registry(options.tracking, schema.name)
    candidate, champion = registry.version_of(options.date), registry.alias(CHAMPION)
    if champion is not None and registry.day_of(champion) > options.date:
        # Judged on these days again, a later champion would have trained on them.
        return {
            "decision": "hold",
            "candidate": candidate,
            "champion": champion,
            "reasons": [f"champion is of {registry.day_of(champion)}, after {options.date}"],
        }
    judged = evaluation.evaluate_candidate(
        schema,
        ExampleTable(options.lake, schema),
        options.artifacts,
        day=options.date,
        candidate_version=candidate,
        # A drill may spoil the champion itself, and is judged against what it was.
        champion_version=champion if champion != candidate or options.drill else None,
        is_spoilt=options.drill == "spoilt",
    )
    page = report.write_gate_page(options.reports, schema.name, options.date.isoformat(), judged)
    summary = evaluation.summary(judged)
    if not judged.is_spoilt:
        registry.set_decision(candidate, summary["decision"])
    return {**summary, "report": page}


def _backtest(options: argparse.Namespace) -> Summary:
    from training.backtest import run_backtest, to_dict
    from training.dataset import ExampleTable
    from training.worker import process_group

    schema, recipe = schema_of(options.dataset), recipe_of(options.recipe)
    table = ExampleTable(options.lake, schema)
    first = options.date - datetime.timedelta(days=options.days - 1)
    with process_group():
        found = run_backtest(schema, recipe, table, table.days(first, options.date))
    return {"dataset": schema.name, "recipe": recipe.name, **to_dict(found)}


def _prune(options: argparse.Namespace) -> Summary:
    from training.retention import prune

    schema = schema_of(options.dataset)
    return prune(
        schema, options.checkpoints, options.artifacts, options.tracking, keep=options.keep
    )


_FOLDERS = {
    "--lake": ("lake", "the Parquet tables"),
    "--checkpoints": ("checkpoints", "the training checkpoints"),
    "--artifacts": ("artifacts", "the exported rankers"),
    "--tracking": ("mlflow", "the MLflow database"),
    "--reports": ("reports", "where pages are written"),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description="Train, export and judge the ranker, one job a verb.",
        epilog="The recipes are described in training/recipes.py.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(
        name: str, run: Callable[[argparse.Namespace], Summary], text: str, *folders: str
    ) -> Any:
        added = verbs.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        added.add_argument("--dataset", required=True, choices=sorted(SCHEMAS))
        for folder in folders:
            default, meaning = _FOLDERS[folder]
            path = Path("var") / default
            added.add_argument(folder, type=Path, default=path, help=f"{meaning} (default: {path})")
        return added

    def dated(added: Any) -> Any:
        day = datetime.date.fromisoformat
        added.add_argument("--date", type=day, required=True, help="day of the run, YYYY-MM-DD")
        return added

    for name, run, text in (
        ("train", _train, "Train the candidate of a day, warm from the last checkpoint."),
        ("worker", _worker, "One rank of a training run; started by torchrun, not by hand."),
    ):
        folders = ("--lake", "--checkpoints", "--tracking", "--reports")
        train = dated(verb(name, run, text, *folders))
        train.add_argument(
            "--holdout-days", type=int, help="newest days not to train on (schema's)"
        )
        train.add_argument("--recipe", choices=sorted(RECIPES), default="wukong-small")
        train.add_argument("--ranks", type=int, default=2, help="processes (2)")
        train.add_argument("--mlflow-run", type=Path, help=argparse.SUPPRESS)
        train.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    every = ("--lake", "--checkpoints", "--artifacts", "--tracking")
    dated(verb("export", _export, "Make a day's checkpoint an artifact and register it.", *every))
    judged = ("--lake", "--artifacts", "--tracking", "--reports")
    evaluate = dated(verb("evaluate", _evaluate, "Judge a day's candidate; the gate.", *judged))
    evaluate.add_argument("--drill", choices=("spoilt",), help="spoil the candidate on purpose")
    text = "Predict the last days one by one, beside simple rivals."
    backtest = dated(verb("backtest", _backtest, text, "--lake"))
    backtest.add_argument("--days", type=int, default=28, help="days to predict, to --date (28)")
    backtest.add_argument("--recipe", choices=sorted(RECIPES), default="wukong-small")
    kept = ("--checkpoints", "--artifacts", "--tracking")
    prune = verb("prune", _prune, "Drop checkpoints and artifacts that nothing needs.", *kept)
    prune.add_argument("--keep", type=int, default=10, help="newest to keep of each (10)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
