"""The command line of the data path: ``python -m features COMMAND --help``."""

import sys
from collections.abc import Sequence

from features.backfill.history import history
from features.backfill.stale import stale
from features.cli import CommandLine
from features.commands import COMMANDS
from features.erasure.commands import ERASURE_COMMANDS
from features.parity.commands import PARITY_COMMANDS
from features.quarantine.commands import QUARANTINE_COMMANDS


def command_line() -> CommandLine:
    """All commands of the data path."""
    return CommandLine(
        "features",
        description="The data path of the ranker, one job a command.",
        epilog="Start with: python -m features fetch --dataset movielens-100k",
        commands={
            **COMMANDS,
            "history": history,
            "stale": stale,
            **QUARANTINE_COMMANDS,
            **PARITY_COMMANDS,
            **ERASURE_COMMANDS,
        },
        quiet=("py4j", "great_expectations", "feast", "pyspark"),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    return command_line().main(arguments)


if __name__ == "__main__":
    sys.exit(main())
