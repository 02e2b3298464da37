"""What a version has learnt: its artifact, its checkpoint and those before it, their days."""

import dataclasses
import datetime
from collections import Counter

from features.lake.snapshot import Snapshot, snapshot
from features.places import Place, uri
from features.provenance.learnt import EXAMPLES, Rows, Step, find_learnt, is_as_learnt
from features.schema import Schema
from training.artifact.manifest import ArtifactError, Manifest, read_manifest
from training.checkpoint.catalog import Checkpoint, Checkpoints
from training.checkpoint.learnt_days import step_of

_SHOWN = (
    *("day", "trained_through", "recipe", "schema_fingerprint", "tables", "content_sha256"),
    *("metrics", "mlflow_run"),
)
"""Of an artifact's manifest."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearntDay:
    """A day of examples that entered the weights."""

    day: str
    content_hash: str
    now: str
    """``same``, ``replaced``, or ``gone`` from the newest version of the table."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ancestor:
    """A checkpoint of the line, or what is known of one that is gone."""

    name: str
    is_there: bool
    recipe: str = ""
    role: str = ""
    parent: str | None = None
    trained_through: str = ""
    examples: int = 0
    mlflow_run: str = ""
    table: str = EXAMPLES
    table_version: int | None = None
    """Of the examples that its run read."""
    is_version_readable: bool | None = None
    """Whether all files of that version are there; None: the version is not known."""
    days: tuple[LearntDay, ...] = ()

    @property
    def in_words(self) -> str:
        """Its days, and what has become of them."""
        if not self.days:
            return "no day: it grew" if self.is_there else "gone, and its days are not known"
        counted = Counter(day.now for day in self.days)
        now = ", ".join(f"{number} {name}" for name, number in sorted(counted.items()))
        there = "" if self.is_there else "; the checkpoint is gone by retention"
        return f"{self.days[0].day} to {self.days[-1].day}: {len(self.days)} days, now {now}{there}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearntVersion:
    """A version, and the line of checkpoints behind it."""

    version: str
    artifact: str
    manifest: Manifest | None
    """None: the artifact is gone."""
    line: tuple[Ancestor, ...] = ()
    """The oldest first; its own checkpoint last."""

    def to_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        found = self.manifest
        said: dict[str, object] = vars(found) if found else {}
        shown = {name: said[name] for name in _SHOWN if name in said}
        return {
            "version": self.version,
            "artifact": self.artifact,
            "is_there": found is not None,
            **shown,
            "checkpoints": [dataclasses.asdict(one) for one in self.line],
        }


def learnt_by(
    schema: Schema, version: str, *, artifacts: Place, checkpoints: Place, lake: Place
) -> LearntVersion:
    """What a version has learnt, as far as something is left of it.

    Args:
        schema: The data set.
        version: The version.
        artifacts: The folder of all artifacts.
        checkpoints: The folder of all checkpoints.
        lake: The lake of all data sets.
    """
    artifact = artifacts / schema.name / version
    try:
        manifest = read_manifest(artifact)
    except ArtifactError:
        return LearntVersion(version=version, artifact=uri(artifact), manifest=None)
    known, root = Checkpoints(checkpoints, schema), lake / schema.name
    own = manifest.checkpoint or manifest.day
    names = dict.fromkeys([*manifest.parents, own])
    recorded = find_learnt(root, own)
    steps = {step.by: step for step in recorded.steps} if recorded else {}
    there = {name: found for name in names if (found := known.find(name)) is not None}
    # Where a record is missing.
    trained = {name: one for name, one in there.items() if not one.manifest.growth}
    steps = {name: step_of(root, schema, one) for name, one in trained.items()} | steps
    line = tuple(_ancestor(there.get(name), name, root, steps.get(name)) for name in names)
    return LearntVersion(version=version, artifact=uri(artifact), manifest=manifest, line=line)


def _ancestor(found: Checkpoint | None, name: str, lake: Place, step: Step | None) -> Ancestor:
    """A checkpoint, and what its training has learnt, by a record or by its manifest."""
    said = Ancestor(name=name, is_there=found is not None)
    if step is not None:
        said = dataclasses.replace(
            said,
            table=step.table,
            table_version=step.version,
            is_version_readable=_is_readable(lake / step.table, step.version),
            days=_days(snapshot(lake / step.table), step.days),
        )
    if found is None:
        return said
    return dataclasses.replace(
        said,
        recipe=found.recipe_name,
        role=found.manifest.role,
        parent=found.manifest.parent,
        trained_through=found.manifest.trained_through,
        examples=found.manifest.examples,
        mlflow_run=found.manifest.mlflow_run,
    )


def _days(newest: Snapshot, rows: Rows) -> tuple[LearntDay, ...]:
    there = newest.partitions([day for day in rows if newest.files(day)])

    def now(day: datetime.date, content_hash: str) -> str:
        if day not in there:
            return "gone"
        return "same" if is_as_learnt(there[day], content_hash) else "replaced"

    return tuple(
        LearntDay(day=str(day), content_hash=content, now=now(day, content))
        for day, content in sorted(rows.items())
    )


def _is_readable(root: Place, version: int | None) -> bool | None:
    if version is None:
        return None
    try:
        snapshot(root, version).require_files()
    except ValueError:
        return False
    return True
