"""Files of a table that its newest version does not name, and that have rows of a user.

A superseded version keeps its files until a vacuum, and a pinned one for as long as somebody needs
it. Those with a user's rows go at once, alone: a vacuum without a grace time would also take what
running jobs have written and not yet committed.
"""

import datetime
import json
from collections.abc import Iterator
from typing import NamedTuple

import pyarrow.fs as pafs

from features.erasure.marks import Marks
from features.erasure.rows import found_in
from features.lake import candidate
from features.lake.pins import pins, remove_pin
from features.lake.snapshot import listed, open_table, snapshot
from features.places import Place, arrow_file

_LOG = "_delta_log"


class OldFile(NamedTuple):
    """A file with rows of a user that the newest version does not name."""

    path: str
    """Of the table's file system."""
    written: datetime.datetime
    rows: int


class Cleared(NamedTuple):
    """What ``clear`` has removed, and what it has left."""

    files: int
    candidates: list[str]
    """First and last day of those that were not published and had the user's rows."""
    pins: list[str]
    """Of versions that lost a file: they cannot be read any more."""
    left: list[OldFile]
    """Files, of candidates too, that a running job may be about to publish."""


def old_files(root: Place, marks: Marks) -> list[OldFile]:
    """Files of a table's folder, but those of the newest version, that have rows of a user."""
    files, folder = arrow_file(root)
    named = set(_newest_files(root))
    entries = files.get_file_info(pafs.FileSelector(folder, recursive=True, allow_not_found=True))
    found = []
    for entry in entries:
        is_rows = entry.is_file and entry.extension == "parquet" and f"/{_LOG}/" not in entry.path
        if is_rows and entry.path not in named:
            counted = found_in(files, entry.path, marks)
            if counted:
                found.append(OldFile(entry.path, entry.mtime, counted.rows + counted.named_in))
    return found


def free_and_left(
    root: Place, marks: Marks, *, grace: datetime.timedelta
) -> tuple[list[OldFile], list[OldFile]]:
    """The old files of a table with rows of a user: those that may go, and those that may not yet.

    A file that a version has named is nobody's any more, or a reader's, who gets an error and
    begins again. One that none has named may be that of a job which is about to commit: it stays
    while it is younger than the grace time, for a commit of a file that is gone breaks the table.
    """
    found, before = old_files(root, marks), datetime.datetime.now(datetime.UTC) - grace
    _, folder = arrow_file(root)
    known = _ever_named(root) if any(one.written > before for one in found) else set()
    free: list[OldFile] = []
    left: list[OldFile] = []
    for one in found:
        is_free = one.written <= before or one.path.removeprefix(f"{folder}/") in known
        (free if is_free else left).append(one)
    return free, left


def delete_files(root: Place, files: list[OldFile]) -> None:
    """Delete files of a table."""
    filesystem, _ = arrow_file(root)
    for one in files:
        filesystem.delete_file(one.path)


def clear(lake: Place, table: str, marks: Marks, *, grace: datetime.timedelta) -> Cleared:
    """Remove the old files of a table with rows of a user, and what cannot be read without them.

    Args:
        lake: The tables of a data set.
        table: The table.
        marks: Which rows are the user's.
        grace: More than the longest job takes; zero where none runs. See ``free_and_left``.
    """
    free, left = free_and_left(lake / table, marks, grace=grace)
    # Before the files: who reads a manifest must find what it lists.
    candidates = _remove_candidates(lake, table, {one.path for one in free})
    delete_files(lake / table, free)
    return Cleared(len(free), candidates, _remove_pins(lake, table), left)


def _remove_candidates(lake: Place, table: str, paths: set[str]) -> list[str]:
    _, folder = arrow_file(lake / table)
    removed = []
    for name in candidate.candidates(lake, table):
        manifest = lake / candidate.FOLDER / table / f"{name}.json"
        content = json.loads(manifest.read_bytes())
        if any(f"{folder}/{file['path']}" in paths for file in content["files"]):
            manifest.unlink(missing_ok=True)
            removed.append(name)
    return removed


def _remove_pins(lake: Place, table: str) -> list[str]:
    """Remove the pins of versions of which a file is gone; they protect nothing that is whole."""
    removed = []
    for pin in pins(lake, table):
        try:
            snapshot(lake / table, pin.version).require_files()
        except ValueError:
            remove_pin(lake, pin)
            removed.append(pin.name)
    return removed


def _newest_files(root: Place) -> Iterator[str]:
    """Paths of the files of the newest version."""
    table, (_, folder) = open_table(root), arrow_file(root)
    if table is not None:
        for path in table.get_add_actions(flatten=True).column("path").to_pylist():
            yield f"{folder}/{path}"


def _ever_named(root: Place) -> set[str]:
    """Paths, relative to the table's folder, that the log has ever named."""
    named = set()
    for name, _ in listed(root / _LOG):
        if name.endswith(".json") and name[0].isdigit():
            for line in (root / _LOG / name).read_text().splitlines():
                action = json.loads(line)
                if "add" in action:
                    named.add(action["add"]["path"])
    return named
