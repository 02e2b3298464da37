"""What the command lines share: commands, one JSON object, exit codes.

Every command logs to stderr and prints one JSON object as its last line on stdout; what a summary
has under ``markdown`` is printed before it. What it has under ``document`` is for another program:
then stdout has nothing else, and the JSON object is on stderr. Exit code 0: done; 1: failed, with
the reason under ``error``; 2: wrong usage; 99: nothing to do, with the reason under ``skipped``.

Where RANKING_RESULT names a place, the same object and the exit code are put there too: who started
the command on another machine finds them.
"""

import argparse
import contextlib
import errno
import inspect
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from features.datasets.catalog import schema_of
from features.lineage.job_run import run_with_events
from features.options import ShowDefaults, add_options, request_from, text_of
from features.places import place, put_whole

logger = logging.getLogger(__name__)
Summary = dict[str, object]
Command = Callable[[Any], Summary]
"""A function of one request, whose class is the command's own."""
RESULT = "RANKING_RESULT"
EXIT_FAILED = 1
EXIT_SKIPPED = 99
_NODE = "PET_NODE_RANK"
"""Torchrun's: of the nodes of a training, the first has the result."""
_DISK_FULL = (os.strerror(errno.ENOSPC), "database or disk is full")
"""How the system says it, also through Spark and Delta, and how SQLite does."""
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
            sentence of the text is shown in the list of commands. A name of two words is a command
            of a group.
        quiet: Loggers whose warnings are noise.
    """

    def __init__(
        self,
        package: str,
        *,
        description: str,
        epilog: str,
        commands: Mapping[str, Command],
        quiet: Sequence[str] = (),
    ) -> None:
        self.package = package
        self.quiet = quiet
        self.parser = argparse.ArgumentParser(
            prog=f"python -m {package}", description=description, epilog=epilog
        )
        added = self.parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
        groups = {"": added}
        for name, run in commands.items():
            group, _, own = name.rpartition(" ")
            if group not in groups:
                of_group = added.add_parser(group, help=_help_of(group, commands))
                groups[group] = of_group.add_subparsers(required=True, metavar="COMMAND")
            (parameter,) = inspect.signature(run).parameters.values()
            made: type[Any] = parameter.annotation
            text = text_of(made)
            command = groups[group].add_parser(
                own,
                help=text.split(". ")[0].rstrip("."),
                description=text,
                formatter_class=ShowDefaults,
            )
            add_options(command, made)
            command.set_defaults(run=run, made=made, misused=command.error, command=name)

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Run one command; returns the exit code."""
        options = self.parser.parse_args(arguments)
        try:
            asked = request_from(options, options.made)
        except ValueError as error:
            options.misused(str(error))
        result = os.environ.pop(RESULT, "")  # of this command, not of those that it starts
        started = time.monotonic()
        code, summary = self._run(options.command, options.run, asked)
        seconds = round(time.monotonic() - started, 1)
        if text := summary.pop("markdown", None):
            sys.stdout.write(f"{text}\n")
        document = summary.pop("document", None)
        if document is not None:
            sys.stdout.write(str(document))
        summary = {"job": options.command, "seconds": seconds, **summary}
        stream = sys.stdout if document is None else sys.stderr
        stream.write(json.dumps(summary) + "\n")
        if result and os.environ.get(_NODE, "0") == "0":
            content = json.dumps({"exit_code": code, "summary": summary})
            put_whole(place(result), content.encode())
        return code

    def _run(self, command: str, run: Command, asked: object) -> tuple[int, Summary]:
        """Run it, with events of lineage where it makes data; of several hosts on the first."""

        def done() -> tuple[int, Summary]:
            return run_job(run, asked, package=self.package, quiet=self.quiet)

        if os.environ.get(_NODE, "0") != "0":
            return done()
        return run_with_events(
            done,
            asked,
            package=self.package,
            command=command,
            fingerprint=lambda dataset: schema_of(dataset).fingerprint(),
        )


def _help_of(group: str, commands: Mapping[str, Command]) -> str:
    """The commands of a group, for the list of all."""
    of_group = [name.removeprefix(f"{group} ") for name in commands if name.startswith(f"{group} ")]
    return f"Its commands: {', '.join(of_group)}"


def run_job(
    run: Command, asked: object, *, package: str, quiet: Sequence[str] = ()
) -> tuple[int, Summary]:
    """Run a job of a package with its log on stderr; returns the exit code and the summary."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger(package).setLevel(logging.INFO)
    for noisy in quiet:
        logging.getLogger(noisy).setLevel(logging.ERROR)
    # Feast, TorchRec and DCP warn on every use of what they will change some day.
    warnings.simplefilter("ignore")
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
    reason = str(error).strip() or type(error).__name__
    sys.stderr.write(f"error: {reason}\n")
    disk = {"runbook": "disk-full"} if any(words in reason for words in _DISK_FULL) else {}
    return EXIT_FAILED, {"error": reason, **disk, **getattr(error, "summary", {})}
