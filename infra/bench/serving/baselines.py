"""How fast the endpoint's parts are in a process of their own: reads, and the model.

Run by ``bench.py`` for one store, so that nothing else is in the process. It prints all
figures as JSON; with ``--asked`` it measures one figure whenever a line arrives, so that
the server and its parts are compared at the same moments of a noisy machine.
"""

import contextlib
import datetime
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from features.datasets.catalog import schema_of
from features.online_store.reader import OnlineRows, open_rows
from features.options import from_flags, option, parse
from features.places import place
from features.schema import Role
from infra.bench.serving import data
from serving.lookup.item_cache import ItemRefresh, Items
from serving.lookup.transformer import Transformer
from serving.protocol import ranking_request
from serving.protocol.inference_request import from_rest
from serving.protocol.ranking_request import RankingRequest
from serving.settings import Store
from training.artifact.aoti_cache import NativeCode
from training.artifact.artifact import Artifact, load
from training.resources import num_cores

MODULE = "infra.bench.serving.baselines"
SCHEMA = schema_of(data.DATASET)
REPEATS = 40
SHARE_SECONDS = 1.2
Figures = dict[str, float]


@from_flags
class BaselinesRequest:
    """The endpoint's parts in a process of their own."""

    model: Path = option("the artifact's folder")
    candidates: tuple[int, ...] = option("of each request")
    asked: Literal["milliseconds", "per_second"] | None = option("a line, a figure", default=None)
    threads: int = option("of a process that shares the cores", default=1)


def main() -> None:
    """Measure all, or one figure whenever a line comes in."""
    request = parse(BaselinesRequest, prog=f"python -m {MODULE}")
    rows = open_rows(SCHEMA, place(data.FOLDER / "feast"), timeout_seconds=10)
    parts = {size: _Parts(request.model, rows, size) for size in request.candidates}
    one = parts[request.candidates[0]]
    if request.asked == "milliseconds":
        _on_demand(_milliseconds(one))
    elif request.asked == "per_second":
        _on_demand(_one_share(one, request.threads))
    else:
        found = {size: _figures(one) for size, one in parts.items()}
        sys.stdout.write(json.dumps(found) + "\n")


class Helpers:
    """Processes that measure one figure at the same time, on request."""

    def __init__(self, processes: "list[subprocess.Popen[str]]") -> None:
        """Args: the processes, each about to say that it is ready."""
        self._processes = processes
        self._answers()

    def ask(self) -> Figures:
        """The sums of their figures of this moment."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        found = [json.loads(answer) for answer in self._answers()]
        return {name: sum(one[name] for one in found) for name in found[0]}

    def _answers(self) -> list[str]:
        return [process.stdout.readline() for process in self._processes if process.stdout]


@contextlib.contextmanager
def helpers(
    model: Path, size: int, *, asked: str, number: int = 1, threads: int = 1
) -> Iterator[Helpers]:
    """Start helper processes; each waits until it is asked."""
    command = [sys.executable, "-m", MODULE, f"--model={model}", f"--candidates={size}"]
    command += [f"--asked={asked}", f"--threads={threads}"]
    with contextlib.ExitStack() as stack:
        processes = []
        for _ in range(number):
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            # At the end of its input each one ends.
            processes.append(stack.enter_context(process))
        yield Helpers(processes)


def _on_demand(work: Callable[[], Figures]) -> None:
    work()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for _ in sys.stdin:
        sys.stdout.write(f"{json.dumps(work())}\n")
        sys.stdout.flush()


class _Parts:
    """What a request's answer is made of, and requests of one size."""

    def __init__(self, model: Path, rows: OnlineRows, size: int) -> None:
        # As the server runs it, in the same native code where that is available.
        self.artifact = _artifact(model)
        self.rows = rows
        self.requests = [_ranking(request) for request in data.requests(size)]
        refresh = ItemRefresh(SCHEMA, rows, Store())
        refresh.look()
        items: Items | None = refresh()
        self.in_memory = Transformer(SCHEMA, online=rows, items=lambda: items)
        self._inputs = [self.in_memory.transform(request).inputs for request in self.requests]

    def request(self, number: int) -> RankingRequest:
        return self.requests[number % len(self.requests)]

    def read(self, number: int) -> None:
        """All rows of a request, straight from the store."""
        request = self.request(number)
        self.rows.read(Role.USER, request.user_ids)
        self.rows.read(Role.ITEM, np.asarray(request.item_ids).tolist())

    def transform(self, number: int) -> object:
        """The inputs of a request as the server makes them."""
        return self.in_memory.transform(self.request(number))

    def forward_ms(self) -> dict[int, float]:
        """Milliseconds of the model alone, by threads."""

        def scoring(threads: int) -> Callable[[int], object]:
            inputs = self._inputs
            return lambda n: self.artifact.score(inputs[n % len(inputs)], num_threads=threads)

        return {n: _median_ms(scoring(n)) for n in range(1, num_cores() + 1)}


