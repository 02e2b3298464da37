"""The command line of training: ``python -m training COMMAND --help``."""

import sys
from collections.abc import Sequence

from features.cli import CommandLine
from training.cli import evaluate, experiments, export, train, upscale


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    return _command_line().main(arguments)


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
    command_line = CommandLine(
        "training",
        description="Train, export and judge the ranker, one job a command.",
        epilog="The recipes are described in training/recipes.py.",
        folders=_FOLDERS,
    )
    train.add_train(command_line)
    upscale.add_upscale(command_line)
    export.add_export(command_line)
    export.add_compile(command_line)
    export.add_bench(command_line)
    evaluate.add_evaluate(command_line)
    evaluate.add_family(command_line)
    experiments.add_backtest(command_line)
    train.add_plan(command_line)
    experiments.add_growth(command_line)
    experiments.add_scaling(command_line)
    experiments.add_law(command_line)
    experiments.add_benchmark(command_line)
    experiments.add_speed(command_line)
    train.add_prune(command_line)
    return command_line


if __name__ == "__main__":
    sys.exit(main())
