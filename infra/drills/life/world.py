"""The stack that the drill runs, its log, and a copy of the log that nobody spoils."""

import contextlib
import datetime
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from features.datasets.catalog import schema_of
from features.lake.lake import Lake
from features.places import place
from features.schema import Schema
from infra.demo import backfill
from infra.demo.memory import MemorySampler
from infra.drills.life import disk
from infra.drills.life.clock import Clock
from infra.drills.life.deployment import DATASET, RECIPE, schema_file, set_environment, write_files
from infra.drills.life.recorder import Recorder
from infra.drills.life.runs import Run, Runs
from infra.drills.life.traffic import Traffic
from infra.local.airflow_client import dag_of
from infra.local.servers import RedisServer
from infra.local.settings import REPOSITORY, Settings, airflow_environment
from infra.local.stack import AIRFLOW, COMPONENTS, Stack

NUM_USERS, NUM_ITEMS = 300, 200
HISTORY_DAYS = 7
"""Built as one range before the first day that Airflow runs."""
DISK_MEGABYTES = 2048
REQUESTS_A_DAY = 40
WHOLE_ANSWERS, WHOLE_SECONDS = 20, 60.0
ONE_DAY = datetime.timedelta(days=1)


class World:
    """A running stack and what happens around it."""

    def __init__(self, folder: Path, *, days: int, rows_per_day: int, seed: int) -> None:
        """Write settings, schema and recipes; nothing runs yet.

        Args:
            folder: Of the drill, empty.
            days: That Airflow is to run.
            rows_per_day: Of the generated log.
            seed: Of the log.
        """
        self.folder = folder
        self.data = folder / "data"
        self.has_own_disk = disk.mount(self.data, megabytes=DISK_MEGABYTES)
        self.num_days, self.rows_per_day, self.seed = days, rows_per_day, seed
        write_files(folder)
        self.redis = RedisServer(folder / "redis") if shutil.which("redis-server") else None
        set_environment(folder, self.data, online=self.redis.url if self.redis else None)
        self.settings = Settings.from_environment()
        self.schema: Schema = schema_of(DATASET)
        self.source = folder / "source"
        first = self.schema.first_day
        self.history = [first + number * ONE_DAY for number in range(HISTORY_DAYS)]
        self.days = [self.history[-1] + number * ONE_DAY for number in range(1, days + 1)]
        os.environ["RANKING_FIRST_DAY"] = str(self.days[0])
        os.environ["RANKING_LAST_DAY"] = str(self.days[-1])
        self.stack = Stack(self.settings)
        self.sampler = MemorySampler()
        self.jobs = backfill.Jobs(self.settings, self.sampler, logs=folder / "logs")
        self.runs = Runs(self.settings)
        self.traffic = Traffic(
            self.settings.endpoint_url, DATASET, users=NUM_USERS, items=NUM_ITEMS, seed=seed
        )
        self.clock = Clock(folder / "clock")
        self.decisions: dict[str, str] = {}
        """What the gate said, by candidate."""
        self.recorder = Recorder(f"{self.settings.endpoint_url}/metrics")

    @property
    def daily(self) -> str:
        """The DAG of a day."""
        return dag_of("daily_ranking", DATASET)

    @property
    def monitor(self) -> str:
        """The DAG that looks at what was served."""
        return dag_of("monitor_ranking", DATASET)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """The whole stack, from when the first champion answers; nothing is left at the end."""
        with contextlib.ExitStack() as parts:
            if self.redis:
                parts.enter_context(self.redis)
            parts.enter_context(self.sampler.running())
            parts.enter_context(self.stack)
            self.stack.start_jobs()
            self.stack.start_spark()
            self.stack.wait_for_spark()
            self._generate()
            yield

    def open(self) -> None:
        """Build the history, learn it, serve it, and start Airflow."""
        for day in self.history:
            self.land(day)
        self.stack.start_airflow()
        first, last = self.history[0], self.history[-1]
        backfill.prepare(self.jobs, first, last)
        backfill.bring_online(self.jobs, first, last)
        self.clock.set(last)
        with self.clock.faked():
            self.stack.start_endpoint()
        self.learn_history(self.jobs)
        self.stack.wait_for_endpoint(with_model=False)
        backfill.promote(self.jobs, self.learnt(last))
        if not self.stack.has_model(DATASET):
            raise RuntimeError(
                f"rows: {self.rows_per_day} a day; too few for the gate to let a first champion "
                "through (--rows)"
            )
        self.stack.wait_for_airflow()
        for dag_id in (self.daily, self.monitor):
            self.runs.open(dag_id)

    def learn_history(self, jobs: backfill.Jobs) -> None:
        """The first candidate."""
        span = (f"--date={self.history[0]}", f"--to={self.history[-1]}")
        jobs.run("examples", "features", "examples", *span, folders="lake")
        self.train(jobs, self.history[-1])
        date = f"--date={self.learnt(self.history[-1])}"
        folders = "lake checkpoints artifacts tracking"
        jobs.run("export", "training", "export", date, folders=folders)
        jobs.run("evaluate", "training", "evaluate", date, "--first", folders=f"{folders} reports")

    def train(self, jobs: backfill.Jobs, day: datetime.date) -> None:
        """What the daily DAG trains for a day."""
        flags = (f"--date={self.learnt(day)}", f"--holdout-days={self.schema.holdout_days}")
        jobs.run(
            *("train", "training", "train", *flags, f"--recipe={RECIPE}"),
            folders="lake checkpoints tracking reports",
        )

    def learnt(self, day: datetime.date) -> datetime.date:
        """The newest day whose labels are final when a day is over."""
        return day - self.schema.maturity_days * ONE_DAY

    def landed(self, day: datetime.date) -> Path:
        """Where the file of a day lands."""
        return self.data / "landing" / DATASET / "impressions" / f"{day}.parquet"

    def whole(self, day: datetime.date) -> Path:
        """The day as it is, out of the drill's way."""
        return self.source / DATASET / "impressions" / f"{day}.parquet"

    def land(self, day: datetime.date) -> None:
        """The day lands, whole, in one step."""
        self.land_bytes(day, self.whole(day).read_bytes())

    def land_bytes(self, day: datetime.date, content: bytes) -> None:
        """A file lands under the name of a day, in one step."""
        target = self.landed(day)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        part.write_bytes(content)
        part.replace(target)
        for name in ("users", "items"):
            file = f"{name}.parquet"
            if not (self.data / "landing" / DATASET / file).exists():
                shutil.copy(self.source / DATASET / file, self.data / "landing" / DATASET / file)

    def job(self, package: str, command: str) -> psutil.Process | None:
        """The process of a job that runs, if one does."""
        wanted = f"-m {package} {command} "
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                title = " ".join(process.cmdline())
                # The run without faults has jobs of its own, in another folder.
                is_ours = title.startswith("python -m ") and f"{self.data}/" in title
                if is_ours and wanted in f"{title} ":
                    return process
        return None

    def process(self, part: str) -> psutil.Process:
        """A part of the stack, such as ``scheduler`` or ``endpoint``."""
        return psutil.Process(self.stack.processes.running[part].pid)

    def is_running(self, part: str) -> bool:
        """Whether a part of the stack has not ended."""
        return not self.stack.processes.has_ended(part)

    def restart(self, part: str) -> None:
        """Start a part of Airflow that has ended; its log until then is kept."""
        log = self.stack.processes.log(part)
        log.replace(log.with_suffix(".log.1"))
        environment = airflow_environment(self.settings)
        command = [*AIRFLOW, *COMPONENTS[part]]
        self.stack.processes.start(part, command, environment, self.settings.home)

    def _generate(self) -> None:
        days = self.num_days + HISTORY_DAYS
        sizes = {
            "rows": days * self.rows_per_day, "users": NUM_USERS, "items": NUM_ITEMS,
            "days": days, "seed": self.seed,
        }  # fmt: skip
        flags = [f"--{name}={value}" for name, value in sizes.items()]
        started = time.monotonic()
        self.jobs.run("fetch", "features", "fetch", *flags, f"--landing={self.source}")
        self.jobs.say(f"{days} days generated in {time.monotonic() - started:.0f} s")

    @property
    def schema_file(self) -> Path:
        """The schema file that runs."""
        return schema_file(self.folder)

    def lake(self) -> Lake:
        """The lake as it is now."""
        return Lake(place(self.data / "lake"), DATASET)

    def has_runbook(self, name: str) -> bool:
        """Whether the page that an alert names is there."""
        return (REPOSITORY / name).is_file()

    def note_candidate(self, run: Run) -> None:
        """Keep what the gate said of a run's candidate."""
        decision = self.runs.result(run, "evaluate")
        if candidate := decision.get("candidate"):
            self.decisions[str(candidate)] = str(decision["decision"])

    def serve_day(self, day: datetime.date) -> None:
        """Requests of a day, from features of the days before."""
        self.clock.set(day)
        self.traffic.day = day
        self.traffic.burst(REQUESTS_A_DAY)

    def answers_whole(self) -> bool:
        """Whether so many answers in a row have all their features."""
        deadline, whole = time.monotonic() + WHOLE_SECONDS, 0
        while whole < WHOLE_ANSWERS and time.monotonic() < deadline:
            whole = whole + 1 if self.traffic.is_whole() else 0
        return whole >= WHOLE_ANSWERS

    def look_at(self, day: datetime.date) -> Run:
        """Start the monitors for a day."""
        return self.runs.start_by_hand(self.monitor, day, name="monitor")
