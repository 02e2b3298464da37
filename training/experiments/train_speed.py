"""Training speed on two fixed configurations, as a share of what the machine's matrix product does.

A step is forward, backward and both optimisers, through the trainer's own session. Useful FLOPs are
the matrix products that the model needs (``training.model.flops``), never recomputation. The peak
is the best of a set of square float32 matrix products on the same threads, interleaved with the
steps.
"""

import dataclasses
import itertools
import logging
import resource
import statistics
import time
from collections.abc import Iterator

import numpy as np
import torch
import torch.distributed as dist
from tqdm import tqdm

from features.encoding.encode import ModelInputs
from features.schema import Kind
from training.config.model import ModelConfig, WukongConfig
from training.config.recipe import Recipe, ShardingConfig, TrainingConfig
from training.data.batch import Batch
from training.experiments.public_data.data import BenchmarkData, InMemory, Split, one_each
from training.experiments.public_data.protocol import shuffled_batches
from training.experiments.train_speed_input import examples_of, input_samples_per_second
from training.model.flops import cost_of
from training.model.inputs import Inputs, SparseInput
from training.recipes import uniform_layers
from training.trainer.session import Session

logger = logging.getLogger(__name__)

SQUARES = (512, 1024, 2048, 3072)
"""Sizes of the matrix products whose best is the peak."""
ROUNDS = 7
"""Of which medians are taken."""
_SECONDS_OF_STEPS = 3.0
_WARM_UP_STEPS = 6
_ROWS_IN_BATCHES = 24
_INPUT_PASSES = 3


@dataclasses.dataclass(frozen=True)
class Speed:
    """What one configuration reached."""

    samples_per_second: float
    gflops: float
    """Useful, of a full step."""
    peak_gflops: float
    share_of_peak: float
    input_samples_per_second: float
    """From Parquet files to batches, alone."""
    input_ratio: float
    """The input's samples/s over the step's."""
    peak_memory_mb: float
    is_compiled: bool


def configuration(name: str, *, is_compiled: bool) -> tuple[Inputs, Recipe]:
    """The inputs and recipe of configuration A or B."""
    if name == "A":
        sizes: tuple[int, ...] = (957, 4_082, 7, 7, 2, 3, 2, 9, 80, 233)
        num_dense = 0
        batch_size, dim = 4_096, 32
        layers = uniform_layers(depth=3, num_fm=16, num_linear=16, rank=16, mlp=(512, 512))
        bottom: tuple[int, ...] = ()
    else:
        sizes, num_dense = (100_000,) * 26, 13
        batch_size, dim = 2_048, 64
        layers = uniform_layers(depth=4, num_fm=32, num_linear=32, rank=24, mlp=(1024, 1024))
        bottom = (512, 256)
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


def measure(name: str, *, is_compiled: bool) -> Speed:
    """Train a configuration for some seconds, in turns with the matrix products."""
    inputs, recipe = configuration(name, is_compiled=is_compiled)
    data = _random_rows(inputs, recipe.training.batch_size * _ROWS_IN_BATCHES)
    session = Session(inputs, recipe, torch.from_numpy(next(iter(data.train.parts())).inputs.dense))
    batches = list(_batches(data, recipe))
    for batch in itertools.islice(itertools.cycle(batches), _WARM_UP_STEPS):
        session.step(batch, learning_rate_share=1.0)
    steps: list[float] = []
    peaks: dict[int, list[float]] = {size: [] for size in SQUARES}
    for _ in tqdm(range(ROUNDS), desc=f"configuration {name}", unit="round"):
        steps.append(_seconds_a_step(session, batches))
        for size in SQUARES:
            peaks[size].append(_gflops_of_square(size))
    step = statistics.median(steps)
    given = _input_samples_per_second(inputs, recipe)
    flops = cost_of(inputs, recipe.model).training_flops * recipe.training.batch_size
    peak = max(statistics.median(values) for values in peaks.values())
    return Speed(
        samples_per_second=recipe.training.batch_size / step,
        gflops=flops / step / 1e9,
        peak_gflops=peak,
        share_of_peak=flops / step / 1e9 / peak,
        input_samples_per_second=given,
        input_ratio=given * step / recipe.training.batch_size,
        peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        is_compiled=session.is_compiled,
    )


