"""A user's row of a checkpoint is as in an untrained ranker; all other bits are what they were."""

import dataclasses

import pyarrow as pa
import pytest
import torch
from support.training.saved_anywhere import manifest, randomise, session

from features.datasets.catalog import schema_of
from features.encoding.primitives import embedding_rows
from training.checkpoint import catalog
from training.checkpoint.catalog import MANIFEST, Checkpoint, CorruptError
from training.checkpoint.storage import TensorsReader
from training.checkpoint.tensors import load_tensors, save, training_state
from training.distributed.embedding_plan import fill_tables, table_of
from training.distributed.process_group import process_group
from training.erasure import embedding_row
from training.erasure.embedding_row import reset_row, row_of_user

SCHEMA = schema_of("synthetic")
USER = 4_711
DAY = "2025-01-01"


class KilledError(BaseException):
    """Stands for a signal: nothing is cleaned up."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A trained ranker as far as bits tell, saved; and an untrained one of the same recipe."""
    from features.places import place

    with process_group():
        mine, fresh = session(), session()
        randomise(mine, seed=1)
        fill_tables(fresh.model, fresh.recipe)
        root = place(tmp_path_factory.mktemp("checkpoints"))
        of = manifest(recipe=mine.recipe.to_dict())
        checkpoint = save(root, training_state(mine.model, mine.optimizer), of, DAY)
        untrained = save(root, training_state(fresh.model, fresh.optimizer), of, "2025-01-02")
        yield checkpoint, tensors_of(untrained)


@pytest.fixture
def checkpoint(saved, tmp_path):
    """A copy that a test may change."""
    import shutil

    from features.places import place

    return Checkpoint.at(place(shutil.copytree(saved[0].path, tmp_path / DAY)))


def tensors_of(checkpoint) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint, whole."""
    metadata = TensorsReader(checkpoint.tensors).read_metadata().state_dict_metadata
    whole = {
        name: torch.empty(one.size, dtype=one.properties.dtype)
        for name, one in metadata.items()
        if hasattr(one, "chunks")
    }
    load_tensors(whole, checkpoint.tensors, no_dist=True)
    return whole


def test_the_row_begins_anew_and_all_other_bits_stay(saved, checkpoint):
    before, untrained = tensors_of(checkpoint), saved[1]
    changed = reset_row(checkpoint, SCHEMA, USER)
    now = Checkpoint.at(checkpoint.path)
    now.verify()
    after, row = tensors_of(now), row_of_user(SCHEMA, USER)
    assert (row.table, row.number) == ("user_id", embedding_rows(SCHEMA.user, pa.array([USER]))[0])
    assert before.keys() == after.keys()
    of_user = {name for name in before if table_of(name) == "user_id"}
    assert changed.keys() == of_user
    assert any("momentum" in name for name in of_user)
    for name, value in before.items():
        if name not in of_user:
            assert torch.equal(after[name], value), name
            continue
        rows = torch.arange(len(value)) != row.number
        assert torch.equal(after[name][rows], value[rows]), name
        assert torch.equal(after[name][row.number], untrained[name][row.number]), name
        assert not torch.equal(after[name][row.number], value[row.number]), name
    assert {file.name for file in now.path.iterdir()} == {MANIFEST, now.manifest.tensors}
    assert dataclasses.replace(now.manifest, files={}, tensors="") == dataclasses.replace(
        checkpoint.manifest, files={}, tensors=""
    )


def test_a_second_time_nothing_is_left_to_reset(checkpoint):
    reset_row(checkpoint, SCHEMA, USER)
    once = Checkpoint.at(checkpoint.path)
    assert reset_row(once, SCHEMA, USER) == {}
    assert Checkpoint.at(checkpoint.path) == once


@pytest.mark.parametrize("where", ["before the manifest", "after it"])
def test_a_kill_leaves_a_whole_checkpoint_and_the_next_run_finishes(checkpoint, monkeypatch, where):
    def killed(*_, **__):
        raise KilledError

    with monkeypatch.context() as patched:
        module, name = (
            (embedding_row, "publish")
            if where == "before the manifest"
            else (catalog, "remove_folder")
        )
        patched.setattr(module, name, killed)
        with pytest.raises(KilledError):
            reset_row(checkpoint, SCHEMA, USER)
    found = Checkpoint.at(checkpoint.path)
    found.verify()
    assert bool(reset_row(found, SCHEMA, USER)) == (where == "before the manifest")
    Checkpoint.at(checkpoint.path).verify()


def test_a_damaged_checkpoint_is_refused(checkpoint):
    file = next(one for one in checkpoint.tensors.iterdir() if one.name.endswith(".distcp"))
    file.write_bytes(b"x" + file.read_bytes()[1:])
    with pytest.raises(CorruptError, match="sha256"):
        reset_row(checkpoint, SCHEMA, USER)


def test_a_table_of_another_length_has_the_row_where_its_encoder_put_it():
    shorter = dataclasses.replace(SCHEMA.user, hash_size=1_000)
    (expected,) = embedding_rows(shorter, pa.array([USER])).tolist()
    assert row_of_user(SCHEMA, USER, 1_001).number == expected
