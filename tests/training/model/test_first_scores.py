"""Where a fresh ranker's scores lie before its first step."""

import numpy as np
import pytest
import torch

from features.datasets.catalog import schema_of
from features.encoding.encode import Ids, ModelInputs
from training.config.recipe import Recipe
from training.data.batch import make_batch
from training.model.inputs import inputs_of
from training.model.ranker import Ranker
from training.recipes import RECIPES, recipe_of
from training.trainer.first_rows import FirstRows

INPUTS = inputs_of(schema_of("synthetic"))
MODELS = sorted(name for name in RECIPES if name.endswith("-small"))


def mean_score(recipe: Recipe, first: FirstRows) -> float:
    torch.manual_seed(0)
    ranker = Ranker(INPUTS, recipe.model).eval()
    ranker.interaction.fit(first.dense, first.positive_rate)
    random = np.random.default_rng(0)
    ids = {
        one.name: Ids(random.integers(0, one.num_rows, size=400), np.ones(400, dtype=np.int32))
        for one in INPUTS.sparse
    }
    rows = ModelInputs(first.dense.numpy(), ids)
    batch = make_batch(rows, np.zeros(400), np.ones(400, dtype=np.float32))
    with torch.no_grad():
        return float(torch.sigmoid(ranker(batch.dense, batch.sparse)).mean())


@pytest.mark.parametrize("name", MODELS)
def test_they_lie_at_the_share_of_positives(name):
    dense = np.random.default_rng(1).lognormal(size=(400, len(INPUTS.dense))).astype(np.float32)
    first = FirstRows.of(dense, (np.arange(400) < 7).astype(np.int64))
    assert first.positive_rate == pytest.approx(8 / 402)
    assert mean_score(recipe_of(name), first) == pytest.approx(0.02, abs=0.015)
    assert mean_score(recipe_of(name), FirstRows(first.dense)) > 0.1


def test_no_share_is_nought_or_one():
    dense = np.zeros((3, 2), dtype=np.float32)
    assert FirstRows.of(dense, np.zeros(3)).positive_rate == pytest.approx(0.2)
    assert FirstRows.of(dense, np.ones(3)).positive_rate == pytest.approx(0.8)
