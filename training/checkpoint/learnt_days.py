"""Records of what checkpoints have learnt, at the lake, where jobs of features read them.

A record is written as soon as a training is done. One that is missing, as of a training that was
killed between its checkpoint and its record, or of an earlier version, is made of the manifest.
"""

import datetime
from collections.abc import Mapping

from features.lake.snapshot import snapshot
from features.places import Place
from features.provenance.learnt import (
    EXAMPLES,
    Learnt,
    Rows,
    Step,
    find_learnt,
    learnt_otherwise,
    mended_first,
    put_learnt,
    rows_of,
)
from features.schema import Schema
from features.schema.fingerprints import rows_fingerprint
from training.checkpoint.catalog import IMMATURE, Checkpoint, Checkpoints

IMMATURE_EXAMPLES = f"{EXAMPLES}_immature"


def record_learnt(lake: Place, schema: Schema, found: Checkpoint) -> Learnt:
    """Write what a finished checkpoint has learnt, after what its parent has.

    Args:
        lake: The tables of the data set.
        schema: The data set.
        found: The checkpoint.
    """
    manifest = found.manifest
    before = find_learnt(lake, manifest.parent) if manifest.parent else None
    own = step_of(lake, schema, found)
    one = Learnt(
        checkpoint=found.name,
        role=manifest.role,
        run=manifest.mlflow_run,
        at=datetime.datetime.now(datetime.UTC),
        steps=[*(before.steps if before else ()), *([own] if own.days else ())],
        judged={} if manifest.growth else _rows(lake / EXAMPLES, manifest.judged),
    )
    put_learnt(lake, one)
    return one


def complete_records(lake: Place, checkpoints: Checkpoints) -> list[str]:
    """Write the records that finished checkpoints lack; returns their names."""
    missing = [one for one in checkpoints.all() if not _is_recorded(lake, one)]
    # A record goes on from its parent's.
    missing.sort(key=lambda one: len(one.manifest.family))
    for one in missing:
        record_learnt(lake, checkpoints.schema, one)
    return [one.name for one in missing]


def mended_checkpoints_first(
    lake: Place, version: int | None, found: list[Checkpoint]
) -> list[Checkpoint]:
    """Checkpoints as a training should try them, so that it goes on from days made again.

    Args:
        lake: The tables of the data set.
        version: Of the examples; None: the newest.
        found: Those that fit, the newest first.

    Returns:
        As ``mended_first``; those without a record stay behind those that have one.
    """
    by_name = {one.name: one for one in found}
    records = [one for name in by_name if (one := find_learnt(lake, name)) is not None]
    ordered = mended_first(records, snapshot(lake / EXAMPLES, version))
    names = dict.fromkeys([*(one.checkpoint for one in ordered), *by_name])
    return [by_name[name] for name in names]


def rebuilt_since(lake: Place, version: int | None, parent: Checkpoint) -> list[datetime.date]:
    """Days in a checkpoint's weights that have other rows in a version of the examples."""
    one = find_learnt(lake, parent.name)
    return learnt_otherwise(one, snapshot(lake / EXAMPLES, version)) if one else []


def step_of(lake: Place, schema: Schema, found: Checkpoint) -> Step:
    """What a checkpoint's own training has learnt, by its manifest; arguments as above."""
    manifest = found.manifest
    table = IMMATURE_EXAMPLES if manifest.role == IMMATURE else EXAMPLES
    is_same = manifest.schema_fingerprint == schema.fingerprint()
    return Step(
        by=found.name,
        parent=manifest.parent,
        table=table,
        version=manifest.table_versions.get(table),
        fingerprint=rows_fingerprint(schema) if is_same else manifest.schema_fingerprint,
        days={} if manifest.growth else _rows(lake / table, manifest.partitions),
    )


def _rows(root: Place, partitions: Mapping[str, str]) -> Rows:
    """Rows by the hash that they keep when users are erased, where the table still has them."""
    wanted = {datetime.date.fromisoformat(day): content for day, content in partitions.items()}
    newest = snapshot(root)
    there = newest.partitions([day for day in wanted if newest.files(day)])
    return wanted | {
        day: rows_of(part) for day, part in there.items() if part.content_hash == wanted[day]
    }


def _is_recorded(lake: Place, found: Checkpoint) -> bool:
    one = find_learnt(lake, found.name)
    return one is not None and one.run == found.manifest.mlflow_run
