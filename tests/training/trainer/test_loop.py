"""One loop takes every step; who trains hands it batches, a schedule, a rule and a callback."""

import ast
import dataclasses
import itertools
import math
import subprocess
from pathlib import Path

import pytest
import torch

from training.config.recipe import Pipeline
from training.data.batches import batches
from training.data.dataset import ExampleTable
from training.distributed.divergence import DivergedError
from training.distributed.process_group import process_group
from training.model.inputs import inputs_of
from training.recipes import recipe_of
from training.trainer.first_rows import FirstRows
from training.trainer.loop import take_steps
from training.trainer.session import Session

ROOT = Path(__file__).resolve().parents[3]
MAY_CALL = {
    "step": {"training/trainer/loop.py", "training/trainer/session.py"},
    "begin_step": {"training/trainer/loop.py", "training/trainer/session.py"},
    "backward": {"training/trainer/session.py"},
}
"""Where a step of a session or an optimiser, or a backward pass, may be called."""


@pytest.fixture(scope="module")
def group():
    with process_group():
        yield


@pytest.fixture
def stream(built):
    table = ExampleTable(built.lake, built.schema)
    return batches(table, built.days[:2], batch_size=64, shuffle_rows=700, seed=1)


def session_of(built, **training) -> Session:
    recipe = recipe_of("wukong-tiny")
    model = dataclasses.replace(recipe.model, dropout=0.3)
    training = dataclasses.replace(recipe.training, **training)
    recipe = dataclasses.replace(recipe, model=model, training=training)
    dense = torch.zeros(1, len(inputs_of(built.schema).dense))
    return Session(inputs_of(built.schema), recipe, FirstRows(dense))


def callers(name: str) -> set[str]:
    """Modules that call an attribute of this name."""
    listed = subprocess.run(
        ["git", "ls-files", "features/*.py", "training/*.py", "serving/*.py", "infra/bench/*.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {
        path
        for path in listed.stdout.split()
        if (ROOT / path).exists()
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == name
    }


@pytest.mark.parametrize("name", sorted(MAY_CALL))
def test_no_step_is_taken_outside_the_loop(name):
    assert callers(name) <= MAY_CALL[name]
    assert callers(name)


@pytest.mark.parametrize("pipeline", [Pipeline.OFF, Pipeline.ON])
def test_schedule_callback_and_rule_know_the_steps_that_are_done(built, group, stream, pipeline):
    session = session_of(built, pipeline=pipeline)
    asked, rates, rows = [], [], []

    def schedule(done):
        asked.append(done)
        return 0.5 if done < 12 else 0.25

    def after_step(done, step):
        optimizers = (session.optimizer, session.model.fused_optimizer)
        rates.append((done, *(one.param_groups[0]["lr"] for one in optimizers)))
        rows.append(len(step.logits) == len(step.batch.label) and step.loss.isfinite())

    done = take_steps(
        session,
        stream,
        schedule=schedule,
        after_step=after_step,
        until=lambda done: done == 13,
        done=10,
    )
    full = [session.config.dense_learning_rate, session.config.sparse_learning_rate]
    half, quarter = ([one * share for one in full] for share in (0.5, 0.25))
    assert (done, session.steps) == (13, 3)
    assert asked == [10, 11, 12]
    assert rates == [(11, *half), (12, *half), (13, *quarter)]
    assert all(rows)
    # The model has its own forward again.
    assert session.predict(ExampleTable(built.lake, built.schema).read(built.days[:1]).inputs).any()


@pytest.mark.parametrize("seed", [None, 7])
def test_what_is_dropped_depends_on_the_step_where_a_seed_is_given(built, group, stream, seed):
    stream = list(itertools.islice(stream, 6))
    whole, parts = session_of(built), session_of(built)
    # Each session has set the generator to its own start.
    torch.manual_seed(0)
    take_steps(whole, stream, seed=seed)
    torch.manual_seed(0)
    middle = take_steps(parts, stream[:3], seed=seed)
    torch.rand(5)  # as an evaluation, or a kill, might
    take_steps(parts, stream[3:], done=middle, seed=seed)
    found, expected = parts.snapshot(), whole.snapshot()
    is_equal = all(torch.equal(found[name], expected[name]) for name in expected)
    assert is_equal == (seed is not None)


def test_a_run_that_diverges_ends_unless_nothing_may_be_waited_for(built, group, stream):
    stream = list(itertools.islice(stream, 4))
    stream[1].weight[:] = math.inf
    with pytest.raises(DivergedError, match="step 2: loss"):
        take_steps(session_of(built), stream)
    assert take_steps(session_of(built), stream, is_watched=False) == 4


def test_the_bar_counts_the_steps_and_shows_what_the_callback_returns(built, group, stream, capsys):
    take_steps(
        session_of(built),
        itertools.islice(stream, 3),
        after_step=lambda done, step: {"figure": done / 2},
        total=5,
        done=2,
        label="a run",
    )
    shown = capsys.readouterr().err.splitlines()[-1]
    assert "a run: 100%" in shown
    assert "5/5" in shown
    assert "figure=2.5000" in shown
