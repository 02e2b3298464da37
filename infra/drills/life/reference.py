"""The same days without a fault: what every table and the last model must be in the end."""

import datetime
import hashlib
import pickle
import shutil
from collections.abc import Collection

from features.lake.lake import EXAMPLES, IMPRESSIONS, IMPRESSIONS_RAW
from features.lake.snapshot import snapshot
from features.places import Place, place
from infra.demo import backfill
from infra.drills.life.deployment import DATASET
from infra.drills.life.world import World
from training.checkpoint.catalog import Checkpoint, Checkpoints

TABLES = (
    IMPRESSIONS_RAW, IMPRESSIONS, "user_state", "item_daily", "user_attributes", "item_attributes",
    EXAMPLES,
)  # fmt: skip
Hashes = dict[tuple[str, datetime.date], str]


class Reference:
    """A second folder, in which nothing goes wrong."""

    def __init__(self, world: World) -> None:
        """Args: the world whose log it takes."""
        self._world = world
        self.folder = world.folder / "reference"
        settings = world.settings
        self.settings = settings.model_copy(
            update={"var": self.folder / "var", "root": place(self.folder / "data")}
        )
        # The jobs' server and Spark are the world's.
        self.settings.home.mkdir(parents=True)
        for name in ("warm-python", "spark.key"):
            (self.settings.home / name).symlink_to(settings.home / name)
        self.jobs = backfill.Jobs(self.settings, world.sampler, logs=self.folder / "logs")
        self.hashes: Hashes = {}
        self.bits: dict[datetime.date, str] = {}
        """Of each day's checkpoint."""

    def build(self) -> None:
        """The tables of all days, as one range."""
        shutil.copytree(self._world.source / DATASET, self.folder / "data" / "landing" / DATASET)
        days = [*self._world.history, *self._world.days]
        backfill.prepare(self.jobs, days[0], days[-1])
        span = (f"--date={days[0]}", f"--to={days[-1]}")
        self.jobs.run("examples", "features", "examples", *span, folders="lake")
        self.hashes = hashes_of(place(self.folder / "data" / "lake" / DATASET))

    def learn(self) -> None:
        """A checkpoint of each day, one from the other."""
        for day in (self._world.history[-1], *self._world.days):
            self._world.train(self.jobs, day)

            self.bits[day] = bits_of_day(self._world, place(self.folder / "data"), day)


def bits_of_day(world: World, data: Place, day: datetime.date) -> str:
    """A hash of the checkpoint that a day's run trained; empty where there is none."""
    found = Checkpoints(data / "checkpoints", world.schema).find(str(world.learnt(day)))
    return bits_of(found) if found else ""


def hashes_of(lake: Place, days: Collection[datetime.date] | None = None) -> Hashes:
    """The content hash of each day, or of some, of each table; a day that is missing has none."""
    found: Hashes = {}
    for table in TABLES:
        newest = snapshot(lake / table)
        there = [day for day in newest.days if days is None or day in days]
        parts = newest.partitions(there)
        found |= {(table, day): part.content_hash for day, part in parts.items()}
    return found


def bits_of(checkpoint: Checkpoint) -> str:
    """A hash of all tensors of a checkpoint, the optimiser's too, by name."""
    import torch
    from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
    from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

    from training.checkpoint.storage import TensorsReader

    state: dict[str, object] = {}
    _load_state_dict(
        state,
        storage_reader=TensorsReader(checkpoint.tensors),
        planner=_EmptyStateDictLoadPlanner(),
        no_dist=True,
    )
    digest = hashlib.sha256()
    for name, value in sorted(_flat(state)):
        digest.update(name.encode())
        if isinstance(value, torch.Tensor):
            digest.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
        else:
            digest.update(pickle.dumps(value))
    return digest.hexdigest()


def _flat(state: object, at: str = "") -> list[tuple[str, object]]:
    if isinstance(state, dict):
        return [one for key, value in state.items() for one in _flat(value, f"{at}.{key}")]
    return [(at, state)]
