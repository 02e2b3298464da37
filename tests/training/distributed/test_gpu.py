"""Training on CUDA devices, through the same command line as on the CPU; skipped without one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.training.commands import run_command

from training.data.dataset import ExampleTable

pytestmark = [pytest.mark.gpu, pytest.mark.distributed]

SCRIPT = Path(__file__).parents[2] / "support" / "training" / "parallel.py"
RANKS = max(1, min(2, torch.cuda.device_count()))


@pytest.fixture(scope="module")
def trained(built, tmp_path_factory):
    """A cold day and a warm one, with what the recipe chooses on CUDA: bf16 and the pipeline."""
    root = tmp_path_factory.mktemp("gpu")
    shared = ["--dataset=synthetic", f"--lake={built.lake}", "--recipe=wukong-tiny"]
    folders = [f"--{name}={root / name}" for name in ("checkpoints", "tracking", "reports")]
    flags = [f"--ranks={RANKS}", "--checkpoint-steps=10", f"--id-log={root / 'ids'}"]
    days = [f"--date={day}" for day in built.days[-2:]]
    return root, [run_command("train", *shared, *folders, *flags, day) for day in days]


def test_a_day_trains_and_the_next_starts_from_it(trained, built):
    _, (cold, warm) = trained
    assert cold["parent"] is None
    assert warm["parent"] == str(built.days[-2])
    assert warm["metrics"]["ne"] < 0.99


def test_a_float32_server_scores_as_the_gpus_did(trained, built):
    """The holdout was predicted in float32 though training was in bf16."""
    root, (_, warm) = trained
    folders = [f"--checkpoints={root / 'checkpoints'}", f"--artifacts={root / 'artifacts'}"]
    day = f"--date={built.days[-1]}"
    exported = run_command(
        "export", "--dataset=synthetic", f"--lake={built.lake}", day, *folders,
        f"--tracking={root / 'tracking'}",
    )  # fmt: skip
    from training.artifact.artifact import load
    from training.data.dataset import user_groups
    from training.metrics import evaluate

    examples = ExampleTable(built.lake, built.schema).read(built.days[-1:])
    scores = load(Path(exported["artifact"]), built.schema).score(examples.inputs)
    found = evaluate(scores, examples.label, user_groups(examples, built.schema))
    assert found.log_loss == pytest.approx(warm["metrics"]["log_loss"], rel=1e-3)


def test_every_way_agrees_and_a_killed_run_resumes(built, tmp_path):
    """Pipeline, FSDP2 and bf16 against the plain run; kernels of CUDA add in any order."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    subprocess.run(
        [*launcher, f"--nproc-per-node={RANKS}", str(SCRIPT), str(built.lake), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[3])},
        check=True,
    )
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["pipeline"]["ids"]
    assert found["pipeline"]["loss"] < 1e-3
    assert found["fsdp2"]["loss"] < 1e-3
    assert found["moved"] == 0.0
    assert found["all"]["loss"] < 0.05
    assert found["all"]["dtypes"] == ["torch.float32"]
    assert found["resumed"]["ids"]
    assert found["resumed"]["dense"] < 0.05
