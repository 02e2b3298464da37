"""Starts a training run with torchrun and tracks it; light, so that only the ranks import torch."""

import argparse
import contextlib
import dataclasses
import importlib.metadata
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from features.cli import FailedError
from features.schema import Schema
from training.checkpoint.catalog import checkpoint_name
from training.config.recipe import Recipe
from training.distributed.failures import Failure, reported
from training.registry.mlflow_registry import Registry
from training.resources import num_cores

logger = logging.getLogger(__name__)

_CPU_RANKS = 2
"""Enough to train as on many devices: tables are split, gradients averaged."""
MAX_RESTARTS = 3
"""Times that torchrun starts all ranks again when one of them died."""
_POLL_SECONDS = 0.2
_GRACE_SECONDS = 1.0
"""Once one rank has failed, how long the others may take to report the same failure."""
_PASSED_ON = (
    "holdout_days",
    "batch_size",
    "epochs",
    "trial",
    "precision",
    "dense_parallelism",
    "checkpoint_steps",
    "id_log",
)
"""Options of a training that its ranks take as they are."""


def train_and_track(schema: Schema, recipe: Recipe, options: argparse.Namespace) -> dict[str, Any]:
    """Run one day's training on ``options.ranks`` processes under an MLflow run.

    Raises:
        FailedError: A rank failed, or the ranks found their input invalid; the message is theirs.
        ChildProcessError: A rank was lost more often than it could be replaced.
    """
    parameters = {
        "dataset": schema.name,
        "schema_fingerprint": schema.fingerprint(),
        "recipe": recipe.name,
        "ranks": options.ranks,
        **_flat(recipe.to_dict()),
    }
    name = checkpoint_name(options.date, role=options.trial or "", recipe=recipe.name)
    with tempfile.TemporaryDirectory() as folder:
        files = _Files(Path(folder) / "mlflow_run", Path(folder) / "result.json")
        command = _training_command(recipe, options, files)
        with _torchrun(command, options.ranks) as ranks:
            # MLflow opens its database while the ranks import torch.
            registry = Registry(options.tracking, schema.name)
            run = registry.start_run(options.date, parameters, name=name)
            written = files.mlflow_run.with_suffix(".part")
            written.write_text(run)
            written.rename(files.mlflow_run)
            code, failure = _ended(ranks, Path(folder), options.ranks)
        result = json.loads(files.result.read_text()) if files.result.exists() else {}
    registry.finish_run(
        run,
        metrics=result.get("metrics", {}),
        tags={"checkpoint": result.get("checkpoint", "")}
        | {f"partition_{day}": value for day, value in result.get("partitions", {}).items()},
        curve=result.get("curve", []),
        succeeded=code == 0 and bool(result),
    )
    if failure:
        raise FailedError(failure.reason, failure.summary)
    if code != 0 or not result:
        raise ChildProcessError(f"training of {options.date}: torchrun exited with {code}")
    return _summary(schema, options, result, run)


def default_ranks() -> int:
    """One rank a CUDA device that can be used; without one two, or as many as there are cores."""
    if not _is_cpu_build():
        from training.distributed.device import num_cuda_devices

        if devices := num_cuda_devices():
            return devices
    return min(_CPU_RANKS, num_cores())


def _is_cpu_build() -> bool:
    """Whether the CPU build is installed, without the import of torch, which takes a second."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        importlib.metadata.distribution("fbgemm-gpu-cpu")
        return True
    return False


def upscale_on_ranks(options: argparse.Namespace) -> dict[str, Any]:
    """Grow a checkpoint on as many processes as wrote it; returns what rank 0 found.

    Raises:
        FailedError: A rank failed, or the ranks found their input invalid; the message is theirs.
        ChildProcessError: A rank was lost more often than it could be replaced.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        flags = (
            f"--dataset={options.dataset}",
            f"--lake={options.lake}",
            f"--checkpoints={options.checkpoints}",
            f"--from={options.source}",
            f"--to={options.target}",
            f"--result={result}",
        )
        with _torchrun(("grow", *flags), options.ranks) as ranks:
            code, failure = _ended(ranks, Path(folder), options.ranks)
        if failure:
            raise FailedError(failure.reason, failure.summary)
        if code != 0 or not result.exists():
            raise ChildProcessError(f"upscaling of {options.source}: torchrun exited with {code}")
        return dict(json.loads(result.read_text()))


