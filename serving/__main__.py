"""The command line of serving: ``python -m serving COMMAND --help``."""

import sys
from collections.abc import Sequence

from features.cli import CommandLine
from serving.cli.commands import COMMANDS


def command_line() -> CommandLine:
    """Serve, canary, promote, rollback, shadow, prune-log, and deploy (on a cluster)."""
    return CommandLine(
        "serving",
        description="The ranking endpoint and what changes the model that it serves.",
        epilog="Exit codes: 0 done, 1 failed, 2 bad usage, 99 nothing to do.",
        commands=COMMANDS,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    return command_line().main(arguments)


if __name__ == "__main__":
    sys.exit(main())
