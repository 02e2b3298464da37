"""The fastest that the endpoint's parts are in a process of their own: reads, and the model.

Run by ``serve_bench.py`` for one store, so that nothing else is in the process; prints JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import serve_data
import torch

from features.catalog import schema_of
from features.rows import OnlineRows, open_rows
from features.schema import Role
from serving.refresh import ItemRefresh
from serving.request import RankingRequest
from serving.settings import Store
from serving.transformer import Items, Transformer
from training.artifact import Artifact, load
from training.native import NativeCode

SCHEMA = schema_of(serve_data.DATASET)
REPEATS = 40
SHARE_SECONDS = 3.0


def main() -> None:
    """Measure, or be one of the processes that share the cores."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--candidates", type=int, nargs="+", required=True)
    parser.add_argument("--threads", type=int, default=0, help="be one process of the maximum")
    options = parser.parse_args()
    rows = open_rows(SCHEMA, serve_data.FOLDER / "feast", timeout_seconds=10)
    if options.threads:
        _one_share(options.model, rows, options.candidates[0], options.threads)
        return
    found = {size: _figures(options.model, rows, size) for size in options.candidates}
    sys.stdout.write(json.dumps(found) + "\n")


def _figures(model: Path, rows: OnlineRows, size: int) -> dict[str, float]:
    requests = [_ranking(request) for request in serve_data.requests(size)]
    artifact = _artifact(model)
    in_memory = _with_items(rows)
    inputs = [in_memory.transform(request).inputs for request in requests]
    figures = {}
    for threads in range(1, (os.cpu_count() or 1) + 1):
        figures[f"forward_{threads}_ms"] = _median_ms(
            lambda place, n=threads: artifact.score(inputs[place % len(inputs)], num_threads=n)
        )
    figures["forward_ms"] = min(figures.values())

    def read(place: int) -> None:
        request = requests[place % len(requests)]
        rows.read(Role.USER, request.user_ids)
        rows.read(Role.ITEM, request.item_ids.tolist())

    figures["read_ms"] = _median_ms(read)
    figures["in_memory_ms"] = _median_ms(
        lambda place: in_memory.transform(requests[place % len(requests)])
    )
    figures["feast_ms"] = _median_ms(_feast(requests), repeats=4)
    return figures


def _feast(requests: list[RankingRequest]) -> Callable[[int], object]:
    """Feast's own read of the same rows."""
    from features.store import open_store

    store = open_store(SCHEMA, serve_data.FOLDER / "feast", serve_data.FOLDER / "lake")
    refs = {
        role: [f"{t.name}:{c.name}" for t in SCHEMA.tables if t.role is role for c in t.columns]
        for role in Role
    }

    def read(place: int) -> None:
        request = requests[place % len(requests)]
        store.get_online_features(refs[Role.USER], {"user_id": request.user_ids})
        store.get_online_features(refs[Role.ITEM], {"item_id": request.item_ids.tolist()})

    return read


def maximum(model: Path, size: int) -> dict[str, float]:
    """Requests a second of read and forward, by how the cores are shared out."""
    cores = os.cpu_count() or 1
    found = {}
    for processes, threads in {(cores, 1), (1, cores)}:
        command = [sys.executable, __file__, f"--model={model}", f"--candidates={size}"]
        command.append(f"--threads={threads}")
        shares = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(processes)]
        counts = [float(share.communicate()[0].splitlines()[-1]) for share in shares]
        found[f"{processes} x {threads}"] = sum(counts)
    return found


def _one_share(model: Path, rows: OnlineRows, size: int, threads: int) -> None:
    """Requests a second of this process; it begins at the next whole ten seconds."""
    torch.set_num_threads(threads)
    requests = [_ranking(request) for request in serve_data.requests(size)]
    artifact = _artifact(model)
    transformer = Transformer(SCHEMA, online=rows)

    def one(place: int) -> None:
        inputs = transformer.transform(requests[place % len(requests)]).inputs
        artifact.score(inputs)

    for place in range(5):
        one(place)
    time.sleep(10 - time.time() % 10)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < SHARE_SECONDS:
        one(count)
        count += 1
    sys.stdout.write(f"{count / (time.perf_counter() - started)}\n")


def _ranking(request: serve_data.Request) -> RankingRequest:
    import datetime

    from serving.calls import from_rest
    from serving.request import parse

    call = from_rest(serve_data.json_body(request), json_length=None)
    return parse(SCHEMA, call, now=datetime.datetime.now(datetime.UTC))


def _with_items(rows: OnlineRows) -> Transformer:
    refresh = ItemRefresh(SCHEMA, rows, Store())
    refresh.look()
    items: Items | None = refresh()
    return Transformer(SCHEMA, online=rows, items=lambda: items)


def _artifact(model: Path) -> Artifact:
    """The exported model as the server runs it, in the same native code where it can be had."""
    native = NativeCode.from_environment(serve_data.FOLDER / "compiled")
    return load(model, SCHEMA, native=native)


def _median_ms(work: Callable[[int], object], repeats: int = REPEATS) -> float:
    for place in range(3):
        work(place)
    seconds = []
    for place in range(repeats):
        started = time.perf_counter()
        work(place)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds)) * 1e3


def expected_scores(model: Path, request: serve_data.Request) -> np.ndarray:
    """What the endpoint must answer."""
    rows = open_rows(SCHEMA, serve_data.FOLDER / "feast", timeout_seconds=10)
    inputs = Transformer(SCHEMA, online=rows).transform(_ranking(request)).inputs
    return _artifact(model).score(inputs)


if __name__ == "__main__":
    main()
