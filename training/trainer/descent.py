"""What a run goes on from, and the record of what it has learnt; rank 0 decides, and writes."""

import datetime
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from features.places import Place, place
from training.checkpoint.catalog import Checkpoint, Checkpoints
from training.checkpoint.learnt_days import (
    complete_records,
    mended_checkpoints_first,
    rebuilt_since,
    record_learnt,
)
from training.data.dataset import ExampleTable

if TYPE_CHECKING:
    from training.trainer.trainer import Run

REBUILT = "rebuilt-not-retrained"
"""Alert, and runbook, of a training that went on from days that were made again since."""


def parent_of(
    run: "Run", table: ExampleTable, checkpoints: Checkpoints
) -> tuple[Checkpoint | None, list[datetime.date]]:
    """The checkpoint to go on from, and days in its weights that have other rows by now.

    It is the one that was named; else the newest that fits, after a backfill the one that a
    training has made of the days as they are now; None: start cold.
    """
    lake, version = _lake(table), table.version
    complete_records(lake, checkpoints)
    parent: Checkpoint | None
    if run.parent:
        parent = checkpoints.named(run.parent)
    else:
        parent = checkpoints.parent_for(
            *(run.recipe, run.run_day, run.through),
            changed_since=run.changed_since,
            order=functools.partial(mended_checkpoints_first, lake, version),
        )
    return parent, rebuilt_since(lake, version, parent) if parent else []


def note_learnt(table: ExampleTable, done: Checkpoint) -> None:
    """Write the record of a training that is done; until then nothing was learnt."""
    record_learnt(_lake(table), table.schema, done)


def note_growth(table: ExampleTable, checkpoints: Checkpoints, name: str) -> None:
    """Write the record of what grew; it goes on from its parent's, which may not be there yet."""
    complete_records(_lake(table), checkpoints)
    note_learnt(table, checkpoints.named(name))


def alerts_of(parent: str | None, rebuilt: Sequence[datetime.date]) -> list[dict[str, str]]:
    """What the training of a day raises where it went on from days that have other rows by now."""
    if not rebuilt:
        return []
    what = (
        f"{parent} has learnt {len(rebuilt)} days, {rebuilt[0]} to {rebuilt[-1]}, that were made "
        "again since; no ranker has learnt them as they are, and this training went on from it"
    )
    return [{"alert": REBUILT, "runbook": f"infra/runbooks/{REBUILT}.md", "what": what}]


def _lake(table: ExampleTable) -> Place:
    return place(table.root).parent
