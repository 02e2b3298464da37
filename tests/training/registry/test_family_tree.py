"""The family tree: nearest known ancestors, costs, and the positions in a drawing."""

import dataclasses
import datetime
import json

import pytest
from support.training.manifests import write

from features.datasets.catalog import schema_of
from training.artifact.manifest import MANIFEST, Manifest
from training.checkpoint.catalog import CONTROL, GROWN, Checkpoints
from training.evaluation.family_page import write_family_page
from training.recipes import recipe_of
from training.registry.family_tree import family, lanes
from training.registry.mlflow_registry import Registry

SCHEMA = schema_of("synthetic")
LARGE = "wukong-tiny-x2"
GROWTH = {"changes": ["stack: l 2 to 3"]}


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """Five days; of one only the artifact is left, of two nothing. One grew and was tried."""
    root = tmp_path_factory.mktemp("family")
    known = Checkpoints(root / "checkpoints", SCHEMA)
    day = datetime.date(2025, 1, 3)
    gone = ["2025-01-01", "2025-01-02"]
    write(known, "2025-01-03", through=day, family=gone, metrics={"log_loss": 0.5})
    write(known, "2025-01-04", through=day, family=[*gone, "2025-01-03"])
    write(
        known, "2025-01-06", through=day, family=[*gone, "2025-01-03", "2025-01-04", "2025-01-05"]
    )
    grown = f"2025-01-03-{LARGE}"
    write(known, grown, through=day, family=[*gone, "2025-01-03"], recipe=LARGE, growth=GROWTH)
    trial = [*gone, "2025-01-03"]
    write(known, "2025-01-06-control-x", through=day, family=trial, role=CONTROL)
    large = {"recipe": LARGE, "role": GROWN}
    write(known, "2025-01-06-grown-x", through=day, family=[*trial, grown], **large)
    manifest = Manifest(
        version="2025-01-02-0123abcd",
        dataset=SCHEMA.name,
        schema_fingerprint=SCHEMA.fingerprint(),
        day="2025-01-02",
        trained_through="2025-01-01",
        recipe="wukong-tiny",
        config=recipe_of("wukong-tiny").to_dict(),
        parents=["2025-01-01"],
        metrics={"log_loss": 0.6},
        mlflow_run="",
        content_sha256={},
        checkpoint="2025-01-02",
    )
    artifact = root / "artifacts" / SCHEMA.name / manifest.version
    artifact.mkdir(parents=True)
    (artifact / MANIFEST).write_text(json.dumps(dataclasses.asdict(manifest)))
    registry = Registry(root / "mlflow", SCHEMA.name)
    found = family(SCHEMA, registry, checkpoints=root / "checkpoints", artifacts=root / "artifacts")
    return {member.name: member for member in found}


def test_a_parent_that_is_gone_is_bridged_and_counted(members):
    oldest, newest = members["2025-01-02"], members["2025-01-06"]
    assert (oldest.parent, oldest.generations_gone) == (None, 1)
    assert (newest.parent, newest.generations_gone) == ("2025-01-04", 1)


def test_of_a_ranker_whose_checkpoint_is_gone_its_artifact_is_read(members):
    oldest, child = members["2025-01-02"], members["2025-01-03"]
    assert (oldest.log_loss, oldest.examples, oldest.recipe) == (0.6, None, "wukong-tiny")
    assert oldest.dense_parameters == child.dense_parameters
    assert (child.parent, child.generations_gone, child.log_loss) == ("2025-01-02", 0, 0.5)


def test_what_grew_costs_more_and_names_what_grew(members):
    small, large = members["2025-01-03"], members[f"2025-01-03-{LARGE}"]
    assert large.grown == ("stack: l 2 to 3",)
    assert large.examples is None
    assert large.dense_parameters > small.dense_parameters
    assert large.dense_training_flops > small.dense_training_flops
    assert members["2025-01-06-grown-x"].grown == ()


def test_only_growth_and_controls_leave_the_lane(members):
    places = lanes(list(members.values()))
    daily = ["2025-01-02", "2025-01-03", "2025-01-04", "2025-01-06"]
    assert [places[name] for name in daily] == [(0, 0), (1, 0), (2, 0), (3, 0)]
    branch = places[f"2025-01-03-{LARGE}"]
    assert branch[0] == 2
    assert places["2025-01-06-grown-x"] == (3, branch[1])
    assert len({0, branch[1], places["2025-01-06-control-x"][1]}) == 3


def test_the_drawing_has_every_member_and_every_descent(members, tmp_path):
    page = write_family_page(tmp_path, SCHEMA.name, list(members.values()))
    content = (tmp_path / page).read_text()
    assert (content.count("<circle"), content.count("<line")) == (7, 6)
    assert content.count("stroke-dasharray") == 1  # the descent with a gap


def test_no_rankers_yet_is_an_empty_page(tmp_path):
    page = write_family_page(tmp_path, SCHEMA.name, [])
    assert "no rankers yet" in (tmp_path / page).read_text()
