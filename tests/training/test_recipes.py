import json

import pytest

from training.__main__ import main
from training.recipes import RECIPES, recipe_of, target_of


def test_a_factor_behind_a_name_scales_wukong():
    small, large = recipe_of("wukong-small"), recipe_of("wukong-small-x3")
    before, after = small.model.interaction, large.model.interaction
    assert len(after.layers) == len(before.layers) + 1
    for field in ("num_fm", "num_linear", "rank"):
        assert getattr(after.layers[0], field) == 3 * getattr(before.layers[0], field)
    assert after.layers[0].mlp == tuple(3 * width for width in before.layers[0].mlp)
    assert large.name == "wukong-small-x3"
    assert large.model.embedding_dim == small.model.embedding_dim
    assert large.training == small.training


def test_a_name_scales_depth_and_width_apart():
    one, deep, wide, both = (
        recipe_of(f"wukong-mini{behind}").model.interaction
        for behind in ("", "-l4", "-w2", "-l4-w2")
    )
    assert deep.layers == one.layers * 4
    assert deep.head == one.head
    assert len(wide.layers) == len(one.layers)
    assert (wide.layers[0].num_fm, wide.layers[0].mlp, wide.head) == (8, (64,), (64,))
    assert both.layers == wide.layers * 4


def test_what_has_grown_along_an_axis_is_scaled_from_there():
    one, larger = (
        recipe_of(name).model.interaction for name in ("wukong-mini", "wukong-mini-l3-w2-x3")
    )
    assert len(larger.layers) == 4
    assert {layer.num_fm for layer in larger.layers} == {6 * one.layers[0].num_fm}
    assert larger.head == tuple(6 * units for units in one.head)


def test_a_depth_that_is_none_is_refused():
    with pytest.raises(ValueError, match="'wukong-small-l2': layers 2 to 2; more than 2"):
        recipe_of("wukong-small-l2")


@pytest.mark.parametrize(
    "name",
    [
        *("wukong", "wukong-small-x1", "wukong-small-x10", "nothing-x2", "nothing-l3-x2"),
        *("wukong-small-x2-x2", "wukong-small-x2-w2", "wukong-small-w2-l4", "wukong-small-w2-w2"),
    ],
)
def test_an_unknown_name_is_an_error_that_lists_those_that_exist(name):
    with pytest.raises(ValueError, match=f"recipe '{name}': unknown; the recipes are") as refused:
        recipe_of(name)
    assert all(known in str(refused.value) for known in RECIPES)


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("wukong-small", "2", "wukong-small-x2"),
        ("wukong-small-x2", "3", "wukong-small-x6"),
        ("wukong-small", "wukong-small-x4", "wukong-small-x4"),
        ("wukong-small-w2", "2", "wukong-small-w2-x2"),
        ("wukong-small-l4", "2", "wukong-small-l4-x2"),
        ("wukong-small-l4-w2-x2", "3", "wukong-small-l4-w2-x6"),
    ],
)
def test_a_growth_ends_at_a_recipe_or_a_multiple_of_its_source(source, target, expected):
    assert target_of(source, target) == expected


@pytest.mark.parametrize(("source", "target"), [("wukong-small-x3", "4"), ("wukong-small", "1")])
def test_a_multiple_that_no_recipe_has_is_refused_with_the_limits(source, target):
    with pytest.raises(ValueError, match=rf"factor {target} of {source}: .* at most 9 times"):
        target_of(source, target)


def test_only_wukong_is_scaled():
    with pytest.raises(ValueError, match="'dlrm-small-x2': of dlrm; only wukong is scaled"):
        recipe_of("dlrm-small-x2")


def test_a_wrong_recipe_on_the_command_line_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", "--dataset=synthetic", "--date=2025-01-01", "--recipe=wukong-huge"])
    assert ended.value.code == 2
    assert "wukong-small" in capsys.readouterr().err


def test_how_a_model_came_to_its_shape_is_not_in_its_fingerprint():
    """A run of the target's recipe goes on from a checkpoint that grew to it."""
    import dataclasses

    recipe = recipe_of("wukong-small")
    stack = recipe.model.interaction
    first = dataclasses.replace(stack.layers[0], norm_groups=((5, 0, 4), (9, 0, 8)))
    grown = dataclasses.replace(stack, layers=(first, *stack.layers[1:]))
    model = dataclasses.replace(recipe.model, interaction=grown)
    other = dataclasses.replace(recipe, model=model)
    assert json.loads(json.dumps(other.to_dict())) != json.loads(json.dumps(recipe.to_dict()))
    assert other.model_fingerprint() == recipe.model_fingerprint()


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Writes a recipe of one's own."""
    monkeypatch.setenv("RANKING_RECIPES", str(tmp_path))
    return lambda text: (tmp_path / "mine.yaml").write_text(text)


def test_a_recipe_of_ones_own_is_a_known_one_with_changes(own):
    own("base: wukong-tiny-x2\ntraining: {cold_epochs: 9}\nmodel: {interaction: {head: [8]}}")
    base, mine = recipe_of("wukong-tiny-x2"), recipe_of("mine")
    assert (mine.name, mine.training.cold_epochs) == ("mine", 9)
    assert mine.model.interaction.head == (8,)
    assert mine.model.interaction.layers == base.model.interaction.layers
    assert mine.training.batch_size == base.training.batch_size


@pytest.mark.parametrize("name", ["mine", "mine-x2"])
def test_a_recipe_of_ones_own_grows_by_a_factor(tmp_path, monkeypatch, name):
    monkeypatch.setenv("RANKING_RECIPES", str(tmp_path))
    (tmp_path / f"{name}.yaml").write_text("base: wukong-mini\nmodel: {dropout: 0.25}")
    grown = target_of(name, "2")
    assert grown == f"{name}-x2"
    assert target_of(grown, "3") == f"{name}-x6"
    recipe = recipe_of(grown)
    assert (recipe.name, recipe.model.dropout) == (grown, 0.25)
    assert recipe.model.interaction == recipe_of("wukong-mini-x2").model.interaction


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("training: {}", "base: None; a recipe's name must be there"),
        ("base: mine", "recipe 'mine': unknown"),
        ("base: wukong-tiny\ntraining: {rate: 1}", "training.rate: no such field"),
        ("base: wukong-tiny\ntraining: {cold_epochs: 0}", "cold_epochs"),
        ("base: [", "mine.yaml"),
    ],
)
def test_a_wrong_recipe_of_ones_own_is_named_with_its_file(own, text, words):
    own(text)
    with pytest.raises(ValueError, match=r"mine\.yaml") as refused:
        recipe_of("mine")
    assert words in str(refused.value)


def test_a_folder_of_recipes_that_is_not_there_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("RANKING_RECIPES", str(tmp_path / "none"))
    with pytest.raises(ValueError, match=f"RANKING_RECIPES: {tmp_path}/none is no folder"):
        recipe_of("wukong-tiny")
