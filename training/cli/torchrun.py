"""Runs ranks with torchrun, and tracks a training; light, so that only the ranks import torch."""

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import pickle
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from features.cli import FailedError
from features.places import Place
from features.schema import Schema
from training.checkpoint.catalog import Checkpoints, checkpoint_name
from training.cli.rank_requests import (
    MLFLOW_RUN,
    REQUEST,
    RESULT,
    RankRequest,
    SpeedRank,
    TrainingRank,
)
from training.distributed.failures import Failure, reported, seconds_lost
from training.distributed.hosts import Hosts, Waiting, interface_of
from training.registry.mlflow_registry import Registry
from training.resources import num_cores

_CPU_RANKS = 2
"""Enough to train as on many devices: tables are split, gradients averaged."""
MAX_RESTARTS = 3
"""Times that torchrun starts all ranks again when one of them died."""
_POLL_SECONDS = 0.2
_GRACE_SECONDS = 1.0
"""Once one rank has failed, how long the others may take to report the same failure."""
_END_SECONDS = 10.0
"""How long torchrun may take to end the ranks."""


@dataclasses.dataclass(frozen=True)
class _Ended:
    """How a run of several ranks ended."""

    code: int
    """torchrun's exit code."""
    failure: Failure | None
    """Why a rank failed by itself."""
    result: dict[str, Any]
    """What the ranks found; empty where they found nothing."""
    hosts: Hosts

    def checked(self, what: str) -> dict[str, Any]:
        """The result; raises as ``run_on_ranks`` does."""
        if self.failure:
            raise FailedError(self.failure.reason, self.failure.summary)
        if self.code == 0 and self.result:
            return self.result
        reason = f"{what}: torchrun exited with {self.code}"
        if self.hosts.count > 1:
            reason += (
                f" on host {self.hosts.number} of {self.hosts.count}: a rank or a host was lost, "
                f"and not back within {Waiting.from_environment().lost_seconds} s; when all hosts "
                "are started again, they go on from the last save"
            )
        raise ChildProcessError(reason)


@dataclasses.dataclass(frozen=True)
class _Run:
    """Ranks that were started, and the folder through which they and this process talk."""

    folder: Path
    torchrun: "subprocess.Popen[bytes]"
    ranks: int
    """Of all hosts."""
    hosts: Hosts

    def ended(self) -> _Ended:
        """Wait for the ranks; as soon as one has failed by itself, end the others."""
        code = self._exit_code()
        file = self.folder / RESULT
        result = json.loads(file.read_text()) if file.exists() else {}
        return _Ended(code, reported(self.folder, self.ranks), result, self.hosts)

    def _exit_code(self) -> int:
        # Once for a host that comes back, once for its ranks.
        longest = 2 * Waiting.from_environment().lost_seconds
        while not reported(self.folder, self.ranks) and seconds_lost(self.folder) < longest:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.torchrun.wait(_POLL_SECONDS)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.torchrun.wait(_GRACE_SECONDS)
        self.torchrun.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.torchrun.wait(_END_SECONDS)
        # Cut off from the host with torchrun's store, it may wait where it hears no signal.
        self.torchrun.kill()
        return self.torchrun.wait()


def train_and_track(
    schema: Schema, rank: TrainingRank, *, hosts: Hosts, ranks: int
) -> dict[str, Any]:
    """Run one day's training under an MLflow run, from host 0; raises as ``run_on_ranks``.

    Args:
        schema: The data set.
        rank: What each rank is to do.
        hosts: Those that train; the others call ``join_training``.
        ranks: Of each host.
    """
    asked, recipe = rank.asked, rank.recipe
    parameters = {
        "dataset": schema.name,
        "schema_fingerprint": schema.fingerprint(),
        "recipe": recipe.name,
        "ranks": ranks * hosts.count,
        **_flat(recipe.to_dict()),
    }
    name = checkpoint_name(asked.date, role=asked.role, recipe=recipe.name)
    if hosts.count > 1:
        running = Checkpoints(asked.checkpoints, schema).running(name)
        # Of this start: an earlier one may have failed, and left its words there.
        failures = running / f"failures-{uuid.uuid4().hex[:12]}"
        rank = dataclasses.replace(rank, failures=failures)
    with _started(rank, ranks, hosts) as run:
        # MLflow opens its database while the ranks import torch.
        registry = Registry(asked.tracking, schema.name)
        tracked = registry.start_run(asked.date, parameters, name=name)
        written = run.folder / f"{MLFLOW_RUN}.part"
        written.write_text(tracked)
        written.rename(run.folder / MLFLOW_RUN)
        ended = run.ended()
    registry.finish_run(
        tracked,
        metrics=ended.result.get("metrics", {}),
        tags={"checkpoint": ended.result.get("checkpoint", "")}
        | {f"partition_{day}": value for day, value in ended.result.get("partitions", {}).items()},
        curve=ended.result.get("curve", []),
        succeeded=ended.code == 0 and bool(ended.result),
    )
    result = ended.checked(f"training of {asked.date}")
    page = _write_page(asked.reports, schema, result)
    return {**_shown(result), "mlflow_run": tracked, "report": page}


