"""All checkpoints and artifacts of a data set: a user's row reset, what cannot be is named."""

import dataclasses
import datetime
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from features.encoding.primitives import embedding_rows
from features.erasure.proof import Left
from features.lake.snapshot import snapshot
from features.places import Place, arrow_file, remove_folder
from features.schema import Schema
from training.checkpoint.catalog import MANIFEST, Checkpoint, Checkpoints
from training.erasure.artifacts import erase_golden, has_trained_row, versions
from training.erasure.embedding_row import reset_row, row_of_user

IMPRESSIONS = "impressions"
_REPLACED = "a version that is exported from now on is promoted, and `python -m training prune`"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Models:
    """The trained models of a data set, and whose part of them goes."""

    schema: Schema
    user_id: int | str
    lake: Place
    """The tables of the data set."""
    checkpoints: Place
    """Of all data sets, as the next."""
    artifacts: Place
    grace: datetime.timedelta
    """Unfinished saves stay while they are younger: a training may write them."""


def sharing_users(models: Models) -> int:
    """Other users that the lake knows and that are looked up in the same row of the table."""
    schema, user = models.schema, models.schema.user
    row = row_of_user(schema, models.user_id)
    found = snapshot(models.lake / IMPRESSIONS)
    if row is None or user is None:
        return 0
    known = pa.array([], type=None)
    for day in found.days:
        seen = pc.unique(found.read(day, [user.name]).column(user.name))
        known = pc.unique(pa.concat_arrays([known.cast(seen.type), seen]))
    others = known.filter(pc.not_equal(known, models.user_id))
    return int(np.sum(embedding_rows(user, others) == row.number))


def reset_checkpoints(models: Models) -> dict[str, dict[str, int]]:
    """Reset the user's row in every finished checkpoint; the changed tensors by checkpoint."""
    every = trained(models).all()
    found = {one.name: reset_row(one, models.schema, models.user_id) for one in every}
    return {name: tensors for name, tensors in found.items() if tensors}


def clear_unfinished(models: Models) -> tuple[list[str], list[Left]]:
    """Remove what killed trainings have left; what a running one may write is only named.

    Returns:
        The folders that went, and those that did not.
    """
    root, gone, left = models.checkpoints / models.schema.name, [], []
    before = datetime.datetime.now(datetime.UTC) - models.grace
    for folder in _unfinished(root):
        newest = _newest(folder)
        name = str(folder.relative_to(root))
        if newest > before:
            until = (newest + models.grace).isoformat(timespec="minutes")
            left.append(
                Left(
                    what=f"unfinished save {name}",
                    why="a training may be writing it",
                    until=f"its training ends; after {until} the command removes it",
                )
            )
            continue
        remove_folder(folder)
        gone.append(name)
    return gone, left


def erase_artifacts(
    models: Models, planned: dict[str, str], note: Callable[[], None]
) -> tuple[dict[str, int], list[Left]]:
    """Remove golden rows of the user; name the versions whose tables have a trained row of theirs.

    Args:
        models: The models.
        planned: By version the hash that its golden request gets; a killed run's, and this one's.
        note: Called when an entry of ``planned`` is new.
    """
    removed: dict[str, int] = {}
    left: list[Left] = []
    for folder in versions(models.artifacts / models.schema.name):

        def keep(digest: str, version: str = folder.name) -> None:
            planned[version] = digest
            note()

        try:
            rows = erase_golden(
                folder, models.schema, models.user_id, keep, planned.get(folder.name, "")
            )
            removed |= {folder.name: rows} if rows else {}
        except ValueError as error:
            left.append(Left(what=str(error), why="it could not be loaded", until=_REPLACED))
        if has_trained_row(folder, models.schema, models.user_id):
            left.append(
                Left(
                    what=f"the user's row in the tables of artifact {folder.name}",
                    why="its name and hashes are of its tables, and it may be answering",
                    until=f"{_REPLACED} removes this one",
                )
            )
    return removed, left


def trained(models: Models) -> Checkpoints:
    """The checkpoints of the data set."""
    return Checkpoints(models.checkpoints, models.schema)


def _unfinished(root: Place) -> list[Place]:
    """Saves of runs that have no checkpoint yet, and tensors that no manifest names."""
    found = list(root.glob(".running-*"))
    for folder in root.glob("[0-9]*"):
        if not (folder / MANIFEST).exists():
            found.append(folder)
            continue
        named = Checkpoint.at(folder).manifest.tensors
        found += [one for one in folder.glob("tensors-*") if named and one.name != named]
    return sorted(found)


def _newest(folder: Place) -> datetime.datetime:
    """When the newest file below a folder was written; long ago where there is none."""
    files, path = arrow_file(folder)
    entries = files.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
    moments = [entry.mtime for entry in entries if entry.is_file]
    return max(moments, default=datetime.datetime.min.replace(tzinfo=datetime.UTC))
