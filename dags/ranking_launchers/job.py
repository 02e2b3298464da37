"""A job as a DAG describes it, and how it ended, whatever launched it."""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Protocol

_ERROR = re.compile(r"(python -m [\w ]+: )?error:")
"""How a job, or argparse where it was called wrongly, begins its reason."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobSpec:
    """One command of one package: the only thing that a task of a DAG makes."""

    package: str
    command: str
    arguments: tuple[str, ...]
    size: str
    """Class of ``infra/kubernetes/sizes.yaml``; a process on this machine has none."""
    environment: Mapping[str, str]
    """What the job sees in addition to the settings of the deployment."""

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.package} {self.command}"

    def command_line(self, python: str) -> list[str]:
        """The program and its arguments."""
        return [python, "-m", self.package, self.command, *self.arguments]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ended:
    """How a job ended, and what it left."""

    exit_code: int
    """Negative: the number of the signal that ended it."""
    output: str
    """The JSON text of its summary; empty where it left none."""
    source: str
    """Where the summary is looked for, for messages."""
    error: str
    """Its reason, in its own words; empty where it gave none."""

    @property
    def summary(self) -> dict[str, object]:
        """The JSON object of the output; empty where it is none."""
        try:
            value = json.loads(self.output)
        except json.JSONDecodeError:
            return {}
        return value if isinstance(value, dict) else {}


class Launcher(Protocol):
    """Starts one job, and sees it to its end."""

    def start(self) -> Ended:
        """Start the job, or find it where it was started before."""

    def kill(self) -> None:
        """End the job and all that it started."""


class DeferringLauncher(Launcher, Protocol):
    """One that defers the task, where it would wait."""

    def resume(self, event: Mapping[str, object]) -> Ended:
        """Go on after a trigger has fired."""


def error_in(line: str) -> str | None:
    """The reason in a line of a job's log that begins as an error does; None in any other."""
    found = _ERROR.match(line)
    return line[found.end() :].strip() if found else None
