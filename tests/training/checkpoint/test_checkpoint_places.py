"""A checkpoint is whole or not there, on a disk and in an object store, whoever is killed when."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from support.training.commands import torchrun
from support.training.saved_anywhere import local_tensors, manifest, randomise, session

from features.datasets.catalog import schema_of
from features.places import put_whole
from training.checkpoint import catalog, tensors
from training.checkpoint.catalog import MANIFEST, Checkpoint, Checkpoints, CorruptError, prune
from training.checkpoint.tensors import (
    CheckpointError,
    load_tensors,
    load_training_state,
    load_whole,
    save,
)
from training.distributed.process_group import process_group
from training.model.inputs import inputs_of
from training.model.ranker import Ranker
from training.recipes import recipe_of
from training.trainer.in_run_checkpoint import Position, Progress

SCHEMA = schema_of("synthetic")
SCRIPT = Path(__file__).parents[2] / "support" / "training" / "saved_anywhere.py"
DAY = "2025-01-01"


@pytest.fixture
def group():
    with process_group():
        yield


class KilledError(BaseException):
    """Stands for a signal: nothing is cleaned up."""


def killed(*_, **__):
    raise KilledError


def written(root, value, name=DAY):
    return save(root, {"model": {"a": torch.full((9,), value)}}, manifest(), name)


def folders_of(place):
    """What has files below a place; the S3 server lists folders that have none any more."""
    files = place.fs.find(place.path)
    names = (file.removeprefix(place.path).strip("/").partition("/")[0] for file in files)
    return set(filter(None, names))


def value_of(checkpoint):
    found = {"model": {"a": torch.zeros(9)}}
    load_tensors(found, checkpoint.tensors)
    (value,) = found["model"]["a"].unique()
    return float(value)


@pytest.mark.distributed
def test_what_two_ranks_save_two_and_one_load_with_the_same_bits(anywhere, group):
    torchrun(SCRIPT, anywhere, DAY)
    saved = Checkpoint.at(anywhere / DAY)
    files = {".metadata", "__0_0.distcp", "__1_0.distcp"}
    assert {file.name for file in saved.tensors.iterdir()} == saved.manifest.files.keys() == files
    saved.verify()
    one, whole = session(), Ranker(inputs_of(SCHEMA), recipe_of("wukong-tiny").model)
    load_training_state(saved.tensors, one.model, one.optimizer)
    load_whole(saved.tensors, whole)
    resharded = local_tensors(one)
    for name, value in whole.state_dict().items():
        assert torch.equal(resharded[f"model.{name}"].view(value.shape), value), name
    assert len(whole.embeddings.embedding_bags["item_id"].weight.unique(dim=0)) > 90_000


@pytest.mark.parametrize("before", [None, 1.0])
def test_a_writer_killed_before_the_manifest_changes_nothing_and_the_next_one_cleans(
    anywhere, group, monkeypatch, before
):
    known = Checkpoints(anywhere, SCHEMA)
    if before:
        written(known.root, before)
    with monkeypatch.context() as patched:
        patched.setattr(tensors, "publish", killed)
        with pytest.raises(KilledError):
            written(known.root, 2.0)
    assert [value_of(found) for found in known.all()] == ([before] if before else [])
    assert len(folders_of(known.root / DAY)) == (3 if before else 1)
    again = written(known.root, 3.0)
    assert known.all() == [again]
    assert value_of(again) == 3.0
    assert folders_of(again.path) == {MANIFEST, again.manifest.tensors}


def test_a_writer_killed_after_the_manifest_has_replaced_the_checkpoint(
    anywhere, group, monkeypatch
):
    before = written(anywhere, 1.0)
    with monkeypatch.context() as patched:
        patched.setattr(catalog, "remove_folder", killed)
        with pytest.raises(KilledError):
            written(anywhere, 2.0)
    now = Checkpoint.at(anywhere / DAY)
    assert (value_of(before), value_of(now)) == (1.0, 2.0)
    again = written(anywhere, 3.0)
    assert folders_of(again.path) == {MANIFEST, again.manifest.tensors}
    with pytest.raises(CheckpointError):
        value_of(now)
    with pytest.raises(CorruptError, match="no file"):
        now.verify()


def test_a_checkpoint_of_before_there_were_folders_of_tensors_loads_and_is_replaced(
    anywhere, group
):
    now = written(anywhere, 1.0)
    for file in list(now.tensors.iterdir()):
        file.rename(now.path / file.name)
    values = dataclasses.asdict(now.manifest)
    del values["tensors"]
    put_whole(now.path / MANIFEST, json.dumps(values).encode())
    before = Checkpoint.at(now.path)
    assert before.tensors == before.path
    before.verify()
    assert value_of(before) == 1.0
    again = written(anywhere, 2.0)
    assert value_of(again) == 2.0
    assert folders_of(again.path) == {MANIFEST, again.manifest.tensors}


def test_pruning_removes_what_killed_writers_of_that_age_left(anywhere, group, monkeypatch):
    known = Checkpoints(anywhere, SCHEMA)
    for day in ("2025-01-02", "2025-01-03", "2025-01-04"):
        written(known.root, 1.0, day)
    with monkeypatch.context() as patched:
        patched.setattr(tensors, "publish", killed)
        for day in ("2025-01-01", "2025-01-05"):
            with pytest.raises(KilledError):
                written(known.root, 2.0, day)
    assert prune(known.root, keep=1, in_use={"2025-01-03"}) == ["2025-01-02"]
    assert folders_of(known.root) == {"2025-01-03", "2025-01-04", "2025-01-05"}


def test_a_killed_run_goes_on_from_its_last_whole_save_with_the_same_bits(anywhere, group):
    def progress():
        return Progress(anywhere / ".running-day", {"run": 1}, at_most=4)

    ranker, going = session(), progress()
    assert going.restore(ranker) == Position()
    for step in range(1, 7):
        randomise(ranker, seed=step)
        if step == 4:
            going.wait()
            expected = {name: value.clone() for name, value in local_tensors(ranker).items()}
        going.after_step(ranker, Position(step=step, batch=step))
    going.wait()
    assert folders_of(going.folder) == {"last_step", "000000004", "000000006"}
    (going.folder / "000000006" / MANIFEST).unlink()
    resumed, goes_on = session(), progress()
    assert goes_on.restore(resumed).step == 4
    found = local_tensors(resumed)
    compared = [name for name in expected if not name.startswith("dense_optimizer")]
    assert all(torch.equal(found[name], expected[name]) for name in compared)
    goes_on.after_step(resumed, Position(step=8, batch=8))
    goes_on.wait()
    assert folders_of(going.folder) == {"last_step", "000000004", "000000008"}
    goes_on.remove()
    assert folders_of(anywhere) == set()
