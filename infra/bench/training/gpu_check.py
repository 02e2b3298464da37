"""``make gpu-check``: what a GPU does of what is promised, in ten minutes; one JSON and one page.

Each way of training is a process of its own, which takes some steps, saves, resumes, and loads what
it saved as a server does; the CPU's is the reference. ``--device cpu``: the same, in a small form.
"""

import dataclasses
import hashlib
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from features.encoding.encode import Ids, ModelInputs
from features.options import from_flags, option, parse
from features.pages.content import Block, Cell, Facts, Heading, Page, Prose, Table, Tone
from features.pages.site import write
from features.places import Place, place
from infra.local.settings import REPOSITORY
from training.checkpoint.catalog import MANIFEST
from training.checkpoint.tensors import load_whole
from training.config.recipe import Pipeline, Precision, Recipe, TableDtype
from training.data.batch import Batch, jagged
from training.distributed.accelerators import accelerator_of
from training.distributed.device import num_cuda_devices, peak_memory_bytes
from training.distributed.process_group import process_group
from training.experiments import train_speed
from training.model.flops import cost_of
from training.model.inputs import Inputs
from training.model.ranker import Ranker
from training.trainer.in_run_checkpoint import Position, Progress
from training.trainer.loop import take_steps
from training.trainer.session import Session, Step

Figures = dict[str, Any]

CPU = "cpu"
"""The way that the others are compared with."""
WAYS: dict[str, tuple[str, Figures]] = {
    CPU: ("A", {"precision": Precision.FLOAT32, "pipeline": Pipeline.OFF}),
    "float32": ("A", {"precision": Precision.FLOAT32}),
    "bf16": ("A", {"precision": Precision.BF16}),
    "half-tables": ("A", {"precision": Precision.FLOAT32, "table_dtype": TableDtype.FLOAT16}),
    "bf16-B": ("B", {"precision": Precision.BF16}),
}
"""Each with its configuration of ``train_speed`` and what it changes in its training."""
LOSS_LIMITS = {"float32": 1e-3, "half-tables": 2e-2, "bf16": 8e-2}
"""Largest relative difference of a step's loss from the CPU's in float32; the last two are twice
what the same numbers differ by on a CPU, in the small form."""
EXPORT_LIMIT = 1e-4
"""Of a probability: a float32 server on a CPU against the device that trained."""
RESUME_LIMITS = {"cpu": 0.0, "cuda": 1e-2}
"""Of a weight: kernels of CUDA add in any order."""
MEMORY_LIMIT = 2.0
"""The device's peak over the plan's bytes."""
NEEDS = (
    "gpu-check: needs a CUDA device that torch and FBGEMM can both use: an NVIDIA driver, and "
    "`make install ACCELERATOR=cuda`; torch {version} sees {devices} here. `--device cpu` runs the "
    "same checks on a CPU in a small form.\n"
)


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is done."""

    batch_size: int
    steps: int
    speed_seconds: float
    configurations: tuple[str, ...]
    squares: train_speed.Squares | None = None
    """Matrix products that the speed is a share of; None: those of the device."""


FULL = Size(16_384, 20, 10.0, ("A", "B"))
# Of products for half a second: those that a CPU is measured by would be most of the check.
SMALL = Size(128, 4, 0.2, ("A",), train_speed.Squares((512, 1024), 2e10))


@from_flags
class CheckRequest:
    """Check training on this machine's GPU."""

    device: Literal["cuda", "cpu"] = option("what is checked", default="cuda")
    reports: Path = option("where JSON and page go", default=REPOSITORY / "var" / "gpu-check")
    way: str | None = option(
        "run one way alone, and print its figures", choices=tuple(WAYS), default=None
    )


