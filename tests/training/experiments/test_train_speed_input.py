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
