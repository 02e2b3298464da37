"""``make bench-serve``: the endpoint under load, compared with its parts alone.

Latency and throughput of the real server at 1, 8 and 32 clients, for 100, 500 and 2,000 candidates,
over REST (JSON and binary) and gRPC, with the SQLite store and with Redis. In the same run, in a
process of their own: the read of the same rows straight from the store, Feast's, and the model.

``work_ratio_<n>`` and ``work_share_<n>`` compare the server with exactly the work that it does for
a request of n candidates: the read of one user, making the inputs with the items in memory,
and the model. The ratio is the median latency of one client over that work's; the share is the
requests a second of eight clients over what all cores can do of that work with nothing else.
"""

import collections
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Literal

import httpx
import numpy as np
from tqdm import tqdm

from features.options import from_flags, option, parse
from infra.bench.jobs import show
from infra.bench.serving import baselines as serve_baselines
from infra.bench.serving import data, workers
from infra.bench.serving.load import (
    Measured,
    answer_grpc,
    grpc_messages,
    load_grpc,
    load_rest,
    rest_messages,
    sequence_grpc,
)
from infra.local.servers import RedisServer
from infra.local.settings import HOST
from training.resources import num_cores

CANDIDATES = (100, 500, 2_000)
MAIN_SIZE = 500
CLIENTS = (1, 8, 32)
PROTOCOLS = ("rest json", "rest binary", "grpc")
ROUNDS = {100: 3, 500: 5, 2_000: 3}
"""In each the parts alone and the server, one after the other; of the ratios the median counts."""
PAUSES = [1.0, *[0.0] * 99, *[1.0] * 5]
"""Seconds before each request to a new server: the first, ninety-nine without a pause, five with
one, after which the machine has to wake up as before the first."""
TOLERANCE = 1e-5
"""Largest difference between an answer and the same rows scored in another process."""

Cell = tuple[str, int, int]


@from_flags
class BenchRequest:
    """Measure the endpoint."""

    seconds: float = option("of each cell", default=1.5)
    stores: tuple[Literal["sqlite", "redis"], ...] = option(
        "which to try", default=("sqlite", "redis")
    )


def main() -> None:
    """Measure both stores; print the tables, then one JSON object."""
    request = parse(BenchRequest, prog="python -m infra.bench.serving.bench")
    model = data.prepare()
    figures: dict[str, dict[str, object]] = {}
    if "sqlite" in request.stores:
        figures["sqlite"] = measure("sqlite", model, request.seconds)
    if "redis" in request.stores and shutil.which("redis-server") is None:
        sys.stderr.write("no redis-server on this machine: Redis is left out\n")
    elif "redis" in request.stores:
        with RedisServer() as redis:
            os.environ["RANKING_ONLINE"] = redis.url
            data.materialize()
            figures["redis"] = measure("redis", model, request.seconds)
    sys.stdout.write(json.dumps({**figures.get("sqlite", {}), "stores": figures}) + "\n")


def measure(store: str, model: Path, seconds: float) -> dict[str, object]:
    """One store: baselines, then the server."""
    command = [sys.executable, "-m", serve_baselines.MODULE, f"--model={model}", "--candidates"]
    done = subprocess.run(
        [*command, *map(str, CANDIDATES)], stdout=subprocess.PIPE, text=True, check=True
    )
    baselines = {int(k): v for k, v in json.loads(done.stdout.splitlines()[-1]).items()}
    by_workers = workers.measure(model, seconds=seconds)
    with data.serving(model) as (http_port, grpc_port, _):
        first = first_requests(grpc_port)
        check_answer(model, grpc_port)
        cells = load(http_port, grpc_port, seconds)
        figures = ratios(model, (http_port, grpc_port), seconds)
        degraded = _degraded(http_port)
    figures |= first | {"degraded_answers": degraded, "workers": by_workers}
    _show(store, cells, baselines, figures)
    return figures | {"baselines": baselines}


