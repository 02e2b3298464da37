"""The journal of a bench: finished runs as JSON lines, found by the hash of what they were made of.

A bench that was ended goes on where it stopped, and a run with another setting has another key. Of
the code only what can change a run counts: the modules that the bench reaches through its imports.
An edit of the gate, or of a page, voids no run.
"""

import functools
import hashlib
import json
import logging
import modulefinder
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from features.places import Place, put_whole

logger = logging.getLogger(__name__)

_ROOT = Path(__file__).parents[2]
_PACKAGES = {"training", "features"}
"""Whose modules a run is made of."""


class Journal:
    """The finished runs of a file, which need not be there yet; ``runs`` has them by key."""

    def __init__(self, path: Place) -> None:
        self.path = path
        lines = whole_lines(path) if path.exists() else []
        self.runs: dict[str, dict[str, Any]] = {
            run["key"]: run for run in map(json.loads, filter(None, lines))
        }

    def add(self, key: str, run: Mapping[str, object]) -> None:
        """Keep a finished run."""
        self.runs[key] = {**run, "key": key}
        append_lines(self.path, [self.runs[key]])


def whole_lines(path: Place) -> list[str]:
    """The lines of a file; a last one that a killed run left unfinished is skipped and logged."""
    lines = path.read_text().split("\n")
    try:
        is_whole = not lines[-1].strip() or bool(json.loads(lines[-1]))
    except ValueError:
        is_whole = False
    if not is_whole:
        logger.warning("%s: the last line is cut off, and skipped", path)
        del lines[-1]
    return lines


def append_lines(path: Place, values: Iterable[Mapping[str, object]]) -> None:
    """Add JSON objects, a line each; a line that a killed run left unfinished is dropped first.

    The file is put anew, as an object store can: of two that add at once, one may lose its lines.
    """
    kept = [line for line in whole_lines(path) if line] if path.exists() else []
    lines = [*kept, *(json.dumps(value) for value in values)]
    put_whole(path, "".join(f"{line}\n" for line in lines).encode())


def hash_of(content: Mapping[str, object]) -> str:
    """Sixteen hexadecimal digits of plain values."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache
def code_hash(module: str) -> str:
    """Hash of a module and of all of this project's that it imports."""
    return hash_of({name: path.read_text() for name, path in reached(module).items()})


def reached(module: str) -> dict[str, Path]:
    """A module and all of this project's that it imports, directly or not, with their files."""
    finder = _ModuleFinder([str(_ROOT)])
    finder.import_hook(module)
    files = {name: vars(found)["__file__"] for name, found in finder.modules.items()}
    return {name: Path(file) for name, file in files.items() if file}


class _ModuleFinder(modulefinder.ModuleFinder):
    """Follows imports of this project alone; in an image all other packages lie beside it."""

    def find_module(
        self, name: str, path: str | None, parent: Any = None
    ) -> tuple[IO[Any] | None, str | None, tuple[str, str, int]]:
        if path is None and name not in _PACKAGES:
            raise ImportError(name)
        return super().find_module(name, path, parent)
