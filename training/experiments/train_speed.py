"""Training speed on two fixed configurations, as a share of what the machine's matrix product does.

A step is forward, backward and both optimisers, by the trainer's own loop. Useful FLOPs are
the matrix products that the model needs (``training.model.flops``), never recomputation. The peak
is the best of a set of square matrix products in the numbers of the dense part, on the same threads
or the same device, interleaved with the steps.
"""

import dataclasses
import itertools
import logging
import math
import statistics
import time
from collections.abc import Iterable

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.benchmark import Timer
from tqdm import tqdm

from features.encoding.encode import Ids, ModelInputs
from features.schema import Kind
from training.config.model import ModelConfig, WukongConfig
from training.config.recipe import Recipe, ShardingConfig, TrainingConfig
from training.data.batch import Batch
from training.distributed.device import peak_memory_bytes
from training.experiments.public_data.data import Split
from training.experiments.public_data.protocol import shuffled_batches
from training.experiments.train_speed_input import examples_of, input_samples_per_second
from training.model.flops import cost_of
from training.model.inputs import Inputs, SparseInput
from training.recipes import uniform_layers
from training.trainer.first_rows import FirstRows
from training.trainer.loop import take_steps
from training.trainer.session import Session

logger = logging.getLogger(__name__)

ROUNDS = 7
"""Of which medians are taken."""
_SECONDS_OF_STEPS = 3.0
_WARM_UP_STEPS = 6
_ROWS_IN_BATCHES = 24
_INPUT_PASSES = 3


@dataclasses.dataclass(frozen=True)
class Squares:
    """Matrix products whose best is the peak."""

    sizes: tuple[int, ...]
    flops: float
    """Of all that are timed of a size; one is at least."""


SQUARES = Squares((512, 1024, 2048, 3072), 3e10)
_SQUARES_ON_CUDA = Squares((4096, 8192), 3e13)


def configuration(name: str, *, is_compiled: bool) -> tuple[Inputs, Recipe]:
    """The inputs and recipe of configuration A or B."""
    bottom: tuple[int, ...]
    if name == "A":
        sizes: tuple[int, ...] = (957, 4_082, 7, 7, 2, 3, 2, 9, 80, 233)
        num_dense, batch_size, dim, bottom = 0, 4_096, 32, ()
        layers = uniform_layers(depth=3, num_fm=16, num_linear=16, rank=16, mlp=(512, 512))
    else:
        sizes = (100_000,) * 26
        num_dense, batch_size, dim, bottom = 13, 2_048, 64, (512, 256)
        layers = uniform_layers(depth=4, num_fm=32, num_linear=32, rank=24, mlp=(1024, 1024))
    inputs = Inputs(
        sparse=tuple(SparseInput(f"field_{n}", rows, f"field_{n}") for n, rows in enumerate(sizes)),
        dense=(Kind.COUNT,) * num_dense,
    )
    recipe = Recipe(
        name=f"speed-{name}",
        model=ModelConfig(
            embedding_dim=dim,
            interaction=WukongConfig(layers=layers, head=(256, 128)),
            bottom_mlp=bottom,
        ),
        training=TrainingConfig(batch_size=batch_size, is_compiled=is_compiled),
        sharding=ShardingConfig(),
    )
    return inputs, recipe


def measure(name: str, *, is_compiled: bool) -> dict[str, object]:
    """Train a configuration for some seconds, in turns with the matrix products.

    Returns:
        The speed of full steps, their useful GFLOP/s beside the peak, the input's own speed from
        Parquet files to batches and its ratio to the steps', and the memory, rounded.
    """
    inputs, recipe = configuration(name, is_compiled=is_compiled)
    batch_size = recipe.training.batch_size
    session, batches = session_of(inputs, recipe, num_batches=_ROWS_IN_BATCHES)
    train(session, itertools.islice(itertools.cycle(batches), _WARM_UP_STEPS))
    steps: list[float] = []
    products: list[list[float]] = []
    for _ in tqdm(range(ROUNDS), desc=f"configuration {name}", unit="round"):
        started = time.perf_counter()
        count = train(session, itertools.cycle(batches), seconds=_SECONDS_OF_STEPS)
        steps.append((time.perf_counter() - started) / count)
        products.append(gflops_of_squares(session))
    step = statistics.median(steps)
    given = _input_samples_per_second(inputs, recipe)
    flops = cost_of(inputs, recipe.model).training_flops * batch_size
    peak = max(map(statistics.median, zip(*products, strict=True)))
    found = {
        "samples_per_second": batch_size / step,
        "gflops": flops / step / 1e9,
        "peak_gflops": peak,
        "share_of_peak": flops / step / 1e9 / peak,
        "input_samples_per_second": given,
        "input_ratio": given * step / batch_size,
        "peak_memory_mb": peak_memory_bytes(session.device) / 2**20,
    }
    rounded = {name: round(value, 3) for name, value in found.items()}
    return {**rounded, "is_compiled": session.is_compiled}