def speed_of_ranks(name: str) -> dict[str, float]:
    """Samples/s of full steps on all ranks of the process group, and of their input alone."""
    inputs, recipe = configuration(name, is_compiled=False)
    given = _input_samples_per_second(inputs, recipe)
    step = samples_per_second(name)
    return {
        "samples_per_second": step,
        "input_samples_per_second": given,
        "input_ratio": given / step,
    }


def samples_per_second(name: str) -> float:
    """Of full steps on all ranks of the process group, each with its part of the batch."""
    inputs, recipe = configuration(name, is_compiled=False)
    rank, ranks = dist.get_rank(), dist.get_world_size()
    data = _random_rows(inputs, recipe.training.batch_size * _ROWS_IN_BATCHES)
    session = Session(inputs, recipe, torch.from_numpy(next(iter(data.train.parts())).inputs.dense))
    share = recipe.training.batch_size // ranks
    batches = list(shuffled_batches(data, batch_size=share, seed=rank))
    # As many steps on every rank: each step is an exchange.
    steps = list(itertools.islice(itertools.cycle(batches), _WARM_UP_STEPS))
    for batch in steps:
        session.step(batch, learning_rate_share=1.0)
    seconds = []
    for _ in tqdm(range(ROUNDS), desc=f"{name} on {ranks} ranks", unit="round", disable=rank > 0):
        dist.barrier()
        started = time.perf_counter()
        for batch in steps:
            session.step(batch, learning_rate_share=1.0)
        dist.barrier()
        seconds.append((time.perf_counter() - started) / len(steps))
    return share * ranks / statistics.median(seconds)


def profile(name: str, *, is_compiled: bool, rows: int = 25) -> str:
    """Where a step's time goes, operator by operator."""
    inputs, recipe = configuration(name, is_compiled=is_compiled)
    data = _random_rows(inputs, recipe.training.batch_size * 4)
    session = Session(inputs, recipe, torch.from_numpy(next(iter(data.train.parts())).inputs.dense))
    batches = list(_batches(data, recipe))
    for batch in batches:
        session.step(batch, learning_rate_share=1.0)
    with torch.profiler.profile() as profiler:
        for batch in batches:
            session.step(batch, learning_rate_share=1.0)
    return str(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=rows))


def to_dict(speed: Speed) -> dict[str, object]:
    """Plain values, rounded as they are meant to be read."""
    return {
        key: round(value, 3) if isinstance(value, float) else value
        for key, value in dataclasses.asdict(speed).items()
    }


def _batches(data: BenchmarkData, recipe: Recipe) -> Iterator[Batch]:
    return shuffled_batches(data, batch_size=recipe.training.batch_size, seed=0)


def _seconds_a_step(session: Session, batches: list[Batch]) -> float:
    started, count = time.perf_counter(), 0
    for batch in itertools.cycle(batches):
        session.step(batch, learning_rate_share=1.0)
        count += 1
        if time.perf_counter() - started > _SECONDS_OF_STEPS:
            break
    return (time.perf_counter() - started) / count


def _input_samples_per_second(inputs: Inputs, recipe: Recipe) -> float:
    with examples_of(inputs, recipe.training) as table:
        passes = [input_samples_per_second(table, recipe.training) for _ in range(_INPUT_PASSES)]
    return statistics.median(passes)


def _gflops_of_square(size: int) -> float:
    left, right = torch.randn(size, size), torch.randn(size, size)
    out = torch.empty(size, size)
    torch.mm(left, right, out=out)
    repeats = max(1, int(3e10 // (2 * size**3)))
    started = time.perf_counter()
    for _ in range(repeats):
        torch.mm(left, right, out=out)
    return 2 * size**3 * repeats / (time.perf_counter() - started) / 1e9


def _random_rows(inputs: Inputs, num_rows: int) -> BenchmarkData:
    random = np.random.default_rng(0)
    ids = {
        sparse.name: one_each(random.integers(0, sparse.num_rows, size=num_rows))
        for sparse in inputs.sparse
    }
    dense = random.lognormal(size=(num_rows, len(inputs.dense))).astype(np.float32)
    label = random.integers(0, 2, size=num_rows)
    split = Split(ModelInputs(dense, ids), label, np.arange(num_rows))
    return BenchmarkData(
        name="random", inputs=inputs, train=InMemory(split), valid=split, test=split
    )
