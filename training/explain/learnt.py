"""What a version has learnt: its artifact, its checkpoint and those before it, their days."""

import dataclasses
import datetime
from collections import Counter

from features.lake.snapshot import Snapshot, snapshot
from features.places import Place, uri
from features.schema import Schema
from training.artifact.manifest import ArtifactError, Manifest, read_manifest
from training.checkpoint.catalog import IMMATURE, Checkpoint, Checkpoints
from training.data.dataset import TABLE as EXAMPLES

IMMATURE_EXAMPLES = f"{EXAMPLES}_immature"
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
        if not self.is_there:
            return "gone by retention; its days are not known any more"
        if not self.days:
            return "no day: it grew"
        counted = Counter(day.now for day in self.days)
        now = ", ".join(f"{number} {name}" for name, number in sorted(counted.items()))
        return f"{self.days[0].day} to {self.days[-1].day}: {len(self.days)} days, now {now}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Learnt:
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
) -> Learnt:
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
        return Learnt(version=version, artifact=uri(artifact), manifest=None)
    known = Checkpoints(checkpoints, schema)
    own = manifest.checkpoint or manifest.day
    names = dict.fromkeys([*manifest.parents, own])
    line = tuple(_ancestor(known.find(name), name, lake / schema.name) for name in names)
    return Learnt(version=version, artifact=uri(artifact), manifest=manifest, line=line)


def _ancestor(found: Checkpoint | None, name: str, lake: Place) -> Ancestor:
    if found is None:
        return Ancestor(name=name, is_there=False)
    manifest = found.manifest
    table = IMMATURE_EXAMPLES if manifest.role == IMMATURE else EXAMPLES
    version = manifest.table_versions.get(table)
    return Ancestor(
        name=name,
        is_there=True,
        recipe=found.recipe_name,
        role=manifest.role,
        parent=manifest.parent,
        trained_through=manifest.trained_through,
        examples=manifest.examples,
        mlflow_run=manifest.mlflow_run,
        table=table,
        table_version=version,
        is_version_readable=None if version is None else _is_readable(lake / table, version),
        days=_days(snapshot(lake / table), manifest.partitions),
    )


def _days(newest: Snapshot, partitions: dict[str, str]) -> tuple[LearntDay, ...]:
    wanted = {datetime.date.fromisoformat(day): text for day, text in sorted(partitions.items())}
    there = newest.partitions([day for day in wanted if newest.files(day)])

    def now(day: datetime.date, content_hash: str) -> str:
        if day not in there:
            return "gone"
        known = (there[day].content_hash, there[day].stands_for)
        return "same" if content_hash in known else "replaced"

    return tuple(
        LearntDay(day=str(day), content_hash=text, now=now(day, text))
        for day, text in wanted.items()
    )


def _is_readable(root: Place, version: int) -> bool:
    try:
        snapshot(root, version).require_files()
    except ValueError:
        return False
    return True
