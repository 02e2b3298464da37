"""Where schema files are found: ``RANKING_SCHEMAS``, installed packages, the built-in ones.

A file is named as its data set, so that to find one no other is read. A Python file of a folder is
one where its text assigns ``SCHEMA_FILE``: it is parsed for that, and none is run to find another.
"""

import ast
import importlib.metadata
import importlib.util
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

SCHEMAS = "RANKING_SCHEMAS"
"""Variable: files and folders with schema files, separated as in PATH."""
GROUP = "wukong_ranking.schemas"
"""Entry points that each name a package with schema files."""
BUILT_IN = Path(__file__).resolve().parents[1]
SUFFIXES = (".yaml", ".yml")
PYTHON = ".py"
WRITTEN = ".py.yaml"
"""End of the name of the YAML that is written from a Python file, for those who may not run it."""
SCHEMA_FILE = "SCHEMA_FILE"
"""Name of the object that a schema file in Python defines."""


class Found(NamedTuple):
    """The schema files that there are, by the name of their data set."""

    files: Mapping[str, Path]
    places: tuple[str, ...]
    """Where they were looked for, in words."""


def find(environment: Mapping[str, str] = os.environ) -> Found:
    """All schema files.

    Raises:
        ValueError: Two files have one name, or a place is not there.
    """
    files: dict[str, Path] = {}
    places = []
    for words, place in _places(environment):
        places.append(words)
        for path in files_of(place, words):
            known = files.setdefault(path.stem, path)
            # The same file by two ways, such as a folder and a link to it, is one.
            if known != path and not known.samefile(path):
                raise ValueError(
                    f"dataset {path.stem!r}: two schema files have this name, {known} and {path}; "
                    "remove or rename one"
                )
    return Found(files, tuple(places))


def _places(environment: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    named = [part for part in environment.get(SCHEMAS, "").split(os.pathsep) if part]
    for part in named:
        yield f"{SCHEMAS} {part}", Path(part)
    for entry in importlib.metadata.entry_points(group=GROUP):
        words = f"package {entry.value} (entry point {entry.name})"
        # Found without an import: a package of YAML files runs no code of its own.
        try:
            spec = importlib.util.find_spec(entry.module)
        except ModuleNotFoundError as error:  # of a dotted name the part before it is imported
            raise ValueError(f"{words}: is no package; {error}") from error
        folders = [Path(one) for one in (spec and spec.submodule_search_locations) or ()]
        file = Path((spec and spec.origin) or "")
        if not folders and not (file.suffix == PYTHON and _defines(file)):
            raise ValueError(
                f"{words}: is no package with a folder and no module with {SCHEMA_FILE}; {GROUP} "
                "names one of these"
            )
        yield from ((words, folder) for folder in folders or [file])
    yield f"built in, {BUILT_IN}", BUILT_IN


def files_of(place: Path, words: str) -> list[Path]:
    """The schema files of a folder, or the file itself; ValueError where it is neither."""
    if place.is_dir():
        return sorted(path for path in place.iterdir() if _is_schema_file(path))
    if place.suffix not in {*SUFFIXES, PYTHON}:
        ends = " or ".join([*SUFFIXES, PYTHON])
        raise ValueError(f"{words}: is no folder and no file that ends with {ends}")
    if not place.is_file():
        raise ValueError(f"{words}: there is no such file")
    if place.suffix == PYTHON and not _defines(place):
        raise ValueError(f"{words}: assigns no {SCHEMA_FILE}; a schema file in Python does")
    return [place]


def definition_of(tree: ast.Module, name: str = SCHEMA_FILE) -> ast.expr | None:
    """The value that a module assigns to a name at its top level, the last one; else None."""
    found = None
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if isinstance(node, ast.Assign | ast.AnnAssign) and any(
            isinstance(target, ast.Name) and target.id == name for target in targets
        ):
            found = node.value or found
    return found


def _is_schema_file(path: Path) -> bool:
    if path.name.endswith(WRITTEN):
        return False
    # Our own folder has modules of ours, and no schema file in Python.
    is_python = path.suffix == PYTHON and path.parent != BUILT_IN and path.stem != "__init__"
    return path.suffix in SUFFIXES or (is_python and _defines(path))


def _defines(path: Path) -> bool:
    """Whether a module assigns the object, by its text; of a broken one, whether it names it."""
    text = path.read_bytes()
    if SCHEMA_FILE.encode() not in text:
        return False
    try:
        return definition_of(ast.parse(text)) is not None
    except (SyntaxError, ValueError):
        return True
