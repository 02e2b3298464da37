"""What the command lines share: commands, one JSON object, exit codes.

Every command logs to stderr and prints one JSON object as its last line on stdout; what a summary
has under ``markdown`` is printed before it. Exit code 0: done; 1: failed, with the reason under
``error``; 2: wrong usage; 99: nothing to do, with the reason under ``skipped``.
"""

import argparse
import contextlib
import datetime
import inspect
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from features.datasets.catalog import SCHEMAS
from features.options import ShowDefaults, add_options, request_from, text_of

logger = logging.getLogger(__name__)
Summary = dict[str, object]
Command = Callable[[Any], Summary]
"""A function of one request, whose class is the command's own."""
EXIT_FAILED = 1
EXIT_SKIPPED = 99
_EXPECTED = (ValueError, OSError)
"""Bad input and errors of the system: no traceback. Any other error is logged with one."""


class SkippedError(Exception):
    """There is nothing to do; the text says why."""


class FailedError(ValueError):
    """The command found what must stop its caller; ``summary`` joins the JSON object."""

    def __init__(self, reason: str, summary: Summary | None = None) -> None:
        """Args: the sentence for people, and what was found."""
        super().__init__(reason)
        self.summary = summary or {}


class CommandLine:
    """One package's command line.

    Args:
        package: Its name.
        description: What ``--help`` opens with.
        epilog: What it ends with.
        commands: Functions of one request, whose class has the command's flags and text; the first
            sentence of the text is shown in the list of commands.
        quiet: Loggers whose warnings are noise.
    """

    def __init__(
        self,
        package: str,
        *,
        description: str,
        epilog: str,
        commands: Mapping[str, Command] | None = None,
        folders: Mapping[str, tuple[str, str]] | None = None,
        quiet: Sequence[str] = (),
    ) -> None:
        self.package = package
        self.quiet = quiet
        self.folders = folders or {}
        self.parser = argparse.ArgumentParser(
            prog=f"python -m {package}", description=description, epilog=epilog
        )
        added = self.parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
        self._added = added
        for name, run in (commands or {}).items():
            (parameter,) = inspect.signature(run).parameters.values()
            made: type = parameter.annotation
            text = text_of(made)
            command = added.add_parser(
                name,
                help=text.split(". ")[0].rstrip("."),
                description=text,
                formatter_class=ShowDefaults,
            )
            add_options(command, made)
            command.set_defaults(run=run, made=made, misused=command.error)

    def command(
        self,
        name: str,
        run: Callable[[argparse.Namespace], Summary],
        text: str,
        *folders: str,
        has_dataset: bool = True,
    ) -> argparse.ArgumentParser:
        """Add a command; the first sentence of ``text`` is shown in the list of commands."""
        added: argparse.ArgumentParser = self._added.add_parser(
            name,
            help=text.split(". ")[0].rstrip("."),
            description=text,
            formatter_class=ShowDefaults,
        )
        added.set_defaults(run=run, made=None)
        if has_dataset:
            added.add_argument(
                "--dataset", required=True, choices=sorted(SCHEMAS), help="the data set"
            )
        root = Path(os.environ.get("RANKING_VAR", "var"))
        for folder in folders:
            name_below_root, meaning = self.folders[folder]
            added.add_argument(
                f"--{folder}",
                type=Path,
                default=root / name_below_root,
                metavar="DIR",
                help=meaning,
            )
        return added

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Run one command; returns the exit code."""
        options = self.parser.parse_args(arguments)
        try:
            asked = request_from(options, options.made) if options.made else options
        except ValueError as error:
            options.misused(str(error))
        logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
        logging.getLogger(self.package).setLevel(logging.INFO)
        for noisy in self.quiet:
            logging.getLogger(noisy).setLevel(logging.ERROR)
        # Feast, TorchRec and DCP warn on every use of what they will change some day.
        warnings.simplefilter("ignore")
        started = time.monotonic()
        code, summary = _run(options.run, asked)
        seconds = round(time.monotonic() - started, 1)
        if text := summary.pop("markdown", None):
            sys.stdout.write(f"{text}\n")
        sys.stdout.write(json.dumps({"job": options.command, "seconds": seconds, **summary}) + "\n")
        return code


def _run(run: Command, asked: object) -> tuple[int, Summary]:
    try:
        # Feast and Great Expectations print; stdout is for the one JSON line.
        with contextlib.redirect_stdout(sys.stderr):
            return 0, run(asked)
    except SkippedError as skipped:
        return EXIT_SKIPPED, {"skipped": str(skipped)}
    except _EXPECTED as error:
        return _failed(error)
    except Exception as error:
        logger.exception("unexpected error")
        return _failed(error)


def _failed(error: Exception) -> tuple[int, Summary]:
    reason = str(error) or type(error).__name__
    sys.stderr.write(f"error: {reason}\n")
    return EXIT_FAILED, {"error": reason, **getattr(error, "summary", {})}


def add_date(
    command: argparse.ArgumentParser, text: str = "the day, YYYY-MM-DD", *, is_range: bool = False
) -> None:
    """Give a command its ``--date``, and ``--to`` where it takes a range of days."""
    day = datetime.date.fromisoformat
    command.add_argument("--date", type=day, required=True, metavar="YYYY-MM-DD", help=text)
    if is_range:
        command.add_argument(
            "--to", type=day, metavar="YYYY-MM-DD", help="last day of a range from --date on"
        )
