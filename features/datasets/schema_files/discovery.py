"""Where schema files are found: ``RANKING_SCHEMAS``, installed packages, the built-in ones.

A file is named as its data set, so that to find one no other is read.
"""

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
        # Found without an import: a package of files runs no code of its own.
        try:
            spec = importlib.util.find_spec(entry.module)
        except ModuleNotFoundError as error:  # of a dotted name the part before it is imported
            raise ValueError(f"{words}: is no package; {error}") from error
        if spec is None or not spec.submodule_search_locations:
            raise ValueError(f"{words}: is no package with a folder; {GROUP} names packages")
        for folder in spec.submodule_search_locations:
            yield words, Path(folder)
    yield f"built in, {BUILT_IN}", BUILT_IN


def files_of(place: Path, words: str) -> list[Path]:
    """The schema files of a folder, or the file itself; ValueError where it is neither."""
    if place.is_dir():
        return sorted(path for path in place.iterdir() if path.suffix in SUFFIXES)
    if place.suffix not in SUFFIXES:
        raise ValueError(
            f"{words}: is no folder and no file that ends with {' or '.join(SUFFIXES)}"
        )
    if not place.is_file():
        raise ValueError(f"{words}: there is no such file")
    return [place]
