"""All kinds of faults, and which of them meets which day."""

import datetime
import random
from collections.abc import Sequence

from infra.drills.life.faults.fault import Fault
from infra.drills.life.faults.jobs import FullDisk, SchedulerKilled, StuckLease, killed
from infra.drills.life.faults.landing import (
    ChangedType,
    HalfFile,
    LandedAgain,
    LateDay,
    NoLabels,
    Nulls,
    SchemaChanged,
    Tomorrow,
)
from infra.drills.life.faults.models import Diverging, Overfitted, Uncalibrated
from infra.drills.life.faults.serving import StoreLost, TrafficDrift, WorkerKilled

KINDS: tuple[type[Fault], ...] = (
    LateDay,
    HalfFile,
    Nulls,
    ChangedType,
    Tomorrow,
    NoLabels,
    SchemaChanged,
    LandedAgain,
    killed("features", "ingest"),
    killed("features", "validate"),
    killed("features", "build"),
    killed("features", "materialize"),
    killed("features", "examples"),
    killed("training", "train", "train-failed"),
    killed("training", "export"),
    killed("training", "evaluate"),
    FullDisk,
    StuckLease,
    SchedulerKilled,
    Diverging,
    Overfitted,
    Uncalibrated,
    StoreLost,
    WorkerKilled,
    TrafficDrift,
)


def planned(
    days: Sequence[datetime.date], kinds: Sequence[type[Fault]], *, faults: int, seed: int
) -> dict[datetime.date, Fault]:
    """So many faults on days drawn by lot, one a day; each kind once before one comes again.

    Args:
        days: That Airflow runs.
        kinds: That are possible here.
        faults: How many.
        seed: Of the lot.

    Raises:
        ValueError: There are more faults than days, no kind fits, or a kind has no day left.
    """
    if not 0 <= faults < len(days):
        raise ValueError(f"faults: {faults}; from 0 to {len(days) - 1}, less than the days")
    chance = random.Random(seed)
    free = list(range(1, len(days)))  # the first day shows what a day without a fault is
    fitting = [kind for kind in kinds if kind.first_day < len(days)]
    if faults and not fitting:
        raise ValueError(f"faults: {faults}; no kind is possible here in {len(days)} days")
    drawn: list[type[Fault]] = []
    while len(drawn) < faults:
        drawn += chance.sample(fitting, min(len(fitting), faults - len(drawn)))
    found: dict[datetime.date, Fault] = {}
    # Those that need a late day choose first.
    for kind in sorted(drawn, key=lambda one: -one.first_day):
        late = [number for number in free if number >= kind.first_day]
        if not late:
            raise ValueError(f"faults: {faults}; no day is left for {kind.name}")
        number = chance.choice(late)
        free.remove(number)
        found[days[number]] = kind()
    return dict(sorted(found.items()))
