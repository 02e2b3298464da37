"""The comparison behind ``make bench-growth``, on a log that is too small to show anything."""

import pytest

from training.data.dataset import ExampleTable
from training.distributed.process_group import process_group
from training.experiments import growth_comparison
from training.experiments.growth_comparison import Comparison, Curve, compare
from training.recipes import recipe_of


@pytest.fixture(scope="module")
def found(built):
    with pytest.MonkeyPatch.context() as patch, process_group():
        patch.setattr(growth_comparison, "MOMENTS", (0.5,))
        patch.setattr(growth_comparison, "LEARNING_RATES", (3e-3,))
        patch.setattr(growth_comparison, "POINTS", 4)
        table = ExampleTable(built.lake, built.schema)
        recipes = (recipe_of("wukong-tiny"), recipe_of("wukong-tiny-x2"))
        yield compare(Comparison(table, *recipes, batch_size=256), seeds=1)


def test_a_grown_run_costs_its_parents_part_and_its_own(found):
    small, large = found["training_flops"]["small"], found["training_flops"]["large"]
    grown = found["training_flops"]["grown at 50%"]
    assert small < grown < large
    half = round(found["steps"] / 2)
    expected = (small * half + large * (found["steps"] - half)) / found["steps"]
    # Both halves have full batches but for the last of a buffer.
    assert grown == pytest.approx(expected, rel=0.02)


def test_growing_keeps_the_function_and_the_runs_their_points(found):
    assert found["max_logit_difference"] < 1e-5
    grown = [curve for curve in found["curves"] if curve["name"] == "grown at 50%"]
    assert grown[0]["max_logit_difference"] == found["max_logit_difference"]
    lengths = {len(curve["log_loss"]) for curve in found["curves"]}
    assert len(lengths) == 1
    assert set(found["final_log_loss"]) == {"small", "large", "grown at 50%"}


def test_the_ratio_is_the_compute_at_which_scratchs_loss_is_reached():
    scratch = [Curve("large", 1, [5.0, 10.0], [0.6, 0.5])]
    reaches = [Curve("grown", 1, [2.0, 4.0, 6.0], [0.7, 0.5, 0.4])]
    never = [Curve("grown", 1, [2.0, 4.0], [0.7, 0.6])]
    assert growth_comparison._compute_ratio(reaches, scratch) == pytest.approx(0.4)
    assert growth_comparison._compute_ratio(never, scratch) is None
    before_it_grew = [Curve("grown", 1, [2.0, 4.0], [0.4, 0.6], grown_after=3.0)]
    assert growth_comparison._compute_ratio(before_it_grew, scratch) is None
