"""The journal of a sweep: finished runs, found by the hash of their code and configuration.

Only code that can change a run counts: the modules that the sweep reaches through its imports. An
edit of the gate, or of a page, voids no run.
"""

import ast
import dataclasses
import functools
import hashlib
import json
from pathlib import Path

from features.places import Place
from training.experiments.scaling.points import whole_lines

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


def read_outcomes(path: Place) -> dict[str, Outcome]:
    """The finished runs of a journal by key; a file that is not there has none."""
    lines = whole_lines(path) if path.exists() else []
    found = [Outcome(**json.loads(line)) for line in lines if line]
    return {outcome.key: outcome for outcome in found}


def hash_of(content: dict[str, object]) -> str:
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