def speed_on_ranks(options: argparse.Namespace) -> dict[str, Any]:
    """The speed of steps and of their input, on one rank and on several that share the cores."""
    found: dict[int, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for ranks in (1, options.ranks):
            result = Path(folder) / f"{ranks}"
            flags = (f"--configuration={options.configuration}", f"--result={result}")
            with _torchrun(("speed", *flags), ranks) as started:
                code = started.wait()
            if code != 0 or not result.exists():
                raise ChildProcessError(f"speed on {ranks} ranks: torchrun exited with {code}")
            found[ranks] = json.loads(result.read_text())
    return {
        **{
            f"{figure}_by_ranks": {ranks: round(one[figure], 3) for ranks, one in found.items()}
            for figure in found[1]
        },
        "share_of_one_rank": found[options.ranks]["samples_per_second"]
        / found[1]["samples_per_second"],
    }


@dataclasses.dataclass(frozen=True)
class _Files:
    """The files through which this process and the ranks exchange results."""

    mlflow_run: Path
    """Written by this process once the run is open; read by rank 0 when it saves."""
    result: Path
    """Written by rank 0 at the end."""


@contextlib.contextmanager
def _torchrun(worker: Sequence[str], ranks: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Start the ranks of a worker's command; the end of the block ends them."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run"),
        *("--standalone", f"--nproc-per-node={ranks}", f"--max-restarts={MAX_RESTARTS}"),
        *("--module", "training", *worker),
    ]
    # Our stdout is for the one JSON line.
    started = subprocess.Popen(command, env=_environment(ranks), stdout=sys.stderr.fileno())
    try:
        yield started
    finally:
        if started.poll() is None:
            started.terminate()
            started.wait()


def _ended(
    started: "subprocess.Popen[bytes]", folder: Path, ranks: int
) -> tuple[int, Failure | None]:
    """Wait for the ranks; as soon as one has failed by itself, end the others.

    Returns:
        torchrun's exit code, and why a rank failed.
    """
    while not reported(folder, ranks):
        with contextlib.suppress(subprocess.TimeoutExpired):
            return started.wait(_POLL_SECONDS), reported(folder, ranks)
    with contextlib.suppress(subprocess.TimeoutExpired):
        started.wait(_GRACE_SECONDS)
    started.terminate()
    return started.wait(), reported(folder, ranks)


def _summary(
    schema: Schema, options: argparse.Namespace, result: dict[str, Any], run: str
) -> dict[str, Any]:
    from training.evaluation.reports import write_training_page

    facts = {
        key: result[key]
        for key in ("parent", "trained_through", "days", "examples", "steps", "recipe")
    }
    name = result["name"]
    page = write_training_page(options.reports, schema.name, name, result["curve"], facts)
    shown = {key: value for key, value in result.items() if key not in {"curve", "partitions"}}
    return {**shown, "mlflow_run": run, "report": page}


def _training_command(recipe: Recipe, options: argparse.Namespace, files: _Files) -> list[str]:
    command = [
        "worker",
        f"--dataset={options.dataset}",
        f"--lake={options.lake}",
        f"--checkpoints={options.checkpoints}",
        f"--date={options.date.isoformat()}",
        f"--recipe={recipe.name}",
        f"--ranks={options.ranks}",
        f"--mlflow-run={files.mlflow_run}",
        f"--result={files.result}",
    ]
    for name in _PASSED_ON:
        value = getattr(options, name)
        if value is not None:
            command.append(f"--{name.replace('_', '-')}={value}")
    return command if options.source is None else [*command, f"--from={options.source}"]


def _environment(ranks: int) -> dict[str, str]:
    """One machine's cores shared out over the ranks, and its loopback for their traffic.

    torchrun's own store outlives a restart and still has the addresses of the ranks that died, for
    which the new ones would wait (https://github.com/pytorch/pytorch/issues/135712); so rank 0
    opens one at every start.
    """
    threads = max(1, num_cores() // ranks)
    return {
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "OMP_NUM_THREADS": str(threads),
        "GLOO_SOCKET_IFNAME": "lo",
        **os.environ,
        "PYTHONWARNINGS": "ignore",
    }


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
