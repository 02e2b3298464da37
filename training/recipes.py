"""Named complete configurations; the command line picks one by its name."""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping

from training.config.model import (
    AFNConfig,
    AutoIntConfig,
    DCNv2Config,
    DLRMConfig,
    FinalMLPConfig,
    InteractionConfig,
    LayerConfig,
    MaskNetConfig,
    ModelConfig,
    WukongConfig,
    XDeepFMConfig,
)
from training.config.own_recipes import OwnRecipes
from training.config.recipe import Recipe, ShardingConfig, TableOptimizer, TrainingConfig


def uniform_layers(
    *, depth: int, num_fm: int, num_linear: int, rank: int, mlp: tuple[int, ...]
) -> tuple[LayerConfig, ...]:
    """A stack of ``depth`` equal layers."""
    layer = LayerConfig(num_fm=num_fm, num_linear=num_linear, rank=rank, mlp=mlp)
    return (layer,) * depth


def wukong_small() -> Recipe:
    """The laptop's ranker: two layers, 32 dimensions, kept from memorising a thousand people.

    ``python -m training train --dataset movielens-100k --date 1998-04-19 --recipe wukong-small``
    takes about half a minute on two cores, most of it start-up; ``make bench-quality`` measures it.
    """
    return _small(
        "wukong-small",
        WukongConfig(
            layers=uniform_layers(depth=2, num_fm=8, num_linear=8, rank=8, mlp=(64,)), head=(64,)
        ),
    )


def wukong_mini() -> Recipe:
    """One layer less than ``wukong-small`` and all else half, so that its -x2 has that shape."""
    layers = uniform_layers(depth=1, num_fm=4, num_linear=4, rank=4, mlp=(32,))
    return _small("wukong-mini", WukongConfig(layers=layers, head=(32,)))


def _small(name: str, interaction: InteractionConfig) -> Recipe:
    return Recipe(
        name=name,
        model=ModelConfig(
            embedding_dim=32,
            interaction=interaction,
            bottom_mlp=(64,),
            dropout=_dropout(interaction, 0.5),
        ),
        training=TrainingConfig(
            batch_size=512,
            cold_epochs=5,
            dense_learning_rate=2e-3,
            dense_decay=0.1,
            sparse_learning_rate=0.05,
            embedding_decay=1e-2,
        ),
        sharding=ShardingConfig(column_wise=("item_id",), min_partition=16),
    )


def wukong_tiny() -> Recipe:
    """The smallest ranker that has every part; for tests and drills, not for quality."""
    return Recipe(
        name="wukong-tiny",
        model=ModelConfig(
            embedding_dim=8,
            interaction=WukongConfig(
                layers=uniform_layers(depth=2, num_fm=4, num_linear=4, rank=4, mlp=(16,)),
                head=(16,),
            ),
            bottom_mlp=(16,),
        ),
        training=TrainingConfig(
            batch_size=128, cold_epochs=2, dense_learning_rate=5e-3, sparse_learning_rate=0.05
        ),
        sharding=ShardingConfig(column_wise=("item_id",), min_partition=4),
    )


def _frappe(name: str, interaction: InteractionConfig) -> Recipe:
    """A ranker for Frappe: 200,000 rows and 5,382 values, which a model without L2 memorises.

    ``python -m training benchmark --dataset frappe --data DIR --model wukong``; chosen for Wukong
    on ``frappe-stand-in``, generated logs of the same shape, and the same for every ranker. A
    strong L2 on all rows of the tables is what counts: rows that few examples ask for stay near 0.
    """
    return Recipe(
        name=name,
        model=ModelConfig(
            embedding_dim=64,
            interaction=interaction,
            bottom_mlp=(),
            embedding_std=0.1,
            dropout=_dropout(interaction, 0.2),
        ),
        training=TrainingConfig(
            batch_size=4096,
            cold_epochs=60,
            dense_learning_rate=1e-3,
            sparse_learning_rate=1e-3,
            table_optimizer=TableOptimizer.ADAM,
            embedding_decay=0.1,
            average_decay=0.995,
            warm_up_share=0.0,
        ),
        sharding=ShardingConfig(),
    )


def _dropout(interaction: InteractionConfig, rate: float) -> float:
    # TorchRec's OverArch has no dropout.
    return 0.0 if isinstance(interaction, DLRMConfig) else rate


USUAL = "wukong-small"
"""What is trained where nothing says otherwise."""

_BASELINES: dict[str, InteractionConfig] = {
    "dlrm-small": DLRMConfig(over_arch=(64, 64)),
    "dcnv2-small": DCNv2Config(num_cross=2, rank=32, mlp=(64, 64)),
    "autoint-small": AutoIntConfig(num_attention=2, attention_dim=32, num_heads=2, mlp=(64, 64)),
    "finalmlp-small": FinalMLPConfig(first=(64, 64), second=(64,), num_heads=4),
    "masknet-small": MaskNetConfig(num_blocks=2, block_dim=64, reduction=0.1, mlp=(64,)),
    "xdeepfm-small": XDeepFMConfig(cin=(16, 16), mlp=(64, 64)),
    "afn-small": AFNConfig(num_log_neurons=32, afn_mlp=(64,), mlp=(64, 64)),
}
"""The rankers that Wukong is compared with, of the laptop ranker's size."""

