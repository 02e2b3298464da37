"""Runs, versions and aliases in MLflow, which is imported here only."""

import dataclasses
import datetime
import logging
import os
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from filelock import FileLock
from mlflow.entities import Metric
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from features.places import Place, place
from training.artifact.manifest import Manifest
from training.checkpoint.catalog import CONTROL, IMMATURE
from training.registry.aliases import CHALLENGER, PREVIOUS
from training.registry.model_lineage import address_of, note_alias, note_exported, note_model_read

logging.getLogger("alembic").setLevel(logging.WARNING)
logging.getLogger("mlflow").setLevel(logging.WARNING)

_VERSION, _DAY, _DECISION = "artifact_version", "day", "decision"
_CHECKPOINT, _RECIPE, _ROLE = "checkpoint", "recipe", "role"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Version:
    """A registered artifact."""

    version: str
    day: datetime.date
    checkpoint: str
    """Folder name of the checkpoint that it was made of."""
    recipe: str
    """Empty for one that was registered before recipes were noted."""
    role: str
    """In a trial ``grown`` or ``control``; else empty."""
    decision: str
    """The gate's last decision on it; empty where it has not been judged."""
    previous: str = ""
    """The champion that it replaced; empty for one that replaced none."""


class Registry:
    """The MLflow experiment and registered model of one data set."""

    def __init__(self, tracking_dir: Path, dataset: str) -> None:
        """Open, or make, the tracking database under ``tracking_dir``."""
        tracking_dir.mkdir(parents=True, exist_ok=True)
        uri = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{tracking_dir.resolve()}/mlflow.db")
        # MLflow makes and migrates its tables when it opens them; two processes that do so at once
        # leave a database that neither can open.
        with FileLock(tracking_dir / "open.lock"):
            database = tracking_dir / "mlflow.db"
            if uri.endswith(f"{database.resolve()}") and not database.exists():
                # Killed half-way, MLflow leaves a database that it can neither open nor finish.
                part = database.with_suffix(".part")
                for left in tracking_dir.glob(f"{part.name}*"):  # its journal too
                    left.unlink()
                _open_client(f"sqlite:///{part.resolve()}")
                part.rename(database)
            self._client = _open_client(uri)
        self._artifacts = (tracking_dir / "runs").resolve().as_uri()
        self._address = address_of(uri)
        self.name = f"ranker-{dataset}"

    def start_run(
        self, day: datetime.date, parameters: dict[str, object], *, name: str = ""
    ) -> str:
        """A new run of a day, named after it where no name is given; returns its id."""
        experiment = self._client.get_experiment_by_name(self.name)
        experiment_id = (
            experiment.experiment_id
            if experiment
            else self._client.create_experiment(self.name, artifact_location=self._artifacts)
        )
        run = self._client.create_run(
            experiment_id, run_name=name or str(day), tags={_DAY: str(day)}
        )
        for key, value in parameters.items():
            self._client.log_param(run.info.run_id, key, str(value)[:500])
        return str(run.info.run_id)

    def finish_run(
        self,
        run_id: str,
        *,
        metrics: dict[str, float | None],
        tags: dict[str, str],
        curve: list[dict[str, float]],
        succeeded: bool,
    ) -> None:
        """Log what a run measured and end it."""
        now = int(datetime.datetime.now(datetime.UTC).timestamp() * 1000)
        points = [
            Metric(f"training_{name}", value, now, int(point["step"]))
            for point in curve
            for name, value in point.items()
            if name != "step"
        ]
        points += [Metric(f"holdout_{k}", v, now, 0) for k, v in metrics.items() if v is not None]
        for start in range(0, len(points), 1000):
            self._client.log_batch(run_id, metrics=points[start : start + 1000])
        for key, value in tags.items():
            self._client.set_tag(run_id, key, value)
        self._client.set_terminated(run_id, "FINISHED" if succeeded else "FAILED")

    def register(self, manifest: Manifest, directory: Place) -> None:
        """Make an artifact a version of the model, and the challenger; once is enough.

        Its tags name its family: the nearest ancestor that is a version too, and what grew. The
        control of a trial is no challenger: it is never promoted.
        """
        if self._find(manifest.version) is None:
            try:
                self._client.create_registered_model(self.name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            self._client.create_model_version(
                self.name,
                source=directory.absolute().as_uri(),
                run_id=manifest.mlflow_run or None,
                tags=self._tags(manifest),
            )
        note_exported(manifest, directory)
        if manifest.role != CONTROL:
            self._move_alias(CHALLENGER, manifest.version)

    def alias(self, name: str) -> str | None:
        """Artifact version behind an alias; None when nothing has the alias."""
        try:
            return str(self._client.get_model_version_by_alias(self.name, name).tags[_VERSION])
        except MlflowException as error:
            # Neither a missing model nor a missing alias is a fault; a broken database is.
            if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                return None
            raise

    def set_alias(self, name: str, version: str | None) -> None:
        """Move an alias to a version, or away from all with None; ValueError for an unknown one."""
        if version is None:
            self._client.delete_registered_model_alias(self.name, name)
            return
        note_model_read(self._move_alias(name, version))

    def _move_alias(self, name: str, version: str) -> Place:
        """Move an alias to a version; returns the version's artifact."""
        found = self._required(version)
        self._client.set_registered_model_alias(self.name, name, found.version)
        artifact = place(str(found.source))
        note_alias(self._address, f"{self.name}@{name}", artifact)
        return artifact

    def tag(self, version: str, name: str) -> str | None:
        """What a tag of a version says; None without one; ValueError for an unknown version."""
        value = self._required(version).tags.get(name)
        return None if value is None else str(value)

    def set_tag(self, version: str, name: str, value: str | None) -> None:
        """Set a tag of a version, or remove it with None; ValueError for an unknown version."""
        found = self._required(version)
        if value is not None:
            self._client.set_model_version_tag(self.name, found.version, name, value)
        elif name in found.tags:
            self._client.delete_model_version_tag(self.name, found.version, name)

    def version_of(self, day: datetime.date) -> str:
        """The newest version to be served of a day's run, no trial's; ValueError without one."""
        of_day = [v for v in self._versions() if v.tags.get(_DAY) == day.isoformat()]
        versions = [v for v in of_day if v.tags.get(_ROLE, "") in ("", IMMATURE)]
        if not versions:
            raise ValueError(
                f"version of {day}: none in {self.name}; run `python -m training export`"
            )
        return str(max(versions, key=lambda v: int(v.version)).tags[_VERSION])

    def day_of(self, version: str) -> datetime.date:
        """Day of the run that made a version; ValueError for an unknown one."""
        return self.version(version).day

    def version(self, name: str) -> Version:
        """What is known of a version; ValueError for an unknown one."""
        return _version(self._required(name))

    def all(self) -> list[Version]:
        """Every version, the oldest first."""
        return [_version(found) for found in sorted(self._versions(), key=lambda v: int(v.version))]

    def set_decision(self, version: str, decision: str) -> None:
        """Record the gate's decision on a version."""
        found = self._find(version)
        if found is not None:
            self._client.set_model_version_tag(self.name, found.version, _DECISION, decision)

    def _tags(self, manifest: Manifest) -> dict[str, str]:
        versions = {known.checkpoint: known.version for known in self.all()}
        parents = [versions[name] for name in manifest.parents if name in versions]
        tags = {
            _VERSION: manifest.version,
            _DAY: manifest.day,
            _CHECKPOINT: manifest.checkpoint,
            _RECIPE: manifest.recipe,
            _ROLE: manifest.role,
            "parent_version": parents[-1] if parents else "",
            "grown_from": manifest.growth["from"] if manifest.growth else "",
            "grown_to": manifest.growth["to"] if manifest.growth else "",
        }
        return {key: value for key, value in tags.items() if value}

    def _versions(self) -> list[ModelVersion]:
        return list(self._client.search_model_versions(f"name = '{self.name}'", max_results=10_000))

    def _required(self, version: str) -> ModelVersion:
        found = self._find(version)
        if found is None:
            raise ValueError(f"version {version}: not registered in {self.name}")
        return found

    def _find(self, version: str) -> ModelVersion | None:
        return next((v for v in self._versions() if v.tags.get(_VERSION) == version), None)


def _version(found: ModelVersion) -> Version:
    tags = found.tags
    return Version(
        version=tags[_VERSION],
        day=datetime.date.fromisoformat(tags[_DAY]),
        checkpoint=tags.get(_CHECKPOINT, tags[_DAY]),
        recipe=tags.get(_RECIPE, ""),
        role=tags.get(_ROLE, ""),
        decision=tags.get(_DECISION, ""),
        previous=tags.get(PREVIOUS, ""),
    )


def _open_client(uri: str) -> MlflowClient:
    """A client whose database has its tables."""
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.search_experiments(max_results=1)
    client.search_registered_models(max_results=1)
    return client
