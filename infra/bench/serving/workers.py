"""One process and one worker for each core, compared: ``work_share_500`` and memory of each.

    python -m infra.bench.serving.workers      # a part of ``make bench-serve``; minutes

Both servers are there at once and take turns, each with the work alone before it. Clients
over gRPC have a connection each: the kernel gives each connection to one worker. ``cores_…`` says
how many cores the server's processes kept busy: with all of them, more workers answer no more.
``cpu_ms_…`` is their processor time for each request.
"""

import collections
import json
import statistics
import sys
import time
from pathlib import Path

import psutil
from tqdm import tqdm

from features.options import from_flags, option, parse
from infra.bench.serving import baselines as serve_baselines
from infra.bench.serving import data
from infra.bench.serving.load import grpc_messages, load_grpc
from infra.local.servers import Endpoint
from training.resources import num_cores

SIZE, CLIENTS, ROUNDS = 500, 8, 5


@from_flags
class WorkersRequest:
    """Compare one process with several workers."""

    seconds: float = option("of each measurement", default=3.0)
    rounds: int = option("of which the median counts", default=ROUNDS)
    clients: int = option("over gRPC, each with a connection", default=CLIENTS)


def main() -> None:
    """Measure; print one JSON object."""
    request = parse(WorkersRequest, prog="python -m infra.bench.serving.workers")
    asked = {"rounds": request.rounds, "clients": request.clients}
    figures = measure(data.prepare(), seconds=request.seconds, **asked)
    sys.stdout.write(json.dumps(figures) + "\n")


def measure(
    model: Path, *, seconds: float, rounds: int = ROUNDS, clients: int = CLIENTS
) -> dict[str, object]:
    """The figures, by the number of workers: medians, and those of each round.

    Args:
        model: Folder of the artifact.
        seconds: Of each measurement.
        rounds: Their number.
        clients: Who ask at the same time.
    """
    several, contents = max(2, num_cores()), grpc_messages(data.requests(SIZE))
    found: dict[str, list[float]] = collections.defaultdict(list)
    with (
        data.serving(model) as one,
        data.serving(model, workers=several) as all_workers,
        serve_baselines.helpers(model, SIZE, asked="per_second", number=num_cores()) as alone,
    ):
        servers = {1: one, several: all_workers}
        for _ in tqdm(range(rounds), desc=f"1 and {several} workers", unit="round"):
            rates = {}
            for workers, (_, port, _) in servers.items():
                work = alone.ask()["work"]
                before, started = _cpu_seconds(servers[workers]), time.perf_counter()
                served = load_grpc(
                    port, contents, clients=clients, seconds=seconds, is_shared=False
                )
                used = _cpu_seconds(servers[workers]) - before
                cores = used / (time.perf_counter() - started)
                found[f"cores_workers_{workers}"].append(cores)
                found[f"cpu_ms_workers_{workers}"].append(cores / served.per_second * 1e3)
                found["client_cores"].append(served.client_share)
                rates[workers] = served.per_second
                found[f"work_share_{SIZE}_workers_{workers}"].append(served.per_second / work)
                found[f"p50_ms_workers_{workers}"].append(served.p50_ms)
            found["workers_ratio"].append(rates[several] / rates[1])
        memory = {f"pss_mb_workers_{n}": _pss_mb(server) for n, server in servers.items()}
    rounded = {name: [round(one, 3) for one in values] for name, values in found.items()}
    return {**{n: statistics.median(v) for n, v in rounded.items()}, **memory, "rounds": rounded}


def _processes(server: Endpoint) -> list[psutil.Process]:
    parent = psutil.Process(server[2].pid)
    return [parent, *parent.children(recursive=True)]


def _cpu_seconds(server: Endpoint) -> float:
    """Processor time that the processes of a server have used so far."""
    return sum(sum(process.cpu_times()[:2]) for process in _processes(server))


def _pss_mb(server: Endpoint) -> list[int]:
    """Memory of each process of a server, in which what several map counts for each a part."""
    return [process.memory_full_info().pss >> 20 for process in _processes(server)]


if __name__ == "__main__":
    main()