def first_requests(grpc_port: int) -> dict[str, float]:
    """Milliseconds of a new server's first request, of the hundredth, and of later ones alone."""
    taken = [seconds * 1e3 for seconds in sequence_grpc(grpc_port, _contents("grpc", 500), PAUSES)]
    return {
        "first_request_ms": round(taken[0], 2),
        "about_the_hundredth_ms": round(statistics.median(taken[90:100]), 2),
        "later_after_a_pause_ms": round(statistics.median(taken[100:]), 2),
    }


def ratios(model: Path, ports: tuple[int, int], seconds: float) -> dict[str, object]:
    """The ratios and shares, measured in rounds, because the machine is noisy."""
    every: dict[str, list[float]] = {}
    for size in CANDIDATES:
        every |= _latencies(model, ports, size, seconds) | _shares(model, ports[1], size, seconds)
    rounded = {name: [round(one, 3) for one in values] for name, values in every.items()}
    return {**{name: statistics.median(v) for name, v in rounded.items()}, "rounds": rounded}


def _latencies(
    model: Path, ports: tuple[int, int], size: int, seconds: float
) -> dict[str, list[float]]:
    """One client's median latency over the work of a request; over all its reads at 500.

    Also where the server's time went, in milliseconds: the means of its own stages, and those of
    the same work in a process without a server.
    """
    http_port, grpc_port = ports
    loads = (
        ("grpc", load_grpc, grpc_port, _contents("grpc", size)),
        ("rest", load_rest, http_port, _contents("rest json", size)),
    )
    found: dict[str, list[float]] = collections.defaultdict(list)
    with serve_baselines.helpers(model, size, asked="milliseconds") as alone:
        for _ in tqdm(range(ROUNDS[size]), desc=f"latency, {size} candidates", unit="round"):
            for protocol, send, port, contents in loads:
                base, before = alone.ask(), _stages(http_port)
                served = send(port, contents, clients=1, seconds=seconds).p50_ms
                work, is_grpc = base["inputs"] + base["forward"], protocol == "grpc"
                found[f"{'' if is_grpc else 'rest_'}work_ratio_{size}"].append(served / work)
                if size == MAIN_SIZE:
                    found[f"{protocol}_500_ratio"].append(served / (base["read"] + base["forward"]))
                if not is_grpc:
                    continue
                found[f"grpc_p50_ms_{size}"].append(served)
                for name in ("inputs", "forward"):
                    found[f"{name}_alone_ms_{size}"].append(base[name])
                for stage, mean in _means(before, _stages(http_port)).items():
                    found[f"{stage}_ms_{size}"].append(mean)
    return found


def _shares(model: Path, port: int, size: int, seconds: float) -> dict[str, list[float]]:
    """Requests a second of eight clients over what the cores can do of the same work."""
    grpc, cores = _contents("grpc", size), num_cores()
    found: dict[str, list[float]] = collections.defaultdict(list)
    with (
        serve_baselines.helpers(model, size, asked="per_second", number=cores) as apart,
        serve_baselines.helpers(model, size, asked="per_second", threads=cores) as together,
    ):
        for _ in tqdm(range(ROUNDS[size]), desc=f"throughput, {size} candidates", unit="round"):
            rates = apart.ask(), together.ask()
            served = load_grpc(port, grpc, clients=8, seconds=seconds).per_second
            found[f"work_share_{size}"].append(served / max(one["work"] for one in rates))
            if size == MAIN_SIZE:
                most = max(one["all_read"] for one in rates)
                found["throughput_share_8"].append(served / most)
    return found


def _stages(http_port: int) -> dict[str, tuple[float, float]]:
    """Seconds and number of requests of each stage until now, and of the whole, by the server."""
    found: dict[str, dict[str, float]] = collections.defaultdict(dict)
    labels = r'\{model="[^"]+"(?:,stage="(\w+)")?\}'
    pattern = rf"^ranking_(?:stage|(admitted))_seconds_(sum|count){labels} (\S+)$"
    for admitted, kind, stage, value in re.findall(pattern, _metrics(http_port), re.MULTILINE):
        found[stage or admitted][kind] = float(value)
    return {stage: (one["sum"], one["count"]) for stage, one in found.items()}