def main() -> int:
    """Run all ways, judge them, write JSON and page; 1 when a check failed, 2 without a GPU."""
    request = parse(CheckRequest, prog="python -m infra.bench.training.gpu_check")
    size = FULL if request.device == "cuda" else SMALL
    request.reports.mkdir(parents=True, exist_ok=True)
    if request.way:
        figures = run_way(request.way, request.reports / "saves", size)
        sys.stdout.write(json.dumps(figures) + "\n")
        return 0
    if request.device == "cuda" and not num_cuda_devices():
        found = torch.cuda.device_count()
        sys.stderr.write(NEEDS.format(version=torch.__version__, devices=found))
        return 2
    started = time.monotonic()
    names = [way for way, (one, _) in WAYS.items() if one in size.configurations]
    ways = {way: _in_process(way, request) for way in names}
    checks = judge(ways, request.device)
    passed = all(check["passed"] for check in checks)
    result = {"passed": passed, "seconds": time.monotonic() - started, "checks": checks}
    result["ways"] = {
        way: {key: value for key, value in one.items() if key != "scores"}
        for way, one in ways.items()
    }
    (request.reports / "gpu-check.json").write_text(json.dumps(result, indent=1))
    write(page_of(result), place(request.reports), "gpu-check.html")
    sys.stdout.write(json.dumps(result) + "\n")
    return 0 if passed else 1


