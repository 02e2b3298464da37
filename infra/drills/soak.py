"""The endpoint under load for a long time, while everything around it changes.

    python -m infra.drills.soak                       10 minutes, as `make soak`
    python -m infra.drills.soak --seconds 12 --swap-seconds 3 --capacity-seconds 2

A small world is made (fixtures.py). The capacity of the endpoint is measured; then requests come
at 70 % of it, over REST and gRPC, in an open loop. Each half minute another version is promoted;
twice the online store restarts. Each answer must equal what exactly one version says for the same
features: the version that it names. No request may be lost, and the server's memory must not grow.

Progress goes to stderr; the last line of stdout is one JSON object. Exit code 1: a request was lost
or the memory grew.
"""

import asyncio
import contextlib
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import psutil
from tqdm import tqdm

from features.options import from_flags, option, parse
from infra.bench.serving import load_client
from infra.bench.serving.data import Request
from infra.bench.serving.load_client import Answer, Clients, Tally
from infra.demo.memory import MEGABYTE
from infra.drills import fixtures, soak_store
from infra.drills.soak_store import RedisStore, SqliteStore
from infra.local.processes import terminate_as_interrupt
from infra.local.settings import HOST
from serving.release.endpoint_client import Endpoint
from training.registry.aliases import CHAMPION

NUM_VERSIONS, NUM_BODIES, NUM_CANDIDATES = 3, 12, 100
TOLERANCE = 1e-5
"""Largest difference from a version's own answer: batches may sum in another order."""
MAX_GROWTH, MIN_GROWTH_MB = 0.05, 40.0
"""The memory may grow by this share of its start, or by so much, over the whole run."""
SETTLING = 0.2
"""First share of the run, in which allocators and caches fill; its memory does not count."""
MAX_CONCURRENT = "512"
"""A store that is away for a second makes requests wait; they must not fail for that."""
NOON = int(fixtures.NOON.timestamp() * 1_000_000)
"""Of every request, in epoch microseconds."""


@from_flags
class SoakRequest:
    """The endpoint under long load."""

    seconds: float = option("of the load", default=600.0)
    swap_seconds: float = option("between two swaps", default=30.0)
    capacity_seconds: float = option("of the measurement", default=10.0)
    share: float = option("of the capacity that is sent", default=0.7)


class Soak:
    """One soak of a running endpoint."""

    def __init__(
        self, request: SoakRequest, *, world: fixtures.World, store: SqliteStore | RedisStore
    ) -> None:
        """Args: what was asked for, the world that is served, and its online store."""
        self.request = request
        self.world = world
        self.store = store
        self.tally = Tally()
        self.num_swaps = self.num_restarts = 0
        self.rss_mb: list[tuple[float, float]] = []
        self._known: dict[tuple[int, bytes], dict[str, npt.NDArray[np.float32]]] = {}

    async def run(self, http_port: int, grpc_port: int, server: psutil.Process) -> dict[str, Any]:
        """Measure the capacity, send requests, swap versions, restart the store; a summary."""
        request = self.request
        self._endpoint = Endpoint(f"http://{HOST}:{http_port}", fixtures.SCHEMA.name)
        async with _clients(http_port, grpc_port) as clients:
            await self._learn(clients)
            capacity = await load_client.capacity(clients, seconds=request.capacity_seconds)
            rate = request.share * capacity
            say(f"capacity {capacity:.0f} requests/s; sending {rate:.0f} for {request.seconds:g} s")
            changes = [
                asyncio.create_task(work)
                for work in (self._swap_on(), self._restart_on(), self._watch(server))
            ]
            await load_client.send(
                clients, rate=rate, seconds=request.seconds, tally=self.tally, check=self.wrong
            )
            for change in changes:
                change.cancel()
            done = await asyncio.gather(*changes, return_exceptions=True)
        failures = [repr(one) for one in done if not isinstance(one, asyncio.CancelledError)]
        return self._summary(capacity, rate, failures=failures)

    def wrong(self, answer: Answer) -> str:
        """Why an answer is not the answer of exactly one version; empty when it is.

        What a version says for a body and its features is learnt from its first answer, and for
        whole features before the load, while it was alone.
        """
        known = self._known.setdefault((answer.body, answer.statuses), {})
        expected = known.setdefault(answer.version, answer.scores)
        equal = [version for version, scores in known.items() if _is_equal(scores, answer.scores)]
        if not _is_equal(expected, answer.scores):
            return f"{answer.version}: another answer than its own for body {answer.body}"
        return "" if len(equal) == 1 else f"scores of body {answer.body} are those of {equal}"

    async def _learn(self, clients: Clients) -> None:
        for version in self.world.versions:
            await asyncio.to_thread(self._swap, version)
            for number in range(NUM_BODIES):
                answer = await clients.ask(number)
                if answer.is_degraded or answer.version != version or self.wrong(answer):
                    raise RuntimeError(f"answer {answer}: not a whole one of {version} alone")

    def _swap(self, version: str) -> None:
        self.world.registry.set_alias(CHAMPION, version)
        self._endpoint.load()

    async def _swap_on(self) -> None:
        for version in itertools.cycle(self.world.versions):
            await asyncio.sleep(self.request.swap_seconds)
            await asyncio.to_thread(self._swap, version)
            self.num_swaps += 1

    async def _restart_on(self) -> None:
        for _ in range(2):
            await asyncio.sleep(self.request.seconds / 3)
            await asyncio.to_thread(self.store.restart)
            self.num_restarts += 1
        await asyncio.Event().wait()

    async def _watch(self, server: psutil.Process) -> None:
        """Note the memory each half second, and show how far the run is."""
        started, total = time.monotonic(), self.request.seconds
        with tqdm(total=round(total), unit="s", desc="soak") as bar:
            while True:
                passed = time.monotonic() - started
                self.rss_mb.append((passed, server.memory_info().rss / MEGABYTE))
                bar.update(min(round(passed), round(total)) - bar.n)
                bar.set_postfix(lost=self.tally.lost.total(), swaps=self.num_swaps)
                await asyncio.sleep(0.5)

    def _summary(self, capacity: float, rate: float, *, failures: list[str]) -> dict[str, Any]:
        tally, memory = self.tally, memory_of(self.rss_mb)
        return {
            "requests": tally.num_sent,
            "lost": tally.lost.total(),
            "degraded": tally.num_degraded,
            "swaps": self.num_swaps,
            "store": self.store.name,
            "store_restarts": self.num_restarts,
            **memory,
            "capacity_per_second": round(capacity, 1),
            "rate_per_second": round(rate, 1),
            **{f"p{share}_ms": tally.quantile_ms(share / 100) for share in (50, 99)},
            "max_ms": tally.quantile_ms(1.0),
            "reasons": dict(tally.lost.most_common(5)),
            "failures": failures,
        }