def _means(
    before: dict[str, tuple[float, float]], after: dict[str, tuple[float, float]]
) -> dict[str, float]:
    """Milliseconds of a request in each stage between two looks."""
    means = {}
    for stage, (seconds, number) in after.items():
        seconds_before, number_before = before.get(stage, (0.0, 0.0))
        means[stage] = (seconds - seconds_before) / max(1.0, number - number_before) * 1e3
    return means


def _metrics(http_port: int) -> str:
    return httpx.get(f"http://{HOST}:{http_port}/metrics").raise_for_status().text


def _contents(protocol: str, size: int) -> list[bytes]:
    requests = data.requests(size)
    if protocol == "grpc":
        return grpc_messages(requests)
    return rest_messages(requests, is_binary=protocol == "rest binary")


def load(http_port: int, grpc_port: int, seconds: float) -> dict[Cell, Measured]:
    """Every protocol, number of candidates and number of clients."""
    cells: dict[Cell, Measured] = {}
    with tqdm(total=len(PROTOCOLS) * len(CANDIDATES) * len(CLIENTS), unit="cell") as bar:
        for size in CANDIDATES:
            for protocol in PROTOCOLS:
                contents = _contents(protocol, size)
                for clients in CLIENTS:
                    send, port = (
                        (load_grpc, grpc_port) if protocol == "grpc" else (load_rest, http_port)
                    )
                    bar.set_description(f"{protocol}, {size} candidates, {clients} clients")
                    cells[protocol, size, clients] = send(
                        port, contents, clients=clients, seconds=seconds
                    )
                    bar.update()
    return cells


def _show(
    store: str,
    cells: dict[Cell, Measured],
    baselines: dict[int, dict[str, float]],
    figures: dict[str, object],
) -> None:
    """The server, then what its parts cost alone."""
    show(
        f"The endpoint with {store}",
        ("protocol", "candidates", "clients", "p50, p90, p99, ms", "requests/s", "client CPU"),
        [
            (
                *(
                    protocol,
                    f"{size:,}",
                    clients,
                    f"{m.p50_ms:.1f}, {m.p90_ms:.1f}, {m.p99_ms:.1f}",
                ),
                *(f"{m.per_second:.0f}", f"{m.client_share:.0%}"),
            )
            for (protocol, size, clients), m in cells.items()
        ],
    )
    names = sorted({name for found in baselines.values() for name in found})
    rows = [(name, *(f"{found[name]:.2f}" for found in baselines.values())) for name in names]
    show("Alone", ("candidates", *(f"{size:,}" for size in baselines)), rows)
    sys.stderr.write("".join(f"{name}: {value}\n" for name, value in figures.items()))


def check_answer(model: Path, grpc_port: int) -> None:
    """RuntimeError where the server's scores are not those of the same rows in this process."""
    request = data.requests(500)[0]
    answer = answer_grpc(grpc_port, grpc_messages([request])[0])
    worst = float(np.abs(answer - serve_baselines.expected_scores(model, request)).max())
    if not worst <= TOLERANCE:
        raise RuntimeError(f"answer: off by {worst:.3g}; at most {TOLERANCE:g}")


def _degraded(http_port: int) -> dict[str, float]:
    """Answers flagged because of the store; an expired row is not counted."""
    found = {}
    pattern = (
        r'^ranking_(?:flagged_answers|store_reads)_total\{.*(?:flag|outcome)="(\w+)".*\} (\S+)$'
    )
    for name, value in re.findall(pattern, _metrics(http_port), re.MULTILINE):
        found[name] = float(value)
    return found


if __name__ == "__main__":
    main()