def _figures(parts: _Parts) -> Figures:
    forward = parts.forward_ms()
    return {
        **{f"forward_{threads}_ms": value for threads, value in forward.items()},
        "forward_ms": min(forward.values()),
        "read_ms": _median_ms(parts.read),
        "in_memory_ms": _median_ms(parts.transform),
        "feast_ms": _median_ms(_feast(parts), repeats=4),
    }


def _feast(parts: _Parts) -> Callable[[int], object]:
    """Feast's own read of the same rows."""
    from features.online_store.feast_store import open_store

    store = open_store(SCHEMA, place(data.FOLDER / "feast"))
    refs = {
        role: [f"{t.name}:{c.name}" for t in SCHEMA.tables if t.role is role for c in t.columns]
        for role in Role
    }

    def read(number: int) -> None:
        request = parts.request(number)
        store.get_online_features(refs[Role.USER], {"user_id": request.user_ids})
        store.get_online_features(
            refs[Role.ITEM], {"item_id": np.asarray(request.item_ids).tolist()}
        )

    return read


def _milliseconds(parts: _Parts) -> Callable[[], Figures]:
    """Of a request: its inputs as the server makes them, the model, and a read of all its rows."""
    return lambda: {
        "read": _median_ms(parts.read),
        "inputs": _median_ms(parts.transform),
        "forward": min(parts.forward_ms().values()),
    }


def _one_share(parts: _Parts, threads: int) -> Callable[[], Figures]:
    """Requests a second, one after the other: inputs as the server makes them, or all rows read."""
    torch.set_num_threads(threads)

    def rate(transformer: Transformer) -> float:
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < SHARE_SECONDS:
            inputs = transformer.transform(parts.request(count)).inputs
            parts.artifact.score(inputs, num_threads=threads)
            count += 1
        return count / (time.perf_counter() - started)

    all_read = Transformer(SCHEMA, online=parts.rows)
    return lambda: {"work": rate(parts.in_memory), "all_read": rate(all_read)}


def _ranking(request: data.Request) -> RankingRequest:
    call = from_rest(data.json_body(request), json_length=None)
    return ranking_request.parse(SCHEMA, call, now=datetime.datetime.now(datetime.UTC))


def _artifact(model: Path) -> Artifact:
    native = NativeCode.from_environment(data.FOLDER / "compiled")
    return load(place(model), SCHEMA, native=native)


def _median_ms(work: Callable[[int], object], repeats: int = REPEATS) -> float:
    for number in range(3):
        work(number)
    seconds = []
    for number in range(repeats):
        started = time.perf_counter()
        work(number)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds)) * 1e3


def expected_scores(model: Path, request: data.Request) -> npt.NDArray[np.float32]:
    """What the endpoint must answer."""
    rows = open_rows(SCHEMA, place(data.FOLDER / "feast"), timeout_seconds=10)
    inputs = Transformer(SCHEMA, online=rows).transform(_ranking(request)).inputs
    return _artifact(model).score(inputs)


if __name__ == "__main__":
    main()
