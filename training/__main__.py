"""The command line of training: ``python -m training COMMAND --help``."""

import sys
from collections.abc import Sequence

from features.cli import CommandLine
from training.cli.commands import COMMANDS


def command_line() -> CommandLine:
    """All commands of training."""
    return CommandLine(
        "training",
        description="Train, export and judge the ranker, one job a command.",
        epilog="The recipes are described in training/recipes.py.",
        commands=COMMANDS,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    return command_line().main(arguments)


if __name__ == "__main__":
    sys.exit(main())
