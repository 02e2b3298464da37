"""The sizes that an axis is measured at: recipes, and shares of the data, around a base recipe.

The resources are the second paper's (arXiv 2208.08489, section 3). Compute is Wukong's ladder:
below the base fewer layers and less of n_F, n_L, k and the MLPs, above it the recipes that it grows
into.
"""

import contextlib
import dataclasses
from collections.abc import Collection
from typing import Any

from training.config.model import ModelConfig, WukongConfig
from training.config.recipe import Recipe
from training.experiments.scaling.points import AXES, MIN_POINTS
from training.recipes import recipe_of, target_of

_BELOW = ((1, 0.25), (1, 0.5), (0, 0.5))
"""Layers (0: the base's), and multiples of n_F, n_L, k and MLP widths, below the base."""
_ABOVE = (2, 3, 4, 6)
"""Factors of the recipes above it."""
_DEPTHS = (1, 2, 3, 4, 6, 8)
"""Layers, each as the base's first."""
_COLUMNS = 4
"""Embedding widths are multiples of this: the kernels take no others."""
_WIDTHS = {"mlp", "over_arch", "head", "first", "second", "afn_mlp", "gate", "bottom_mlp"}
"""Fields of configurations that are hidden widths of MLPs."""
_OF_LAYERS = {"num_fm", "num_linear", "rank", "mlp"}
"""What a rung of the ladder has less of in each layer."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """One size of an axis."""

    axis: str
    label: str
    """Such as ``×0.25``."""
    recipe: Recipe
    data_share: float = 1.0
    """Of the training examples, the first in time."""
    rows_share: float = 1.0
    """Of each table's rows; ids beyond them share rows."""


def sizes_of(axis: str, base: Recipe, *, num_points: int) -> list[Size]:
    """The sizes of an axis of ``AXES``, the smallest first; ``base`` holds the other resources.

    Raises:
        ValueError: Too few sizes, more than the ladder has, or an axis that the ranker has not.
    """
    if axis not in AXES:
        raise ValueError(f"axis: {axis!r}; one of {sorted(AXES)}")
    if num_points < MIN_POINTS:
        raise ValueError(f"points: {num_points}; at least {MIN_POINTS}")
    if axis == "compute" and isinstance(base.model.interaction, WukongConfig):
        return _ladder(base, num_points)
    if axis == "depth":
        if base.model.interaction.kind != "wukong":
            raise ValueError(f"axis depth: {base.name} has no layers to stack; a Wukong has")
        return _depths(base, num_points)
    if axis in {"data", "rows"}:
        field, factor = ("data_share", 2.0) if axis == "data" else ("rows_share", 4.0)
        shares = [factor ** (index - num_points + 1) for index in range(num_points)]
        return [
            Size(axis=axis, label=f"×{share:g}", recipe=base, **{field: share}) for share in shares
        ]
    factors = [2.0 ** (index - num_points // 2) for index in range(num_points)]
    sizes = [
        Size(axis=axis, label=f"×{factor:g}", recipe=_scaled(axis, base, factor))
        for factor in factors
    ]
    if len({size.recipe.model_fingerprint() for size in sizes}) < len(sizes):
        raise ValueError(f"axis {axis}: {base.name} is too small to have {num_points} sizes of it")
    return sizes


def _scaled(axis: str, base: Recipe, factor: float) -> Recipe:
    model = base.model
    if axis == "dim":
        dim = _COLUMNS * _times(model.embedding_dim // _COLUMNS, factor)
        model = dataclasses.replace(model, embedding_dim=dim)
    elif axis == "overarch":
        model = _wider_over_arch(model, factor)
    else:
        interaction = _widths(model.interaction, factor)
        model = dataclasses.replace(_widths(model, factor), interaction=interaction)
    return _named(base, model, f"{axis} ×{factor:g}")


def _named(base: Recipe, model: ModelConfig, name: str) -> Recipe:
    return dataclasses.replace(base, name=f"{base.name} {name}", model=model)


def _times(width: int, factor: float) -> int:
    return max(1, round(width * factor))


def _widths(values: Any, factor: float, names: Collection[str] = _WIDTHS) -> Any:
    """A configuration with some fields, those of its layers too, so many times as large."""
    changed = {}
    for field in dataclasses.fields(values):
        value = getattr(values, field.name)
        if field.name in names:
            is_one = isinstance(value, int)
            changed[field.name] = (
                _times(value, factor) if is_one else tuple(_times(one, factor) for one in value)
            )
        elif field.name == "layers":
            changed[field.name] = tuple(_widths(layer, factor, names) for layer in value)
    return dataclasses.replace(values, **changed)


def _wider_over_arch(model: ModelConfig, factor: float) -> ModelConfig:
    """The MLP from the interactions to the logit, alone."""
    before = model.interaction
    names = [field.name for field in dataclasses.fields(before) if field.name in _WIDTHS][-1:]
    if not any(getattr(before, name) for name in names):
        raise ValueError(f"axis overarch: {before.kind} has no over-arch")
    return dataclasses.replace(model, interaction=_widths(before, factor, names))


def _ladder(base: Recipe, num_points: int) -> list[Size]:
    rungs = [*(_rung(base, depth, width) for depth, width in _BELOW), base, *_larger(base)]
    if num_points > len(rungs):
        raise ValueError(f"points: {num_points}; the ladder has {len(rungs)}")
    indices = [round(index * (len(rungs) - 1) / (num_points - 1)) for index in range(num_points)]
    return [Size(axis="compute", label=rungs[index].name, recipe=rungs[index]) for index in indices]


def _depths(base: Recipe, num_points: int) -> list[Size]:
    stack = base.model.interaction
    assert isinstance(stack, WukongConfig)
    if num_points > len(_DEPTHS):
        raise ValueError(f"points: {num_points}; depths are {', '.join(map(str, _DEPTHS))}")
    found = []
    for depth in _DEPTHS[:num_points]:
        layers = dataclasses.replace(stack, layers=stack.layers[:1] * depth)
        model = dataclasses.replace(base.model, interaction=layers)
        recipe = base if model == base.model else _named(base, model, f"{depth} layers")
        if depth > len(stack.layers):
            with contextlib.suppress(ValueError):
                named = recipe_of(f"{base.name}-l{depth}")
                recipe = named if named.model == model else recipe
        found.append(Size(axis="depth", label=f"{depth} layers", recipe=recipe))
    return found


def _larger(base: Recipe) -> list[Recipe]:
    """What a base can grow into; one that has grown itself has fewer."""
    found = []
    for factor in _ABOVE:
        with contextlib.suppress(ValueError):
            found.append(recipe_of(target_of(base.name, str(factor))))
    return found


def _rung(base: Recipe, depth: int, width: float) -> Recipe:
    stack = base.model.interaction
    assert isinstance(stack, WukongConfig)
    layers = stack.layers[: depth or len(stack.layers)]
    smaller = _widths(dataclasses.replace(stack, layers=layers), width, _OF_LAYERS)
    model = dataclasses.replace(base.model, interaction=smaller)
    return _named(base, model, f"{len(layers)} layers ×{width:g}")
