"""What a check finds: sentences with a level, for people and for programs."""

import dataclasses
import enum
from collections.abc import Iterable, Sequence

from features.schema import Severity


class Level(enum.StrEnum):
    """How bad it is."""

    ERROR = "error"
    """The day would stop, or a model would be wrong."""
    WARNING = "warning"
    """Rows would go to quarantine, or a model would be worse."""
    INFO = "info"
    """Good to know."""


LEVEL_OF = {
    Severity.CRITICAL: Level.ERROR,
    Severity.WARNING: Level.WARNING,
    Severity.INFO: Level.INFO,
}
"""What a broken rule of a severity is to a person who has built nothing yet."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was found."""

    level: Level
    key: str
    """Key of the schema file, column, day or file that it is about."""
    topic: str
    """Word for programs, such as ``leak``."""
    said: str
    """What was counted, and what to do."""

    @property
    def sentence(self) -> str:
        """For people."""
        return f"{self.level.value.ljust(7)}  {self.key}: {self.said}"


def as_json(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """For programs."""
    return [
        {"level": str(one.level), "key": one.key, "topic": one.topic, "said": one.said}
        for one in findings
    ]


def page(head: Sequence[str], findings: Sequence[Finding]) -> str:
    """A text page: what was read, then what was found, the worst first."""
    ordered = sorted(findings, key=lambda one: list(Level).index(one.level))
    counts = {level: sum(one.level is level for one in findings) for level in Level}
    said = ", ".join(f"{n} {level}{'s' * (n != 1)}" for level, n in counts.items() if n)
    lines = [*head, "", f"found: {said or 'nothing'}"]
    return "\n".join([*lines, *(one.sentence for one in ordered)])