def _in_process(way: str, request: CheckRequest) -> Figures:
    """One way's figures; without a visible GPU where the CPU is asked for."""
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if CPU in (way, request.device) else {}
    command = [sys.executable, "-m", "infra.bench.training.gpu_check", f"--way={way}"]
    flags = [f"--device={request.device}", f"--reports={request.reports}"]
    sys.stderr.write(f"== {way}\n")
    done = subprocess.run(
        [*command, *flags], stdout=subprocess.PIPE, text=True, check=True, env=os.environ | hidden
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def run_way(way: str, folder: Path, size: Size) -> Figures:
    """Train, save, resume, score and export one way, in this process."""
    configuration, changes = WAYS[way]
    inputs, recipe = train_speed.configuration(configuration, is_compiled=False)
    recipe = recipe.with_training(batch_size=size.batch_size, **changes)
    with process_group():
        session, batches = train_speed.session_of(inputs, recipe, num_batches=size.steps)
        first = _digest(session)
        losses: list[torch.Tensor] = []
        half = size.steps // 2

        def note(_: int, step: Step) -> None:
            losses.append(step.loss)

        take_steps(session, batches[:half], seed=1, after_step=note)
        peak_bytes = peak_memory_bytes(session.device)  # before there is a second one
        identity = {"way": way, "started": time.time_ns()}
        progress = Progress(place(folder / way), identity, at_most=2 * half)
        _save(progress, session, half)
        again, _ = train_speed.session_of(inputs, recipe, num_batches=size.steps)
        progress.restore(again)
        take_steps(session, batches[half:], done=half, seed=1, after_step=note)
        take_steps(again, batches[half:], done=half, seed=1)
        tensors = _save(progress, session, 2 * half)
        rows = _rows(inputs, size.batch_size)
        scores = session.score([rows])
        exported = _exported_scores(inputs, recipe, tensors, rows)
        progress.remove()
        return {
            "configuration": configuration,
            "device": _device_name(session),
            "first_tables": first,
            "losses": [float(loss) for loss in losses],
            "scores": scores.tolist(),
            "resumed": _farthest(session, again),
            "exported": float(np.abs(scores - exported).max()),
            "planned_bytes": _planned_bytes(session),
            "peak_bytes": peak_bytes,
            **_speed(session, batches, size, cost_of(inputs, recipe.model).training_flops),
        }


def _save(progress: Progress, session: Session, step: int) -> Place:
    """Save as a run does while it goes; returns the folder of the tensors."""
    progress.after_step(session, Position(batch=step, step=step))
    progress.wait()
    folder = progress.folder / f"{step:09d}"
    return folder / str(json.loads((folder / MANIFEST).read_text())["tensors"])


def _digest(session: Session) -> str:
    """SHA-256 of the tables' first values."""
    digest = hashlib.sha256()
    for name, value in session.local_tensors():
        if "embeddings" in name:
            digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()


def _rows(inputs: Inputs, num_rows: int) -> ModelInputs:
    random = np.random.default_rng(1)
    ids = {
        one.name: Ids.one_each(random.integers(0, one.num_rows, num_rows)) for one in inputs.sparse
    }
    return ModelInputs(random.lognormal(size=(num_rows, len(inputs.dense))).astype("f4"), ids)


@torch.no_grad()
def _exported_scores(
    inputs: Inputs, recipe: Recipe, tensors: Place, rows: ModelInputs
) -> npt.NDArray[np.float32]:
    """Scores of a float32 ranker on the CPU that loads what was saved."""
    ranker = Ranker(inputs, recipe.model).eval()
    load_whole(tensors, ranker)
    return np.asarray(torch.sigmoid(ranker(torch.from_numpy(rows.dense), jagged(rows))))


def _farthest(left: Session, right: Session) -> float:
    pairs = zip(left.local_tensors(), right.local_tensors(), strict=True)
    return max(float((a.double() - b.double()).abs().max()) for (_, a), (_, b) in pairs)


def _planned_bytes(session: Session) -> int:
    tables = (shard.storage for option in session.plan.options for shard in option.shards)
    return int(sum(one.hbm + one.ddr for one in tables)) + session.plan.dense.bytes_by_rank


def _device_name(session: Session) -> str:
    is_cuda = session.device.type == "cuda"
    return torch.cuda.get_device_name(session.device) if is_cuda else CPU


def _speed(session: Session, batches: list[Batch], size: Size, flops: int) -> Figures:
    """Useful FLOPs of steps, as a share of a matrix product here and of the data sheet's peak."""
    started = time.perf_counter()
    steps = train_speed.train(session, itertools.cycle(batches), seconds=size.speed_seconds)
    reached = flops * size.batch_size * steps / (time.perf_counter() - started)
    product = max(train_speed.gflops_of_squares(session, size.squares)) * 1e9
    known = accelerator_of(_device_name(session))
    sheet = (known.bf16_flops if session.is_bf16 else known.float32_flops) if known else None
    return {
        "samples_per_second": reached / flops,
        "teraflops": reached / 1e12,
        "share_of_product": reached / product,
        "share_of_data_sheet": reached / sheet if sheet else None,
    }


def judge(ways: dict[str, Figures], device: str) -> list[Figures]:
    """Each check with what was found, its limit, and whether it passed."""
    base = ways[CPU]
    is_same = ways["float32"]["first_tables"] == base["first_tables"]
    found = [("first values of tables: bits that differ from the CPU's", float(not is_same), 0.0)]
    for way, limit in LOSS_LIMITS.items():
        losses, expected = (np.array(one["losses"]) for one in (ways[way], base))
        differs = float(np.max(np.abs(losses - expected) / expected))
        found.append((f"{way}: loss, relative to the CPU's", differs, limit))
        scores = np.abs(np.array(ways[way]["scores"]) - np.array(base["scores"])).max()
        found.append((f"{way}: probabilities, against the CPU's", float(scores), 10 * limit))
    for way, one in ways.items():
        limit = RESUME_LIMITS["cpu" if one["device"] == CPU else "cuda"]
        found.append((f"{way}: weights of a resumed run", one["resumed"], limit))
        found.append((f"{way}: probabilities of a float32 server", one["exported"], EXPORT_LIMIT))
        if device == "cuda" and way != CPU:
            share = one["peak_bytes"] / one["planned_bytes"]
            found.append((f"{way}: peak memory over the plan's", share, MEMORY_LIMIT))
    return [
        {"check": name, "found": value, "limit": limit, "passed": value <= limit}
        for name, value, limit in found
    ]


def page_of(result: Figures) -> Page:
    """The checks, then speed and memory of each way."""
    words = {True: Cell("passed", tone=Tone.GOOD), False: Cell("failed", tone=Tone.BAD)}
    checks = [(c["check"], c["found"], c["limit"], words[c["passed"]]) for c in result["checks"]]
    names = (
        *("device", "samples_per_second", "teraflops", "share_of_product", "share_of_data_sheet"),
        *("peak_bytes", "planned_bytes"),
    )
    speeds = [(way, *(one[name] for name in names)) for way, one in result["ways"].items()]
    columns = ("way", "device", "samples/s", "TFLOP/s", "of a matrix product", "of the data sheet")
    blocks: list[Block] = [
        Facts([("seconds", result["seconds"])]),
        Heading("Checks"),
        Table(("check", "found", "at most", ""), checks),
        Heading("Speed and memory"),
        Prose("Useful FLOPs of full steps. Of a CPU's memory it is the process's."),
        Table((*columns, "peak bytes", "planned bytes"), speeds),
    ]
    tone = Tone.GOOD if result["passed"] else Tone.BAD
    return Page("GPU check", blocks, "passed" if result["passed"] else "failed", tone)


if __name__ == "__main__":
    sys.exit(main())
