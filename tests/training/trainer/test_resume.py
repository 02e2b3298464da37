"""A training that is killed goes on from where it was, and nothing is lost or done twice."""

import dataclasses
import datetime
import shutil
from pathlib import Path

import pytest
import torch
from support.training.commands import run_command, run_script

from training.checkpoint.catalog import Checkpoints
from training.data.batches import batches
from training.data.dataset import ExampleTable
from training.distributed.process_group import process_group
from training.model.inputs import inputs_of
from training.recipes import recipe_of
from training.trainer.first_rows import FirstRows
from training.trainer.in_run_checkpoint import Position, Progress
from training.trainer.loop import fit
from training.trainer.session import Session

SHORT_DRILL = Path(__file__).parents[2] / "support" / "training" / "short_drill.py"


@pytest.fixture
def table(built) -> ExampleTable:
    return ExampleTable(built.lake, built.schema)


@pytest.fixture
def group():
    with process_group():
        yield


def session_of(built, seed=0) -> Session:
    recipe = recipe_of("wukong-tiny")
    model = dataclasses.replace(recipe.model, dropout=0.3)
    # Every phase of the schedule is in the runs below: where they resume must not change it.
    training = dataclasses.replace(
        recipe.training, seed=seed, shuffle_rows=700, warm_up_share=0.2, decay_share=0.5
    )
    recipe = dataclasses.replace(recipe, model=model, training=training)
    return Session(inputs_of(built.schema), recipe, FirstRows(torch.zeros(1, dense_inputs(built))))


def dense_inputs(built) -> int:
    return len(inputs_of(built.schema).dense)


@pytest.mark.distributed
def test_kills_lose_nothing_and_repeat_nothing(built, tmp_path):
    """The drill itself, short, on two ranks: SIGKILL for one of them, then for all processes."""
    found = run_script(SHORT_DRILL, "kills", built.lake, tmp_path)
    assert found["examples"] > 10_000
    assert (found["kills"], found["examples_lost"], found["examples_repeated"]) == (2, 0, 0)
    assert found["max_loss_difference"] < 1e-6


def test_the_batches_after_a_position_are_those_of_the_whole_pass(table, built):
    options = {"batch_size": 96, "shuffle_rows": 700, "seed": 3}
    whole = [batch.example_id for batch in batches(table, built.days, **options)]
    for skip in (0, 1, 7, 8, 20, len(whole)):
        rest = [b.example_id for b in batches(table, built.days, skip=skip, **options)]
        assert len(rest) == len(whole) - skip
        assert all(torch.equal(a, b) for a, b in zip(whole[skip:], rest, strict=True))


class StoppedError(Exception):
    pass


class StopsAt(Progress):
    """Ends the run as a kill would, after a step whose save, if any, is whole."""

    stop = 0

    def after_step(self, session, position):
        super().after_step(session, position)
        if position.step == self.stop:
            self.wait()
            raise StoppedError


def progress(folder, stop=10**9, identity=None) -> Progress:
    found = StopsAt(folder, identity or {"run": 1}, at_most=10)
    found.stop = stop
    return found


def train(built, table, folder, **options):
    session = session_of(built)
    curve = fit(
        *(session, table, built.days[:3]),
        epochs=2,
        is_warm=False,
        progress=progress(folder, **options),
    )
    return session.snapshot(), curve, session.steps


@pytest.mark.parametrize("stop", [3, 12, 33])
def test_a_resumed_run_ends_with_the_same_bits(built, table, group, tmp_path, stop):
    expected, curve, steps = train(built, table, tmp_path / "whole")
    with pytest.raises(StoppedError):
        train(built, table, tmp_path / "stopped", stop=stop)
    found, resumed_curve, resumed_steps = train(built, table, tmp_path / "stopped")
    assert resumed_steps == steps > 40
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    # The running metrics begin anew; the losses do not.
    assert [p["loss"] for p in resumed_curve] == [p["loss"] for p in curve]


def test_another_run_does_not_take_the_saves(built, table, group, tmp_path):
    with pytest.raises(StoppedError):
        train(built, table, tmp_path, stop=12)
    session = session_of(built)
    assert progress(tmp_path, identity={"run": 2}).restore(session) == Position()
    assert progress(tmp_path).restore(session).step == 10


def test_a_position_in_another_order_of_examples_is_not_taken(
    built, table, group, tmp_path, monkeypatch
):
    with monkeypatch.context() as version_before:
        version_before.setattr("training.trainer.in_run_checkpoint.ORDER", 1)
        with pytest.raises(StoppedError):
            train(built, table, tmp_path, stop=12)
    assert progress(tmp_path).restore(session_of(built)) == Position()


@pytest.mark.parametrize("damage", ["cut off", "one bit", "missing"])
def test_a_damaged_save_is_named_and_the_one_before_taken(
    built, table, group, tmp_path, damage, caplog
):
    with pytest.raises(StoppedError):
        train(built, table, tmp_path, stop=12)
    saves = sorted(tmp_path.glob("*/0*"))
    assert [save.name for save in saves] == ["000000005", "000000010"]
    spoil(next(saves[-1].glob("*/*.distcp")), damage)
    assert progress(tmp_path).restore(session_of(built)).step == 5
    assert "000000010" in caplog.text
    assert "sha256" in caplog.text


def test_a_run_that_goes_on_before_a_damaged_save_puts_a_whole_one_in_its_place(
    built, table, group, tmp_path
):
    with pytest.raises(StoppedError):
        train(built, table, tmp_path, stop=12)
    spoil(next(sorted(tmp_path.glob("*/0*"))[-1].glob("*/*.distcp")), "cut off")
    with pytest.raises(StoppedError):
        train(built, table, tmp_path, stop=10)
    assert progress(tmp_path).restore(session_of(built)).step == 10


def spoil(file: Path, damage: str) -> None:
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "cut off":
        file.write_bytes(content[:-1])
    else:
        content[len(content) // 2] ^= 1
        file.write_bytes(content)


def test_a_half_written_save_is_not_taken(built, table, group, tmp_path):
    with pytest.raises(StoppedError):
        train(built, table, tmp_path, stop=12)
    newest = sorted(tmp_path.glob("*/0*"))[-1]
    half = shutil.copytree(newest, newest.with_name("000000015"))
    (half / "manifest.json").unlink()
    assert progress(tmp_path).restore(session_of(built)).step == 10


@pytest.mark.distributed
def test_a_damaged_parent_is_named_and_the_checkpoint_before_taken(built, tmp_path, caplog):
    shared = ["--dataset=synthetic", f"--lake={built.lake}", f"--checkpoints={tmp_path / 'c'}"]
    folders = [f"--{name}={tmp_path / name}" for name in ("tracking", "reports")]
    for day in built.days[-2:]:
        run_command("train", *shared, *folders, f"--date={day}", "--recipe=wukong-tiny")
    checkpoints = Checkpoints(tmp_path / "c", built.schema)
    older, newer = checkpoints.all()
    tomorrow = built.days[-1] + datetime.timedelta(days=1)
    asked = (recipe_of("wukong-tiny"), tomorrow, built.days[-1])
    assert checkpoints.parent_for(*asked).name == newer.name
    spoil(next(newer.tensors.glob("*.distcp")), "one bit")
    assert checkpoints.parent_for(*asked).name == older.name
    assert newer.name in caplog.text
