"""``make bench-gate``: the memory and time of the gate on a holdout of a million users.

Once the whole command, ``python -m training evaluate``: two million made-up examples are read,
scored by a candidate, a champion and an anchor, and compared. And once the decision alone, on
scores that are made up, with ten slices. Each runs in a process of its own; the kernel counts its
peak memory.
"""

import datetime
import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np

from features.datasets.catalog import schema_of
from features.options import from_flags, option, parse
from features.places import place
from features.schema import EXAMPLE_ID
from features.schema.fingerprints import rows_fingerprint
from infra.bench.training.memory import ROW_GROUP, write_day
from infra.local.settings import REPOSITORY
from tests.support.training.artifacts import random_ranker, random_rows
from training.artifact import artifact
from training.artifact.manifest import read_manifest
from training.recipes import recipe_of
from training.registry.aliases import CHAMPION, PREVIOUS
from training.registry.mlflow_registry import Registry

SCHEMA = schema_of("synthetic")
FOLDER = REPOSITORY / "var" / "gate-bench"
HELD_OUT = datetime.date(2025, 3, 2)
ROWS_A_USER, NUM_SLICES = 2, 10
RECIPE = "wukong-tiny"
MODULE = "infra.bench.training.gate"


@from_flags
class GateRequest:
    """The gate's memory."""

    users: int = option("of the holdout", default=1_000_000)
    decide: bool = option("", default=False)


def main() -> None:
    """Measure both, and print one JSON object."""
    request = parse(GateRequest, prog=f"python -m {MODULE}")
    if request.decide:
        decide_alone(request.users)
        return
    shutil.rmtree(FOLDER, ignore_errors=True)
    write_lake(request.users)
    write_rankers()
    folders = [f"--{name}={FOLDER / name}" for name in ("lake", "artifacts", "tracking", "reports")]
    command = ["-m", "training", "evaluate", "--dataset=synthetic", f"--date={HELD_OUT}"]
    found = {
        "users": request.users,
        "rows": request.users * ROWS_A_USER,
        "evaluate": measured([*command, f"--checkpoints={FOLDER / 'checkpoints'}", *folders]),
        "decide, ten slices": measured(["-m", MODULE, "--decide", f"--users={request.users}"]),
    }
    sys.stdout.write(json.dumps(found) + "\n")


def measured(arguments: list[str]) -> dict[str, object]:
    """A process's peak of memory and its seconds."""
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{arguments}: exit code {process.returncode}")
    seconds = round(time.monotonic() - started, 1)
    return {"peak_memory_mb": round(usage.ru_maxrss * 1024 / 1e6), "seconds": seconds}


def decide_alone(users: int) -> None:
    """The decision on scores that are made up, with a champion, an anchor and ten slices."""
    from training.evaluation.comparison import Holdout
    from training.evaluation.findings import GateConfig
    from training.evaluation.gate import ANCHOR, CHAMPION, decide

    random = np.random.default_rng(0)
    rows = users * ROWS_A_USER
    truth = random.random(rows, np.float32)
    scores = [truth * np.float32(share) for share in (1.0, 0.99, 0.98)]
    holdout = Holdout(
        label=(random.random(rows, np.float32) < truth).astype(np.int64),
        group=np.arange(rows) // ROWS_A_USER,
        example_id=np.arange(rows),
        slices={str(n): random.random(rows, np.float32) < 0.5 for n in range(NUM_SLICES)},
    )
    baselines = {CHAMPION: scores[1], ANCHOR: scores[2]}
    decide(GateConfig(), holdout, scores[0], baselines, base_rate=0.5)


def write_lake(users: int) -> None:
    """A day to train on, and a held-out day with this many users."""
    base = random_rows(SCHEMA, 2 * ROW_GROUP)
    for day, rows in (
        (HELD_OUT - datetime.timedelta(days=1), 1_000),
        (HELD_OUT, users * ROWS_A_USER),
    ):
        write_day(
            base,
            FOLDER / "lake" / SCHEMA.name / "examples" / f"day={day}",
            rows,
            numbered={EXAMPLE_ID: 1, "user_id": ROWS_A_USER},
            fingerprint=rows_fingerprint(SCHEMA),
        )


def write_rankers() -> None:
    """A candidate, a champion and an older one, of random weights."""
    registry = Registry(FOLDER / "tracking", SCHEMA.name)
    days = ("2025-01-20", "2025-03-01", str(HELD_OUT))
    first, champion, _ = [write_ranker(registry, day, seed) for seed, day in enumerate(days)]
    registry.set_tag(champion, PREVIOUS, first)
    registry.set_alias(CHAMPION, champion)


def write_ranker(registry: Registry, day: str, seed: int) -> str:
    """A registered artifact of a day, trained through the day before."""
    manifest = artifact.write(
        place(FOLDER / "artifacts"),
        random_ranker(SCHEMA, RECIPE, seed=seed),
        SCHEMA,
        random_rows(SCHEMA, artifact.GOLDEN_ROWS, seed=seed),
        day=day,
        trained_through=str(datetime.date.fromisoformat(day) - datetime.timedelta(days=1)),
        recipe=RECIPE,
        config=recipe_of(RECIPE).to_dict(),
        parents=[],
        metrics={},
        mlflow_run="",
        tables="int8",
    )
    folder = place(FOLDER / "artifacts") / SCHEMA.name / manifest.version
    registry.register(read_manifest(folder), folder)
    return manifest.version


if __name__ == "__main__":
    main()
