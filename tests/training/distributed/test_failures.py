"""A rank that fails, or a NaN or infinity, ends a training; what was good stays."""

import dataclasses
import json
import math
import os
import subprocess
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from support.training.commands import run_command, torchrun

from training.checkpoint.catalog import Checkpoint, CheckpointManifest
from training.checkpoint.tensors import CheckpointError, save
from training.cli.torchrun import _Run
from training.config.recipe import TrainingConfig
from training.distributed.divergence import RUNBOOK, DivergedError, spoil_gradient
from training.distributed.failures import note_join, note_loss, report, reported, seconds_lost
from training.distributed.hosts import Hosts
from training.distributed.process_group import process_group, reported_failures

SCRIPT = Path(__file__).parents[2] / "support" / "training" / "diverging.py"
FAILING = """
import os, time
if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
    time.sleep(30)  # in which its launcher must end it; else it fails, and logs, once more
if os.environ.get("RANK") == "{rank}":
    import pyarrow, training.trainer.loop
    real = training.trainer.loop.batches

    def batches(*arguments, **options):
        for number, batch in enumerate(real(*arguments, **options)):
            if number == 5:
                with open("{log}", "a") as log:
                    log.write("failed once\\n")
                raise pyarrow.ArrowInvalid("page 7 is cut off")
            yield batch

    training.trainer.loop.batches = batches
"""


@pytest.mark.distributed
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_fails_ends_the_run_in_its_own_words(built, tmp_path, monkeypatch, rank):
    """In the middle of a run, where torchrun would start all ranks four times, in vain."""
    log, site = tmp_path / "log", tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(FAILING.format(rank=rank, log=log))
    monkeypatch.setenv("PYTHONPATH", f"{site}:{Path(__file__).parents[3]}")
    folders = [f"--{name}={tmp_path / name}" for name in ("checkpoints", "tracking", "reports")]
    error = run_command(
        *("train", "--dataset=synthetic", f"--lake={built.lake}", f"--date={built.days[-1]}"),
        *("--recipe=wukong-tiny", "--ranks=2", *folders),
        code=1,
    )["error"]
    assert error.splitlines()[-1] == f"error: rank {rank} of 2: page 7 is cut off"
    assert log.read_text() == "failed once\n"


@pytest.fixture(scope="module")
def found(built, tmp_path_factory):
    folder = tmp_path_factory.mktemp("diverging")
    torchrun(SCRIPT, built.lake, folder)
    return json.loads((folder / "found.json").read_text())


@pytest.mark.distributed
def test_a_training_that_diverges_stops_at_the_step_and_keeps_the_good_save(found):
    steep = found["steep"]
    assert steep["error"].startswith("step 2: loss nan on rank 0, loss nan on rank 1;")
    assert (steep["step"], steep["runbook"], steep["saves"]) == (2, RUNBOOK, ["000000001"])
    assert found["after_steep"] == 1, "the next attempt has found it, finite"


@pytest.mark.distributed
@pytest.mark.parametrize("way", ["bad batch", "fsdp2"])
def test_the_rank_whose_loss_is_no_number_is_named_by_all(found, way):
    assert found[way]["error"] == "step 7: loss inf on rank 1; the training diverged"
    assert found[way]["saves"] == ["000000005", "000000006"]


@pytest.mark.distributed
def test_the_next_attempt_goes_on_as_if_nothing_had_been(found):
    assert found["bad batch"]["resumed"]["error"] == ""
    assert found["bad batch"]["is_equal"] is True


@pytest.mark.distributed
def test_gradients_are_clipped_alike_whole_and_in_pieces(found):
    for way in ("clipped", "clipped fsdp2"):
        assert min(found[way]["norms"]) > 0.1, "or nothing is clipped"
        assert found[way]["lengths"] == pytest.approx([0.05] * 3, rel=1e-4)
    assert found["clipped"]["norms"] == pytest.approx(found["clipped fsdp2"]["norms"], rel=1e-5)


@pytest.mark.parametrize("clip_norm", [-1.0, math.inf, math.nan])
def test_a_clip_norm_that_is_no_length_is_refused(clip_norm):
    with pytest.raises(ValueError, match=r"clip_norm: .*at least 0"):
        TrainingConfig(batch_size=1, clip_norm=clip_norm)


