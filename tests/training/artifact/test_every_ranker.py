"""All rankers go the same way: two ranks, checkpoint, artifact, and the same scores at its end."""

import json
from pathlib import Path

import pytest
from support.training.commands import torchrun

SCRIPT = Path(__file__).parents[2] / "support" / "training" / "every_ranker.py"
MODELS = ("wukong", "dlrm", "dcnv2", "autoint", "finalmlp", "masknet", "xdeepfm", "afn")

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def results(built, tmp_path_factory):
    folder = tmp_path_factory.mktemp("every")
    printed = torchrun(SCRIPT, built.lake, folder)
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    return {line["model"]: line for line in lines}


@pytest.mark.parametrize("model", MODELS)
def test_the_artifact_scores_as_the_sharded_ranker_did(results, model):
    found = results[model]
    assert found["difference"] < 1e-5
    assert found["spread"] > 1e-3, "all scores alike show nothing"


def test_tables_that_adam_trains_are_whole_on_every_rank(results):
    assert results["wukong:adam"]["difference"] < 1e-5
    assert results["wukong:adam"]["shards"] > results["wukong"]["shards"]
