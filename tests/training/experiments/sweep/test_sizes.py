"""The sizes of an axis change one resource, from small to large, and hold the others."""

import dataclasses

import pytest

from features.datasets.catalog import schema_of
from training.experiments.sweep.sizes import sizes_of
from training.model.flops import cost_of
from training.model.inputs import inputs_of
from training.recipes import recipe_of

INPUTS = inputs_of(schema_of("synthetic"))


def costs(axis, base="wukong-small", num_points=5):
    sizes = sizes_of(axis, recipe_of(base), num_points=num_points)
    return [cost_of(INPUTS, size.recipe.model) for size in sizes]


@pytest.mark.parametrize("base", ["wukong-small", "dlrm-small"])
@pytest.mark.parametrize("axis", ["dense", "overarch", "compute"])
def test_the_dense_part_alone_grows(axis, base):
    found = costs(axis, base)
    flops = [cost.training_flops for cost in found]
    assert flops == sorted(set(flops))
    assert len({cost.embedding_parameters for cost in found}) == 1


def test_the_ladder_spans_two_orders_of_magnitude_and_ends_in_recipes_to_grow_to():
    sizes = sizes_of("compute", recipe_of("wukong-small"), num_points=8)
    flops = [cost_of(INPUTS, size.recipe.model).training_flops for size in sizes]
    assert flops[-1] > 100 * flops[0]
    assert [size.label for size in sizes[3:5]] == ["wukong-small", "wukong-small-x2"]
    assert recipe_of(sizes[-1].recipe.name) == sizes[-1].recipe


def test_depth_is_layers_alone_and_what_is_deeper_can_be_grown_to():
    base = recipe_of("wukong-small")
    found = [size.recipe for size in sizes_of("depth", base, num_points=6)]
    stacks = [recipe.model.interaction for recipe in found]
    assert [len(stack.layers) for stack in stacks] == [1, 2, 3, 4, 6, 8]
    assert {layer for stack in stacks for layer in stack.layers} == {
        base.model.interaction.layers[0]
    }
    assert found[1] == base
    for deeper in found[2:]:
        assert recipe_of(deeper.name) == deeper
        assert deeper.model.embedding_dim == base.model.embedding_dim


def test_wider_embeddings_leave_the_rest_as_it_is():
    sizes = sizes_of("dim", recipe_of("wukong-small"), num_points=5)
    assert [size.recipe.model.embedding_dim for size in sizes] == [8, 16, 32, 64, 128]
    assert len({size.recipe.model.interaction for size in sizes}) == 1


@pytest.mark.parametrize(("axis", "field"), [("data", "data_share"), ("rows", "rows_share")])
def test_data_and_rows_are_shares_up_to_all(axis, field):
    base = recipe_of("wukong-small")
    sizes = sizes_of(axis, base, num_points=5)
    shares = [getattr(size, field) for size in sizes]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert all(size.recipe == base for size in sizes)


def test_what_cannot_be_measured_is_refused():
    base = recipe_of("wukong-small")
    with pytest.raises(ValueError, match="points: 4; at least 5"):
        sizes_of("dim", base, num_points=4)
    with pytest.raises(ValueError, match="points: 9; the ladder has 8"):
        sizes_of("compute", base, num_points=9)
    with pytest.raises(ValueError, match="axis: 'height'; one of"):
        sizes_of("height", base, num_points=5)
    with pytest.raises(ValueError, match="axis depth: dlrm-small has no layers"):
        sizes_of("depth", recipe_of("dlrm-small"), num_points=5)
    with pytest.raises(ValueError, match="points: 7; depths are 1, 2, 3, 4, 6, 8"):
        sizes_of("depth", base, num_points=7)
    narrow = dataclasses.replace(base, model=dataclasses.replace(base.model, embedding_dim=8))
    with pytest.raises(ValueError, match="too small to have 9 sizes"):
        sizes_of("dim", narrow, num_points=9)
