"""What lineage is told of checkpoints, models and aliases."""

import datetime
import json

import pytest
from support.training import manifests

from features.datasets.catalog import schema_of
from features.lineage.observed import DayRows, Kind, observing
from features.places import place
from training.artifact.manifest import MANIFEST, Manifest
from training.checkpoint.catalog import Checkpoints
from training.registry.aliases import CHALLENGER, CHAMPION
from training.registry.mlflow_registry import Registry
from training.registry.model_lineage import address_of, note_trained

SCHEMA = schema_of("synthetic")
DAY = datetime.date(2025, 1, 6)


@pytest.mark.parametrize(
    ("tracking", "expected"),
    [
        ("sqlite:////var/mlflow/mlflow.db", "/var/mlflow/mlflow.db"),
        ("http://server:5000", "mlflow://server:5000"),
        ("https://user:secret@server/mlflow/", "mlflow://server/mlflow"),
    ],
)
def test_a_registry_has_an_address_without_credentials(tracking, expected):
    assert address_of(tracking) == expected


def test_a_training_reads_examples_and_its_parent_and_writes_a_checkpoint(tmp_path):
    known = Checkpoints(place(tmp_path), SCHEMA)
    manifests.write(known, "2025-01-05", through="2025-01-01", tensors="t1")
    manifests.write(
        known,
        "2025-01-06",
        through="2025-01-06",
        family=("2025-01-05",),
        partitions={str(DAY): "abc"},
        table_versions={"examples": 7},
        tensors="t2",
        metrics={"ne": 0.9, "gauc": None},
    )
    with observing() as seen:
        note_trained(known.named("2025-01-06"), known.named("2025-01-05"), place("/lake/synthetic"))
    examples, parent = seen.inputs
    assert (examples.where, examples.version) == ("/lake/synthetic/examples", "7")
    assert examples.days == {DAY: DayRows("abc")}
    (made,) = seen.outputs
    assert (parent.version, made.version, made.kind) == ("t1", "t2", Kind.MODEL)
    assert made.model.metrics == {"ne": 0.9}
    assert made.model.parents == ["2025-01-05"]


def exported(root, version):
    """An artifact of a version, with a manifest and nothing else."""
    manifest = Manifest(
        version=version,
        dataset=SCHEMA.name,
        schema_fingerprint="f",
        day="2025-01-06",
        trained_through="2025-01-06",
        recipe="wukong-tiny",
        config={},
        parents=[],
        metrics={},
        mlflow_run="",
        content_sha256={},
        checkpoint="2025-01-06",
    )
    folder = place(root) / "artifacts" / SCHEMA.name / version
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text(json.dumps(vars(manifest)))
    return manifest, folder


def test_an_export_writes_a_version_and_a_promotion_reads_it_and_writes_the_alias(tmp_path):
    registry = Registry(tmp_path / "mlflow", SCHEMA.name)
    manifest, folder = exported(tmp_path, "v1")
    with observing() as export:
        registry.register(manifest, folder)
    model, challenger = export.outputs
    assert export.inputs == []
    assert (model.where, model.version) == (str(folder.parent), "v1")
    assert challenger.model.alias == CHALLENGER
    with observing() as promotion:
        registry.set_alias(CHAMPION, "v1")
    (read,), (alias,) = promotion.inputs, promotion.outputs
    assert (read.where, read.version) == (model.where, "v1")
    database = tmp_path / "mlflow" / "mlflow.db"
    assert alias.where == f"{database}/ranker-synthetic@{CHAMPION}"
    assert alias.version == "v1"