def test_a_loss_that_overflowed_has_no_gradient_that_could_be_taken_for_one():
    """By itself it has: the sigmoid of an infinite logit is 1."""
    for logit, is_good in ((2.0, True), (math.inf, False)):
        weight = torch.tensor(logit, requires_grad=True)
        loss = torch.nn.functional.softplus(weight)
        (expected,) = torch.autograd.grad(loss, weight, retain_graph=True)
        (gradient,) = torch.autograd.grad(spoil_gradient(loss), weight)
        assert expected.isfinite()
        assert torch.equal(gradient, expected) is is_good
        assert gradient.isfinite() == is_good


def test_the_final_checkpoint_does_not_replace_a_good_one_with_what_is_not_finite(tmp_path):
    values = dict.fromkeys([field.name for field in dataclasses.fields(CheckpointManifest)], "")
    manifest = CheckpointManifest(**{**values, "steps": 9})
    with process_group():
        good = save(tmp_path, {"model": {"a": torch.ones(3)}}, manifest, "day")
        before = {path.name: path.read_bytes() for path in good.tensors.iterdir()}
        bad = {"model": {"a": torch.ones(3)}, "adam": {"b": torch.tensor([1.0, math.nan])}}
        with pytest.raises(DivergedError, match=r"step 9: .*adam.b on rank 0"):
            save(tmp_path, bad, manifest, "day")
    assert {path.name: path.read_bytes() for path in good.tensors.iterdir()} == before
    assert Checkpoint.at(good.path) == good
    assert len(list(good.path.iterdir())) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["day"]


def test_the_page_that_a_diverged_training_names_is_there():
    assert (Path(__file__).parents[3] / "infra" / "runbooks" / f"{RUNBOOK}.md").exists()


def test_the_first_failure_is_named_unless_all_are_the_same(tmp_path):
    report(tmp_path, 1, DivergedError(3, "loss nan"))
    report(tmp_path, 0, KeyError())
    first = reported(tmp_path, 2)
    assert first.reason == "rank 1 of 2: step 3: loss nan; the training diverged"
    assert first.summary == {"runbook": RUNBOOK, "step": 3}
    report(tmp_path, 0, DivergedError(3, "loss nan"))
    assert reported(tmp_path, 2).reason == "step 3: loss nan; the training diverged"


@pytest.mark.parametrize(
    ("error", "is_own"),
    [
        (OSError("no space left"), True),
        (RuntimeError("shape (3,) is not (4,)"), True),
        (RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:5] closed"), False),
        (RuntimeError("Application timeout caused pair closure"), False),
        (dist.DistNetworkError("connection reset"), False),
    ],
)
def test_a_rank_that_only_lost_another_one_writes_nothing(tmp_path, error, is_own):
    with process_group(), pytest.raises(CheckpointError), reported_failures(tmp_path):
        raise CheckpointError("checkpoint a: does not fit") from error
    assert (reported(tmp_path, 1) is not None) is is_own
    assert (seconds_lost(tmp_path) > 0) is not is_own
    note_join(tmp_path)
    assert seconds_lost(tmp_path) == 0


def test_a_rank_that_lost_one_of_another_host_takes_its_words_over(tmp_path, anywhere):
    own, shared = tmp_path / "own", anywhere / "shared"
    own.mkdir()
    lost = dist.DistNetworkError("connection reset")
    with process_group(), pytest.raises(dist.DistError), reported_failures(own, shared):
        raise lost
    assert reported(own, 2) is None
    report(shared, 1, ValueError("page 7 is cut off"))
    with process_group(), pytest.raises(dist.DistError), reported_failures(own, shared):
        raise lost
    assert reported(own, 2).reason == "rank 1 of 2: page 7 is cut off"
    with process_group(), pytest.raises(KeyError), reported_failures(own, shared):
        raise KeyError("column")
    assert {path.name for path in shared.iterdir()} == {"failure-0.json", "failure-1.json"}


@pytest.mark.process
@pytest.mark.parametrize(("hears", "code"), [("", -15), ("trap '' TERM;", -9)])
def test_torchrun_that_does_not_see_that_a_rank_is_lost_for_good_is_ended(
    tmp_path, monkeypatch, hears, code
):
    monkeypatch.setattr("training.cli.torchrun._END_SECONDS", 0.5)
    report_of_long_ago = tmp_path / "lost"
    note_loss(tmp_path)
    os.utime(report_of_long_ago, (0, 0))
    with subprocess.Popen(["sh", "-c", f"{hears} exec sleep 60"]) as torchrun:
        hosts = Hosts.from_environment({"PET_NNODES": "2", "PET_NODE_RANK": "1"})
        ended = _Run(tmp_path, torchrun, 2, hosts).ended()
    words = f"training: torchrun exited with {code} on host 1 of 2: a rank or a host was lost"
    with pytest.raises(ChildProcessError, match=words):
        ended.checked("training")
