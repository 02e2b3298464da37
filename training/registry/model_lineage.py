"""Checkpoints and models as data sets of lineage: what a job has read and written of them.

A model is the data set of all artifacts of its name; a version of it is an artifact. An alias is a
data set, too: a promotion reads a version of the model and writes the alias.
"""

import contextlib
import datetime
from urllib.parse import urlsplit

from features.lineage import observed
from features.lineage.observed import Dataset, DayRows, Kind, ModelFacts
from features.places import Place, uri
from training.artifact.manifest import ArtifactError, Manifest, read_manifest
from training.checkpoint.catalog import Checkpoint

_SQLITE = "sqlite:///"


def address_of(tracking: str) -> str:
    """A registry's place, without credentials: of a server, or of a database's file."""
    if tracking.startswith(_SQLITE):
        return tracking.removeprefix(_SQLITE)
    url = urlsplit(tracking)
    return f"mlflow://{url.netloc.rpartition('@')[2]}{url.path.rstrip('/')}"


def checkpoint_dataset(found: Checkpoint) -> Dataset:
    """A checkpoint, whose version is the run that wrote its tensors."""
    manifest = found.manifest
    return Dataset(
        where=uri(found.path),
        kind=Kind.MODEL,
        sub_kind="CHECKPOINT",
        version=manifest.tensors or manifest.mlflow_run,
        model=ModelFacts(
            recipe=found.recipe_name,
            metrics=_known(manifest.metrics),
            parents=manifest.family,
            checkpoint=found.name,
            trained_through=manifest.trained_through,
            schema_fingerprint=manifest.schema_fingerprint,
            config=manifest.recipe,
        ),
    )


def model_dataset(manifest: Manifest, artifact: Place) -> Dataset:
    """A version of a model, from its artifact."""
    return Dataset(
        where=uri(artifact.parent),
        kind=Kind.MODEL,
        sub_kind="ARTIFACT",
        version=manifest.version,
        model=ModelFacts(
            recipe=manifest.recipe,
            metrics=_known(manifest.metrics),
            parents=manifest.parents,
            checkpoint=manifest.checkpoint,
            trained_through=manifest.trained_through,
            schema_fingerprint=manifest.schema_fingerprint,
            config=manifest.config,
        ),
    )


def note_trained(found: Checkpoint, parent: Checkpoint | None, lake: Place) -> None:
    """A training has read examples and its parent, and has written a checkpoint.

    Its ranks read in processes of their own, so it is the manifest that says what they have read.

    Args:
        found: What it wrote.
        parent: What it went on from, if that is still there; None: nothing.
        lake: The tables of the data set.
    """
    days = {
        datetime.date.fromisoformat(day): DayRows(content_hash)
        for day, content_hash in found.manifest.partitions.items()
    }
    for table, version in found.manifest.table_versions.items():
        observed.read(Dataset(where=uri(lake / table), version=str(version), days=days))
    if parent is not None:
        observed.read(checkpoint_dataset(parent))
    observed.wrote(checkpoint_dataset(found))


def note_exported(manifest: Manifest, artifact: Place) -> None:
    """An export has written a version of the model."""
    observed.wrote(model_dataset(manifest, artifact))


def note_model_read(artifact: Place) -> None:
    """A job has read a version of a model; nothing is said of one that is gone."""
    if observed.is_observing():
        with contextlib.suppress(ArtifactError):
            observed.read(model_dataset(read_manifest(artifact), artifact))


def note_alias(address: str, alias: str, artifact: Place) -> None:
    """An alias has been moved to a version.

    Args:
        address: Of the registry, without credentials.
        alias: The model's name and the alias, as MLflow writes them: ``name@alias``.
        artifact: The folder of the version.
    """
    observed.wrote(
        Dataset(
            where=f"{address}/{alias}",
            kind=Kind.MODEL,
            sub_kind="ALIAS",
            version=artifact.name,
            model=ModelFacts(alias=alias.partition("@")[2]),
        )
    )


def _known(metrics: dict[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if value is not None}
