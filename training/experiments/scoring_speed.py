"""What scoring a request costs: eager and native, by precision, threads and candidates.

Weights are random: the time does not depend on them. Variants take turns with each other and with
the matrix products that are the machine's limit, so that what else runs touches all alike; on one
thread the processor's time is taken, which other processes touch little. What quantised tables cost
in NE is for trained rankers to say (``training export``).
"""

import concurrent.futures
import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.benchmark import Timer
from tqdm import tqdm

from features.encoding.encode import Ids, RequestInputs
from features.schema import Role, Schema
from training.artifact.aoti_cache import key_of, private_folder, verified
from training.artifact.aoti_compile import compile_dense
from training.artifact.aoti_runtime import NativeDense, NativeError
from training.artifact.quantized_tables import TablePrecision
from training.artifact.scorer import Scorer, ServedDense
from training.config.model import ModelConfig
from training.data.batch import jagged
from training.model.flops import cost_of
from training.model.inputs import Inputs, inputs_of
from training.model.ranker import Ranker, embedding_tables
from training.recipes import recipe_of

logger = logging.getLogger(__name__)

SIZES = (100, 500, 2_000)
CALLERS = 8
_SQUARE = 1024
"""Size of the matrix products that are the limit."""
_ROUNDS = 5
_SECONDS_OF_CALLS = 0.05
_SECONDS_OF_CALLERS = 2.0
_HISTORY = 20
"""Items in a user's bag."""

Score = Callable[[RequestInputs], Any]


def measure(schema: Schema, recipe: str, folder: Path, *, num_cores: int) -> dict[str, object]:
    """The figures of one recipe, on 1 and on ``num_cores`` threads; ``folder`` has native code."""
    inputs, config = inputs_of(schema), recipe_of(recipe).model.served()
    ranker = Ranker(inputs, config).eval()
    native = _native(inputs, config, folder, ranker)
    eager = (TablePrecision.FP32, TablePrecision.INT8)
    scorers = {f"eager_{p}": Scorer.of(ranker, p) for p in eager}
    scorers |= {f"native_{p}": Scorer.of(ranker, p).with_dense(native) for p in TablePrecision}
    variants: dict[str, Score] = {"torchrec": _torchrecs(ranker)}
    variants |= {name: scorer.score for name, scorer in scorers.items()}
    macs = cost_of(inputs, config).macs
    before = torch.get_num_threads()
    tables = embedding_tables(inputs, config)
    sizes = {p.value: sum(p.num_bytes(table) for table in tables) for p in TablePrecision}
    found: dict[str, object] = {"macs": macs, "bytes": sizes}
    callers, usual = {}, _request(schema, inputs, 500)
    for num_threads in sorted({1, num_cores}):
        torch.set_num_threads(num_threads)
        for size in tqdm(SIZES, desc=f"{recipe}, {num_threads} threads", unit="size"):
            request = _request(schema, inputs, size)
            found[f"threads_{num_threads}_candidates_{size}"] = _timed(
                variants, request, macs, num_threads=num_threads
            )
        callers[f"threads_{num_threads}"] = _calls_per_second(
            scorers["native_int8"], usual, num_threads=num_threads
        )
    torch.set_num_threads(before)
    return {**found, "callers": callers}


def _native(inputs: Inputs, config: ModelConfig, folder: Path, ranker: Ranker) -> NativeDense:
    """The native dense part with a ranker's weights; compiled where it is not yet."""
    entry = private_folder(folder) / key_of(inputs, config)
    try:
        verified(entry)
    except NativeError as error:
        logger.info("%s", error)
        started = time.perf_counter()
        compile_dense(inputs, config, folder)
        logger.info("compiled in %.1f s", time.perf_counter() - started)
    return NativeDense(verified(entry), ServedDense(ranker.interaction).eval())


def _torchrecs(ranker: Ranker) -> Score:
    """The ranker's own forward on rows in which the user is repeated."""

    def score(request: RequestInputs) -> Any:
        rows = request.tiled(ranker.features)
        with torch.inference_mode():
            logits = ranker(torch.from_numpy(rows.dense), jagged(rows))
            return torch.sigmoid(logits).numpy()

    return score


def _timed(
    variants: dict[str, Score], request: RequestInputs, macs: int, *, num_threads: int
) -> dict[str, float]:
    """Milliseconds a request of each variant, beside the limit of as many matrix products."""
    clock = time.thread_time if num_threads == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    products = []
    square = torch.randn(_SQUARE, _SQUARE)
    out = torch.empty_like(square)
    for _ in range(_ROUNDS):
        for name, score in variants.items():
            seconds[name].append(_seconds("score(request)", clock, score=score, request=request))
        product = _seconds("torch.mm(square, square, out=out)", clock, square=square, out=out)
        products.append(product)
    # As many multiplications and additions, at the speed of the products.
    limit = 1e3 * macs * len(request) / _SQUARE**3 * statistics.median(products)
    figures = {f"{name}_ms": 1e3 * statistics.median(values) for name, values in seconds.items()}
    figures |= {"limit_ms": limit, "native_int8_to_limit": figures["native_int8_ms"] / limit}
    return {name: round(value, 3) for name, value in figures.items()}


def _seconds(statement: str, clock: Callable[[], float], **names: Any) -> float:
    """Of a statement on the threads that torch has, once it is warm."""
    timer = Timer(statement, timer=clock, globals=names, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=_SECONDS_OF_CALLS).mean


def _calls_per_second(scorer: Scorer, request: RequestInputs, *, num_threads: int) -> float:
    """Requests a second of several callers at one time."""
    end = time.perf_counter() + _SECONDS_OF_CALLERS

    def call(count: int) -> int:
        torch.set_num_threads(num_threads)
        while time.perf_counter() < end:
            scorer.score(request)
            count += 1
        return count

    with concurrent.futures.ThreadPoolExecutor(CALLERS) as callers:
        return round(sum(callers.map(call, [0] * CALLERS)) / _SECONDS_OF_CALLERS, 1)


def _request(schema: Schema, inputs: Inputs, size: int) -> RequestInputs:
    """One user with a history, and so many candidates."""
    random = np.random.default_rng(0)
    lists = {column.name for column in schema.sparse_inputs() if column.dtype.is_list}
    of_candidate = {
        column.name
        for table in schema.tables
        if table.role is not Role.USER
        for column in (*table.columns, *table.derived_columns)
    }
    shared: dict[str, Ids] = {}
    each: dict[str, Ids] = {}
    for sparse in inputs.sparse:
        is_each = sparse.name in of_candidate or sparse.name == schema.item.name
        count, most = (size, 4) if is_each else (1, _HISTORY)
        lengths = np.full(count, most if sparse.name in lists else 1, dtype=np.int32)
        values = random.integers(0, sparse.num_rows, int(lengths.sum()))
        (each if is_each else shared)[sparse.name] = Ids(values, lengths)
    dense = random.lognormal(size=(size, len(inputs.dense))).astype(np.float32)
    return RequestInputs(dense=dense, shared=shared, each=each, user=np.zeros(size, dtype=np.int64))
