"""How fast the endpoint's parts are in a process of their own: reads, and the model.

Run by ``bench.py`` for one store, so that nothing else is in the process. It prints all
figures as JSON; with ``--asked`` it measures one figure whenever a line arrives, so that
the server and its parts are compared at the same moments of a noisy machine.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from features.datasets.catalog import schema_of
from features.encoding.encode import RequestInputs
from features.online_store.reader import OnlineRows, open_rows
from features.schema import Role
from infra.bench.serving import data
from serving.lookup.item_cache import ItemRefresh, Items
from serving.lookup.transformer import Transformer
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


def main() -> None:
    """Measure all, or one figure whenever a line comes in."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--candidates", type=int, nargs="+", required=True)
    parser.add_argument("--asked", choices=["milliseconds", "per_second"], help="a line, a figure")
    parser.add_argument("--threads", type=int, default=1, help="of a process that shares the cores")
    options = parser.parse_args()
    rows = open_rows(SCHEMA, data.FOLDER / "feast", timeout_seconds=10)
    size = options.candidates[0]
    if options.asked == "milliseconds":
        _on_demand(_milliseconds(options.model, rows, size))
    elif options.asked == "per_second":
        _on_demand(_one_share(options.model, rows, size, options.threads))
    else:
        found = {size: _figures(options.model, rows, size) for size in options.candidates}
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


def _figures(model: Path, rows: OnlineRows, size: int) -> dict[str, float]:
    requests = [_ranking(request) for request in data.requests(size)]
    artifact = _artifact(model)
    in_memory = _with_items(rows)
    inputs = [in_memory.transform(request).inputs for request in requests]
    figures = {}
    for threads in range(1, num_cores() + 1):
        figures[f"forward_{threads}_ms"] = _median_ms(_scoring(artifact, inputs, threads))
    figures["forward_ms"] = min(figures.values())
    figures["read_ms"] = _median_ms(lambda number: _read(rows, requests[number % len(requests)]))
    figures["in_memory_ms"] = _median_ms(
        lambda number: in_memory.transform(requests[number % len(requests)])
    )
    figures["feast_ms"] = _median_ms(_feast(requests), repeats=4)
    return figures


def _feast(requests: list[RankingRequest]) -> Callable[[int], object]:
    """Feast's own read of the same rows."""
    from features.online_store.feast_store import open_store

    store = open_store(SCHEMA, data.FOLDER / "feast", data.FOLDER / "lake")
    refs = {
        role: [f"{t.name}:{c.name}" for t in SCHEMA.tables if t.role is role for c in t.columns]
        for role in Role
    }

    def read(number: int) -> None:
        request = requests[number % len(requests)]
        store.get_online_features(refs[Role.USER], {"user_id": request.user_ids})
        store.get_online_features(
            refs[Role.ITEM], {"item_id": np.asarray(request.item_ids).tolist()}
        )

    return read


def _milliseconds(model: Path, rows: OnlineRows, size: int) -> Callable[[], Figures]:
    """Of a request: its inputs as the server makes them, the model, and a read of all its rows."""
    requests = [_ranking(request) for request in data.requests(size)]
    artifact = _artifact(model)
    in_memory = _with_items(rows)
    inputs = [in_memory.transform(request).inputs for request in requests]

    def measured() -> Figures:
        read = _median_ms(lambda number: _read(rows, requests[number % len(requests)]))
        own = _median_ms(lambda number: in_memory.transform(requests[number % len(requests)]))
        forward = min(_median_ms(_scoring(artifact, inputs, n)) for n in range(1, num_cores() + 1))
        return {"inputs": own, "forward": forward, "read": read}

    return measured


def _one_share(model: Path, rows: OnlineRows, size: int, threads: int) -> Callable[[], Figures]:
    """Requests a second, one after the other: inputs as the server makes them, or all rows read."""
    torch.set_num_threads(threads)
    requests = [_ranking(request) for request in data.requests(size)]
    artifact = _artifact(model)
    own, all_read = _with_items(rows), Transformer(SCHEMA, online=rows)

    def rate(transformer: Transformer) -> float:
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < SHARE_SECONDS:
            inputs = transformer.transform(requests[count % len(requests)]).inputs
            artifact.score(inputs, num_threads=threads)
            count += 1
        return count / (time.perf_counter() - started)

    return lambda: {"work": rate(own), "all_read": rate(all_read)}


def _read(rows: OnlineRows, request: RankingRequest) -> None:
    rows.read(Role.USER, request.user_ids)
    rows.read(Role.ITEM, np.asarray(request.item_ids).tolist())


def _scoring(
    artifact: Artifact, inputs: Sequence[RequestInputs], threads: int
) -> Callable[[int], object]:
    """The model alone, on one request after the other."""
    return lambda number: artifact.score(inputs[number % len(inputs)], num_threads=threads)


def _ranking(request: data.Request) -> RankingRequest:
    import datetime

    from serving.protocol.inference_request import from_rest
    from serving.protocol.ranking_request import parse

    call = from_rest(data.json_body(request), json_length=None)
    return parse(SCHEMA, call, now=datetime.datetime.now(datetime.UTC))


def _with_items(rows: OnlineRows) -> Transformer:
    refresh = ItemRefresh(SCHEMA, rows, Store())
    refresh.look()
    items: Items | None = refresh()
    return Transformer(SCHEMA, online=rows, items=lambda: items)


def _artifact(model: Path) -> Artifact:
    """The exported model as the server runs it, in the same native code where that is available."""
    native = NativeCode.from_environment(data.FOLDER / "compiled")
    return load(model, SCHEMA, native=native)


def _median_ms(work: Callable[[int], object], repeats: int = REPEATS) -> float:
    for number in range(3):
        work(number)
    seconds = []
    for number in range(repeats):
        started = time.perf_counter()
        work(number)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds)) * 1e3


def expected_scores(model: Path, request: data.Request) -> np.ndarray:
    """What the endpoint must answer."""
    rows = open_rows(SCHEMA, data.FOLDER / "feast", timeout_seconds=10)
    inputs = Transformer(SCHEMA, online=rows).transform(_ranking(request)).inputs
    return _artifact(model).score(inputs)


if __name__ == "__main__":
    main()