_FRAPPE: dict[str, InteractionConfig] = {
    "wukong-frappe": WukongConfig(
        layers=uniform_layers(depth=2, num_fm=8, num_linear=8, rank=16, mlp=(256,)), head=(128,)
    ),
    "dlrm-frappe": DLRMConfig(over_arch=(400, 400, 400)),
    "dcnv2-frappe": DCNv2Config(num_cross=3, mlp=(400, 400, 400)),
    "autoint-frappe": AutoIntConfig(
        num_attention=3, attention_dim=64, num_heads=2, mlp=(400, 400, 400)
    ),
    "finalmlp-frappe": FinalMLPConfig(first=(400, 400, 400), second=(400,), num_heads=10),
    "masknet-frappe": MaskNetConfig(num_blocks=3, block_dim=400, reduction=1.0, mlp=(400, 400)),
    "xdeepfm-frappe": XDeepFMConfig(cin=(64, 64), mlp=(400, 400, 400)),
    "afn-frappe": AFNConfig(num_log_neurons=256, afn_mlp=(400, 400), mlp=(400, 400, 400)),
}
"""Of the size that rankers have on BARS' page of Frappe, where MLPs are of 400."""

RECIPES: dict[str, Callable[[], Recipe]] = {
    "wukong-mini": wukong_mini,
    "wukong-small": wukong_small,
    **{name: functools.partial(_small, name, config) for name, config in _BASELINES.items()},
    **{name: functools.partial(_frappe, name, config) for name, config in _FRAPPE.items()},
    "wukong-tiny": wukong_tiny,
}


_MAX_FACTOR = 9
_AXES = "lwx"
"""What may stand behind a recipe's name, each once, in this order: layers, width, both."""
_SCALED = re.compile(rf"(?P<base>.+)-(?P<axis>[{_AXES}])(?P<number>[2-9])")
_Known = Mapping[str, Callable[[], Recipe]]


def recipe_of(name: str) -> Recipe:
    """A recipe by name; of Wukong also one that is scaled, for growing into.

    ``NAME-x2`` to ``NAME-x9`` scale everything up; ``NAME-l2`` to ``NAME-l9`` have so many layers,
    ``NAME-w2`` to ``NAME-w9`` are so many times as wide. ``NAME-l4-w2`` is both, ``NAME-l4-w2-x2``
    is that scaled up. NAME may be a recipe of one's own.

    Raises:
        ValueError: With the names that exist, or what is wrong with a recipe of one's own.
    """
    return _named(name, _known())


def recipe_name(text: str) -> str:
    """A name that ``recipe_of`` knows; ValueError for any other."""
    return recipe_of(text).name


def _known() -> _Known:
    """What makes each recipe that has a name of its own."""
    own = OwnRecipes.from_environment()
    base_of = functools.partial(_named, known=RECIPES)
    return RECIPES | {name: functools.partial(own.read, name, base_of) for name in own.names}


def _named(name: str, known: _Known) -> Recipe:
    found = _found(name, known, _AXES)
    if found is None:
        raise ValueError(
            f"recipe {name!r}: unknown; the recipes are {sorted(known)}, and those of Wukong with "
            "-l2 to -l9, -w2 to -w9 and -x2 to -x9 behind, in this order"
        )
    return found


def _found(name: str, known: _Known, axes: str) -> Recipe | None:
    if name in known:
        return known[name]()
    scaled = _SCALED.fullmatch(name)
    if not scaled or scaled["axis"] not in axes:
        return None
    axis, number = scaled["axis"], int(scaled["number"])
    base = _found(scaled["base"], known, axes[: axes.index(axis)])
    if base is None:
        return None
    if axis == "x":
        return _scaled(base, name, number)
    depth, width = (number, 1) if axis == "l" else (0, number)
    return _along(base, name, depth=depth, width=width)


def target_of(source: str, target: str) -> str:
    """The recipe's name that a growth ends at: ``target``, or so many times the source's size.

    Args:
        source: Name of the recipe that grows, scaled already or not.
        target: A recipe's name, or a whole number from 2 to 9.

    Raises:
        ValueError: The product is above 9, or there is no such recipe.
    """
    if not target.isdecimal():
        return recipe_of(target).name
    base, before = source, 1
    scaled = None if source in _known() else _SCALED.fullmatch(source)
    if scaled and scaled["axis"] == "x":
        base, before = scaled["base"], int(scaled["number"])
    times = before * int(target)
    if not before < times <= _MAX_FACTOR:
        raise ValueError(
            f"factor {target} of {source}: {times} times {base}; more than {before} and at most "
            f"{_MAX_FACTOR} times"
        )
    return recipe_of(f"{base}-x{times}").name


def _scaled(recipe: Recipe, name: str, factor: int) -> Recipe:
    """One layer more, and n_F, n_L, k and all MLPs wider; the tables as they are.

    The paper scales the number of layers first, then the rest together (section 3.8).
    """
    depth = len(getattr(recipe.model.interaction, "layers", ())) + 1
    return _along(recipe, name, depth=depth, width=factor)


def _along(recipe: Recipe, name: str, *, depth: int, width: int) -> Recipe:
    """So many layers, 0: as it has; and n_F, n_L, k and all MLPs so many times as wide.

    Raises:
        ValueError: It is no Wukong, or has as many layers already.
    """
    stack = recipe.model.interaction
    if stack.kind != "wukong":
        raise ValueError(f"recipe {name!r}: of {stack.kind}; only wukong is scaled")
    if 0 < depth <= len(stack.layers):
        raise ValueError(
            f"recipe {name!r}: layers {len(stack.layers)} to {depth}; more than {len(stack.layers)}"
        )
    layers = tuple(
        dataclasses.replace(
            layer,
            num_fm=layer.num_fm * width,
            num_linear=layer.num_linear * width,
            rank=layer.rank * width,
            mlp=tuple(units * width for units in layer.mlp),
        )
        for layer in stack.layers
    )
    layers += layers[-1:] * (depth - len(layers))
    head = tuple(units * width for units in stack.head)
    wider = dataclasses.replace(stack, layers=layers, head=head)
    return dataclasses.replace(
        recipe, name=name, model=dataclasses.replace(recipe.model, interaction=wider)
    )
