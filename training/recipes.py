"""Named complete configurations; the command line picks one by its name."""

from collections.abc import Callable

from training.config import LayerConfig, ModelConfig, Recipe, ShardingConfig, TrainingConfig


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
    return Recipe(
        name="wukong-small",
        model=ModelConfig(
            embedding_dim=32,
            layers=uniform_layers(depth=2, num_fm=8, num_linear=8, rank=8, mlp=(64,)),
            bottom_mlp=(64,),
            head=(64,),
            dropout=0.5,
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
            layers=uniform_layers(depth=2, num_fm=4, num_linear=4, rank=4, mlp=(16,)),
            bottom_mlp=(16,),
            head=(16,),
        ),
        training=TrainingConfig(
            batch_size=128, cold_epochs=2, dense_learning_rate=5e-3, sparse_learning_rate=0.05
        ),
        sharding=ShardingConfig(column_wise=("item_id",), min_partition=4),
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "wukong-small": wukong_small,
    "wukong-tiny": wukong_tiny,
}


def recipe_of(name: str) -> Recipe:
    """A recipe by name; ValueError with the names that exist."""
    if name not in RECIPES:
        raise ValueError(f"recipe {name!r}: unknown; the recipes are {sorted(RECIPES)}")
    return RECIPES[name]()