def speed_of_ranks(name: str) -> dict[str, float]:
    """Samples/s of full steps on all ranks of the process group, and of their input alone.

    Each rank takes its part of the batch.
    """
    inputs, recipe = configuration(name, is_compiled=False)
    given = _input_samples_per_second(inputs, recipe)
    rank, ranks = dist.get_rank(), dist.get_world_size()
    share = recipe.training.batch_size // ranks
    session, batches = session_of(
        inputs, recipe, num_batches=_ROWS_IN_BATCHES, batch_size=share, seed=rank
    )
    # As many steps on every rank: each step is an exchange.
    steps = list(itertools.islice(itertools.cycle(batches), _WARM_UP_STEPS))
    train(session, steps)
    seconds = []
    for _ in tqdm(range(ROUNDS), desc=f"{name} on {ranks} ranks", unit="round", disable=rank > 0):
        dist.barrier()
        started = time.perf_counter()
        train(session, steps)
        dist.barrier()
        seconds.append((time.perf_counter() - started) / len(steps))
    speed = share * ranks / statistics.median(seconds)
    ratio = given / speed
    return {"samples_per_second": speed, "input_samples_per_second": given, "input_ratio": ratio}


def profile(name: str, *, is_compiled: bool) -> str:
    """Where a step's time goes, operator by operator."""
    inputs, recipe = configuration(name, is_compiled=is_compiled)
    session, batches = session_of(inputs, recipe, num_batches=4)
    train(session, batches)
    with torch.profiler.profile() as profiler:
        train(session, batches)
    by = f"self_{session.device.type}_time_total".replace("cuda", "device")
    return str(profiler.key_averages().table(sort_by=by, row_limit=25))


def session_of(
    inputs: Inputs,
    recipe: Recipe,
    *,
    num_batches: int,
    batch_size: int | None = None,
    seed: int = 0,
) -> tuple[Session, list[Batch]]:
    """A fresh ranker, and random rows for so many of its batches, cut into batches of a size."""
    size = recipe.training.batch_size
    num_rows, random = size * num_batches, np.random.default_rng(0)
    ids = {
        sparse.name: Ids.one_each(random.integers(0, sparse.num_rows, size=num_rows))
        for sparse in inputs.sparse
    }
    dense = random.lognormal(size=(num_rows, len(inputs.dense))).astype(np.float32)
    label = random.integers(0, 2, size=num_rows)
    rows = Split(ModelInputs(dense, ids), label, np.arange(num_rows))
    session = Session(inputs, recipe, FirstRows.of(dense, label))
    return session, list(shuffled_batches(rows, batch_size=batch_size or size, seed=seed))


def train(session: Session, batches: Iterable[Batch], *, seconds: float = math.inf) -> int:
    """Steps at the full learning rate, until a step ends behind so many seconds."""
    ends = time.perf_counter() + seconds
    count = take_steps(
        session, batches, until=lambda _: time.perf_counter() > ends, is_watched=False
    )
    if session.device.type == "cuda":
        torch.cuda.synchronize(session.device)
    return count


def _input_samples_per_second(inputs: Inputs, recipe: Recipe) -> float:
    with examples_of(inputs, recipe.training) as table:
        passes = [input_samples_per_second(table, recipe.training) for _ in range(_INPUT_PASSES)]
    return statistics.median(passes)


def gflops_of_squares(session: Session, squares: Squares | None = None) -> list[float]:
    """GFLOP/s of square matrix products, by size, in the numbers of a session's dense part.

    On its device; ``squares`` are else those that there are for it.
    """
    squares = squares or (_SQUARES_ON_CUDA if session.device.type == "cuda" else SQUARES)
    dtype = torch.bfloat16 if session.is_bf16 else torch.float32
    found = []
    for size in squares.sizes:
        names = {
            name: torch.randn(size, size, device=session.device, dtype=dtype)
            for name in ("left", "right", "out")
        }
        product = Timer(
            "torch.mm(left, right, out=out)", globals=names, num_threads=torch.get_num_threads()
        )
        repeats = max(1, int(squares.flops // (2 * size**3)))
        found.append(2 * size**3 / product.timeit(repeats).mean / 1e9)
    return found
