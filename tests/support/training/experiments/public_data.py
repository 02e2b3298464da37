"""A small log of users and items for tests of the benchmark, and a recipe for it."""

import dataclasses

import numpy as np
import pyarrow as pa

from training.experiments.public_data.data import BenchmarkData, Split, split_of
from training.model.inputs import Inputs, SparseInput
from training.recipes import recipe_of

INPUTS = Inputs(sparse=(SparseInput("user", 8, "user"), SparseInput("item", 12, "item")), dense=())
USERS = np.array([1, 1, 1, 2, 5, 5])
ITEMS = np.array([3, 4, 3, 4, 7, 3])
LABEL = np.array([1, 0, 1, 0, 1, 0])


def small_recipe(**training):
    recipe = recipe_of("wukong-tiny")
    return dataclasses.replace(
        recipe,
        training=dataclasses.replace(recipe.training, **training),
        sharding=dataclasses.replace(recipe.sharding, column_wise=()),
    )


def split(users=USERS, items=ITEMS, label=LABEL) -> Split:
    return split_of({"user": users, "item": items}, label, users=pa.array(users))


def problem(rows=3_000, noise=0.0):
    random = np.random.default_rng(3)
    users, items = random.integers(1, 8, rows), random.integers(1, 12, rows)
    taste = random.normal(size=(8, 12))
    label = (taste[users, items] + noise * random.normal(size=rows) > 0).astype(np.int64)
    parts = [
        slice(0, rows * 2 // 3),
        slice(rows * 2 // 3, rows * 5 // 6),
        slice(rows * 5 // 6, rows),
    ]
    train, valid, test = (split(users[p], items[p], label[p]) for p in parts)
    return BenchmarkData(name="small", inputs=INPUTS, train=train, valid=valid, test=test)
