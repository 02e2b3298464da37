"""The speed's input is what a training reads: from files, as the configuration has it."""

import dataclasses

import pytest

from training.distributed.process_group import process_group
from training.experiments import train_speed
from training.experiments.train_speed_input import (
    DAY_OF_ROWS,
    examples_of,
    input_samples_per_second,
)
from training.model.inputs import inputs_of


@pytest.mark.parametrize("name", ["A", "B"])
def test_the_files_hold_the_configurations_inputs(name):
    inputs, recipe = train_speed.configuration(name, is_compiled=False)
    config = dataclasses.replace(recipe.training, batch_size=16, shuffle_rows=50)
    with process_group(), examples_of(inputs, config) as table:
        found = inputs_of(table.schema)
        assert [sparse.num_rows for sparse in found.sparse] == [s.num_rows for s in inputs.sparse]
        assert found.dense == inputs.dense
        days = table.days(*([DAY_OF_ROWS] * 2))
        assert len(table.read(days)) == 100
        assert input_samples_per_second(table, config) > 0


def test_steps_are_timed_by_the_trainers_loop(monkeypatch):
    """On batches and products that are too small to show anything."""
    inputs, recipe = train_speed.configuration("A", is_compiled=False)
    training = dataclasses.replace(recipe.training, batch_size=32, shuffle_rows=100)
    small = dataclasses.replace(recipe, training=training)
    monkeypatch.setattr(train_speed, "configuration", lambda *_, is_compiled: (inputs, small))
    monkeypatch.setattr(train_speed, "ROUNDS", 1)
    monkeypatch.setattr(train_speed, "SQUARES", train_speed.Squares((16,), 1e6))
    monkeypatch.setattr(train_speed, "_SECONDS_OF_STEPS", 0.1)
    with process_group():
        speed = train_speed.measure("A", is_compiled=False)
        by_ranks = train_speed.speed_of_ranks("A")
        operators = train_speed.profile("A", is_compiled=False)
    assert 0 < speed["samples_per_second"] < speed["input_samples_per_second"]
    assert speed["share_of_peak"] == pytest.approx(speed["gflops"] / speed["peak_gflops"], rel=0.01)
    assert by_ranks["samples_per_second"] > 0
    assert "aten::addmm" in operators