def join_training(what: str, *, hosts: Hosts, ranks: int) -> dict[str, Any]:
    """Run this host's ranks of a training that host 0 decides; raises as ``run_on_ranks``."""
    with _started(None, ranks, hosts) as run:
        return {**_shown(run.ended().checked(what)), "host": hosts.number}


def _shown(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in {"curve", "partitions"}}


def run_on_ranks(asked: RankRequest, what: str, *, ranks: int) -> dict[str, Any]:
    """Have several ranks of this host do something; returns what they found.

    Raises:
        FailedError: A rank failed, or the ranks found their input invalid; the message is theirs.
        ChildProcessError: A rank was lost more often than it could be replaced.
    """
    with _started(asked, ranks, Hosts()) as run:
        return run.ended().checked(what)


def speed_by_ranks(configuration: str, *, ranks: int) -> dict[str, Any]:
    """The speed of steps and of their input, on one rank and on several that share the cores."""
    found = {
        number: run_on_ranks(
            SpeedRank(configuration=configuration), f"speed on {number} ranks", ranks=number
        )
        for number in (1, ranks)
    }
    return {
        **{
            f"{figure}_by_ranks": {number: round(one[figure], 3) for number, one in found.items()}
            for figure in found[1]
        },
        "share_of_one_rank": found[ranks]["samples_per_second"] / found[1]["samples_per_second"],
    }


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


@contextlib.contextmanager
def _started(asked: RankRequest | None, ranks: int, hosts: Hosts) -> Iterator[_Run]:
    """This host's ranks, which do what is asked of rank 0; the end of the block ends them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if asked is not None:
            (folder / REQUEST).write_bytes(pickle.dumps(asked))
        with _torchrun(folder, ranks, hosts) as started:
            yield _Run(folder, started, ranks * hosts.count, hosts)


@contextlib.contextmanager
def _torchrun(folder: Path, ranks: int, hosts: Hosts) -> Iterator["subprocess.Popen[bytes]"]:
    """Start this host's ranks of a run with a folder here; the end of the block ends them."""
    rendezvous, interface = ["--standalone"], "lo"
    if hosts.count > 1:
        rendezvous, address = hosts.rendezvous(seconds=Waiting.from_environment().lost_seconds)
        interface = os.environ.get("GLOO_SOCKET_IFNAME") or interface_of(address)
    command = [
        *(sys.executable, "-m", "torch.distributed.run", *rendezvous),
        *(f"--nnodes={hosts.count}", f"--nproc-per-node={ranks}"),
        *(f"--max-restarts={MAX_RESTARTS}", "--module", "training.cli.rank_worker", str(folder)),
    ]
    environment = _environment(ranks, hosts, interface)
    # Our stdout is for the one JSON line.
    started = subprocess.Popen(command, env=environment, stdout=sys.stderr.fileno())
    try:
        yield started
    finally:
        if started.poll() is None:
            started.terminate()
            started.wait()


def _write_page(reports: Place, schema: Schema, result: dict[str, Any]) -> str:
    from training.evaluation.reports import write_training_page

    facts = {
        key: result[key]
        for key in ("parent", "trained_through", "days", "examples", "steps", "recipe")
    }
    facts |= {f"immature {key}": value for key, value in result.get("immature", {}).items()}
    page = (schema.name, result["name"], result["curve"], facts, result["parts"])
    return write_training_page(reports, *page)


def _environment(ranks: int, hosts: Hosts, interface: str) -> dict[str, str]:
    """This host's cores shared out over its ranks, and the interface for their traffic.

    torchrun's own store outlives a restart and still has the addresses of the ranks that died, for
    which the new ones would wait (https://github.com/pytorch/pytorch/issues/135712); so rank 0
    opens one at every start.
    """
    threads = max(1, num_cores() // ranks)
    return {
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "OMP_NUM_THREADS": str(threads),
        "GLOO_SOCKET_IFNAME": interface,
        **os.environ,
        # What the ranks go by; a command of one host may run where they name several.
        "PET_NNODES": str(hosts.count),
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
