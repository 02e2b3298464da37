"""The checkpoints at a place: manifests, descent, and which may go. No tensors, so no torch.

A checkpoint is a folder with a manifest, which is put last, and a folder of tensors, which the
manifest names. One that replaces another of its name has another folder of tensors: the manifest
decides between them, and a reader that goes by one manifest reads tensors of one save. Tensors that
no manifest names are those of a killed writer; the next save of that name, or ``prune``, removes
them.
"""

import contextlib
import dataclasses
import datetime
import hashlib
import json
import logging
from collections.abc import Callable, Container, Mapping
from typing import NotRequired, Self, TypedDict

from features.places import Place, put_whole, remove_folder
from features.schema import Schema
from training.checkpoint.schema_migration import Adoption, AdoptionError, InputsRecord
from training.config.recipe import Recipe

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
GROWN, CONTROL = "grown", "control"
"""Roles in a trial: the ranker that grew, and the un-grown one that it is compared with."""
IMMATURE = "immature"
"""Role of the ranker that has learnt rows whose label was not final, on top of its day's own. No
later day goes on from it: those rows are learnt again when they are mature."""


class CorruptError(ValueError):
    """A checkpoint whose files are not what was written."""


Growth = TypedDict(
    "Growth",
    {
        "parent": str,
        "from": str,
        "to": str,
        "parent_manifest_sha256": str,
        "changes": list[str],
        "max_logit_difference": float,
        "operator": NotRequired[str],
        "new_layers": NotRequired[list[int]],
    },
)
"""How a checkpoint grew: its parent's name, both recipes, the hash of the parent's manifest, what
changed, the largest difference of a logit, how (``training.model.grown_config.Operator``; not
there: exactly), and the numbers of its new layers."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointManifest:
    """What a checkpoint is, beside its tensors."""

    dataset: str
    schema_fingerprint: str
    model_fingerprint: str
    recipe: dict[str, object]
    run_day: str
    """Day whose run wrote it."""
    trained_through: str
    """Last day whose examples, with final labels, entered the weights."""
    trained_days: int
    examples: int
    steps: int
    ranks: int
    parent: str | None
    """Folder name of the checkpoint it was warm started from."""
    family: list[str]
    """Names of its ancestors, the oldest first."""
    partitions: dict[str, str]
    """Content hashes of the example partitions of this run."""
    judged: dict[str, str] = dataclasses.field(default_factory=dict)
    """The same of the days held out, on which it was judged."""
    mlflow_run: str
    metrics: dict[str, float | None]
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    """SHA-256 of each file of tensors."""
    tensors: str = ""
    """Folder of these files, below the checkpoint's; empty: it is the checkpoint's own."""
    inputs: dict[str, object] | None = None
    """What it reads (``training.checkpoint.schema_migration.InputsRecord``), for the days when the
    schema changes."""
    adopted: dict[str, str] = dataclasses.field(default_factory=dict)
    """What was kept, resized or new, where its parent had another schema."""
    growth: Growth | None = None
    """How it grew out of its parent: the parent's name and manifest's hash, the changes, and the
    largest difference of a logit that was measured; None: it was trained."""
    role: str = ""
    """In a trial ``grown`` or ``control``; ``immature``; else empty."""
    immature: dict[str, float] = dataclasses.field(default_factory=dict)
    """Of the role ``immature``, what it learnt (``training.data.immature``)."""
    table_versions: dict[str, int] = dataclasses.field(default_factory=dict)
    """Of the tables of the lake that its run read; pinned for as long as it is there."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A finished checkpoint."""

    path: Place
    manifest: CheckpointManifest

    @classmethod
    def at(cls, path: Place) -> Self:
        """The checkpoint in a folder; FileNotFoundError where none is finished."""
        return cls(path, CheckpointManifest(**json.loads((path / MANIFEST).read_text())))

    @property
    def tensors(self) -> Place:
        """The folder of its tensors."""
        return self.path / self.manifest.tensors

    @property
    def name(self) -> str:
        """Its folder's name."""
        return self.path.name

    @property
    def trained_through(self) -> datetime.date:
        """Last day whose examples, with final labels, entered the weights."""
        return datetime.date.fromisoformat(self.manifest.trained_through)

    @property
    def recipe_name(self) -> str:
        """The recipe that it was trained, or grown, by."""
        return str(self.manifest.recipe["name"])

    def verify(self) -> None:
        """Read all files; CorruptError names one that is missing, cut off or changed."""
        verify_files(self.tensors, self.manifest.files)