def memory_of(samples: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Start, end, slope and bound of the memory in MB, after the settling time.

    Args:
        samples: Seconds and MB.
    """
    seconds, megabytes = (np.array(one) for one in zip(*samples, strict=True))
    kept = seconds >= SETTLING * seconds[-1]
    slope, start = np.polyfit(seconds[kept] - seconds[kept][0], megabytes[kept], 1)
    span = seconds[-1] - seconds[kept][0]
    return {
        "rss_mb_start": round(float(start), 1),
        "rss_mb_end": round(float(start + slope * span), 1),
        "rss_mb_per_minute": round(float(slope) * 60, 2),
        "rss_growth_bound_mb": round(max(MAX_GROWTH * float(start), MIN_GROWTH_MB), 1),
    }


def has_failed(summary: dict[str, Any]) -> bool:
    """Whether a request was lost, a change did not happen, or the memory grew beyond its bound."""
    growth = summary["rss_mb_end"] - summary["rss_mb_start"]
    is_idle = not summary["swaps"] or summary["store_restarts"] != 2
    return bool(
        summary["lost"] or summary["failures"] or is_idle or growth > summary["rss_growth_bound_mb"]
    )


def run(request: SoakRequest, folder: Path) -> dict[str, Any]:
    """Make the world, start the endpoint, soak it, end it."""
    with soak_store.opened(folder) as store:
        os.environ["RANKING_ONLINE"] = store.url
        say("making a small world")
        world = fixtures.build(folder / "world", num_versions=NUM_VERSIONS)
        environment = {"RANKING_MAX_CONCURRENT": MAX_CONCURRENT}
        with fixtures.serving(world, log=folder / "server.log", environment=environment) as ports:
            soak, server = Soak(request, world=world, store=store), psutil.Process(ports[2].pid)
            return asyncio.run(soak.run(ports[0], ports[1], server))


@contextlib.asynccontextmanager
async def _clients(http_port: int, grpc_port: int) -> AsyncIterator[Clients]:
    # Other items for each, all of which the store has.
    requests = [
        Request(user, np.arange(user, user + NUM_CANDIDATES), device="phone", moment=NOON)
        for user in range(NUM_BODIES)
    ]
    async with grpc.aio.insecure_channel(f"{HOST}:{grpc_port}") as channel:
        clients = Clients((HOST, http_port), channel, requests)
        try:
            yield clients
        finally:
            clients.close()


def say(text: str) -> None:
    """One line of progress."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _is_equal(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> bool:
    return one.shape == other.shape and bool(np.abs(one - other).max() <= TOLERANCE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak; returns the exit code."""
    request = parse(SoakRequest, prog="python -m infra.drills.soak", arguments=arguments)
    terminate_as_interrupt()
    with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as folder:
        try:
            summary = run(request, Path(folder))
        except KeyboardInterrupt:
            say("ended before the end")
            return 130
    sys.stdout.write(json.dumps(summary) + "\n")
    return int(has_failed(summary))


if __name__ == "__main__":
    sys.exit(main())
