"""The journal of a sweep: finished runs, found by the hash of their code and configuration.

Only code that can change a run counts: the modules that the sweep reaches through its imports. An
edit of the gate, or of a page, voids no run.
"""

import ast
import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

_ROOT = Path(__file__).parents[3]
_PACKAGES = ("training", "features")
_SWEEP = "training.experiments.sweep.sweep"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """One finished run, as the journal has it."""

    key: str
    axis: str
    model: str
    label: str
    learning_rate: float
    seed: int
    valid_ne: float
    test_ne: float
    test_log_loss: float
    examples: int
    seconds: float
    setting: str = ""
    """Hash of the code, the schema and the days: points are of one curve under one setting only."""


class Journal:
    """A file with a line for each finished run; lines are added, never changed.

    Args:
        path: Of the file; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def outcomes(self) -> Iterator[Outcome]:
        """The finished runs in their order."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        for line in lines:
            # A kill may have cut the last line off; its run is done again.
            if line.endswith("}"):
                yield Outcome(**json.loads(line))

    def add(self, outcome: Outcome) -> None:
        """Write a finished run down."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as journal:
            journal.write(json.dumps(dataclasses.asdict(outcome)) + "\n")


def hash_of(content: Mapping[str, object]) -> str:
    """Sixteen hexadecimal digits of plain values."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache
def code_hash() -> str:
    """Hash of this project's modules that a sweep's runs import."""
    found = hashlib.sha256()
    for name, path in sorted(reached(_SWEEP).items()):
        found.update(name.encode() + path.read_bytes())
    return found.hexdigest()[:16]


def reached(name: str) -> dict[str, Path]:
    """A module and all of this project's that it imports, directly or not, with their files."""
    found: dict[str, Path] = {}
    waiting = [name]
    while waiting:
        name = waiting.pop()
        path = _file_of(name)
        if path is None or name in found:
            continue
        found[name] = path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{one.name}" for one in node.names)]
    return found


def _file_of(name: str) -> Path | None:
    """The file of a module of this project; None for any other."""
    if name.partition(".")[0] not in _PACKAGES:
        return None
    path = _ROOT.joinpath(*name.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((one for one in candidates if one.exists()), None)