class Checkpoints:
    """The checkpoints of one data set.

    A run of day d owns the folder named d; what was grown from it has the target's name behind, and
    what was trained for a trial, or on immature rows, its role and recipe (``checkpoint_name``).
    """

    def __init__(self, root: Place, schema: Schema) -> None:
        """Open the folder; it is made by the first write."""
        self.root = root / schema.name
        self.schema = schema

    def all(self) -> list[Checkpoint]:
        """Finished checkpoints, the oldest run first."""
        return [Checkpoint.at(path.parent) for path in sorted(self.root.glob(f"[0-9]*/{MANIFEST}"))]

    def running(self, name: str) -> Place:
        """Folder of a run that is going to write a checkpoint of this name; gone at its end."""
        return self.root / f".running-{name}"

    def find(self, name: str) -> Checkpoint | None:
        """A checkpoint by its folder's name; None when it is not there."""
        with contextlib.suppress(FileNotFoundError):
            return Checkpoint.at(self.root / name)
        return None

    def named(self, name: str) -> Checkpoint:
        """A checkpoint by its folder's name; ValueError when it is not there."""
        found = self.find(name)
        if found is None:
            have = [checkpoint.name for checkpoint in self.all()]
            raise ValueError(f"checkpoint of {name}: not in {self.root}; there are {have}")
        return found

    def parent_for(
        self,
        recipe: Recipe,
        run_day: datetime.date,
        through: datetime.date,
        *,
        changed_since: datetime.date | None = None,
        order: Callable[[list["Checkpoint"]], list["Checkpoint"]] = list,
    ) -> Checkpoint | None:
        """The newest earlier checkpoint that fits and stopped before ``through``; None: start cold.

        It depends on the day and on earlier runs only, so that a run that is repeated has the same
        parent again. One whose files are damaged is named in the log, and the one before it taken.
        One that has learnt ``changed_since`` or a later day is not: their rows are others now.

        Args:
            recipe: What is to be trained.
            run_day: Day of the run.
            through: Last day to train on.
            changed_since: First day whose rows no parent may have learnt; None: there is none.
            order: Of those that fit, the newest first, the order in which they are tried.
        """
        before = min(through, changed_since or through)
        earlier = [
            checkpoint
            for checkpoint in self.all()
            if checkpoint.manifest.run_day < run_day.isoformat()
            and checkpoint.trained_through < before
            and checkpoint.manifest.model_fingerprint == recipe.model_fingerprint()
            and checkpoint.manifest.role not in (CONTROL, IMMATURE)
        ]
        earlier.sort(key=lambda found: found.trained_through, reverse=True)
        for checkpoint in order(earlier):
            try:
                self.adoption_from(checkpoint)
                checkpoint.verify()
            except (CorruptError, AdoptionError) as error:
                logger.warning("%s; the checkpoint before it is taken", error)
                continue
            return checkpoint
        return None

    def served(self, day: datetime.date) -> str:
        """Name of what a day's run has trained to be served: on top of its own, where it has."""
        own = self.find(str(day))
        name = checkpoint_name(day, role=IMMATURE, recipe=own.recipe_name) if own else ""
        return name if name and self.find(name) else str(day)

    def forget_immature(self, day: datetime.date) -> None:
        """Remove what was trained on top of a day's own checkpoint, which is another one now."""
        for path in list(self.root.glob(f"{day}-{IMMATURE}-*/{MANIFEST}")):
            remove_folder(path.parent, first=MANIFEST)

    def adoption_from(self, checkpoint: Checkpoint) -> Adoption | None:
        """How a checkpoint's inputs lie in the schema's; None: the schema is the same.

        Raises:
            AdoptionError: They do not.
        """
        if checkpoint.manifest.schema_fingerprint == self.schema.fingerprint():
            return None
        if checkpoint.manifest.inputs is None:
            raise AdoptionError(
                f"checkpoint {checkpoint.path}: another schema, and it has no record of its inputs"
            )
        before = InputsRecord.from_dict(checkpoint.manifest.inputs)
        try:
            return Adoption(before, InputsRecord.of(self.schema))
        except AdoptionError as error:
            raise AdoptionError(f"checkpoint {checkpoint.path}: {error}") from error


def checkpoint_name(day: datetime.date, *, role: str, recipe: str) -> str:
    """Folder of what a day's run writes; with its role and recipe behind where it has a role."""
    return f"{day}-{role}-{recipe}" if role else day.isoformat()


def publish(folder: Place, manifest: Mapping[str, object]) -> None:
    """Put the manifest of a folder whose tensors are whole; from now on it counts.

    All that the manifest does not name goes: what it replaces, and what a killed writer left.
    """
    put_whole(folder / MANIFEST, json.dumps(manifest, indent=1).encode())
    for old in list(folder.iterdir()):
        if old.name in (MANIFEST, manifest["tensors"]):
            continue
        if old.is_dir():
            remove_folder(old)
        else:
            old.unlink()


def prune(root: Place, *, keep: int, in_use: Container[str]) -> list[str]:
    """Remove all but the ``keep`` newest checkpoints, or artifacts, of a folder and those in use.

    Folders of that age without a manifest, which killed writers left, go too.

    Returns:
        The names of those that were whole.
    """
    if keep < 1:
        raise ValueError(f"keep: {keep}; at least 1")
    names = sorted(path.parent.name for path in root.glob(f"[0-9]*/{MANIFEST}"))
    # One on top of a day's own stays and goes with its day.
    own = [name for name in names if f"-{IMMATURE}-" not in name] or names
    first_kept = own[-keep:][0] if own else ""
    for path in list(root.glob("[0-9]*")):
        if path.name < first_kept and path.name not in in_use:
            remove_folder(path, first=MANIFEST)
    return [name for name in names if name < first_kept and name not in in_use]


def verify_files(folder: Place, hashes: Mapping[str, str]) -> None:
    """CorruptError unless the folder's files have these hashes."""
    for name, expected in hashes.items():
        path = folder / name
        found = _sha256(path) if path.exists() else "no file"
        if found != expected:
            raise CorruptError(f"checkpoint file {path}: sha256 {found}; expected {expected}")


def _sha256(path: Place) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()
