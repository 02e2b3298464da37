"""The main job on one machine: bootstrap a history, then let Airflow run days of it, one by one.

    python -m infra.demo.demo                  MovieLens-100k, 20 to 22 April 1998
    python -m infra.demo.demo --schema shop.yaml --landing /data/shop
    python -m infra.demo.demo --dataset synthetic --rows 20000 --days 4 --daily 1

A data set of which nothing fetches the log needs its landed files: a file a day, in the folder that
``--landing`` names or in ``var/landing/<data set>``; they are never removed.

The days before the first daily one go through the same commands, each with a range of days. Then
Airflow's own scheduler catches up: it runs the daily ones, one after the other. Everything starts
from nothing: what an earlier demo left for the data set is removed first. Progress goes to stderr;
the last line of stdout is one JSON object; the whole report is in ``var/demo/``. What it leaves
behind is what ``make up`` shows.
"""

import concurrent.futures
import datetime
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from features.datasets.catalog import data_set_of, known, schema_of
from features.datasets.schema_files.discovery import SCHEMAS
from features.options import from_flags, option, parse
from features.places import Place, place, remove_folder
from infra.demo import backfill, landed_log, report
from infra.demo.memory import MemorySampler
from infra.demo.replay import Replay
from infra.demo.sample_request import ranked_answer
from infra.local.airflow_client import Scheduler, Task, dag_of
from infra.local.network import answers
from infra.local.processes import end_trees, is_recorded_alive, terminate_as_interrupt
from infra.local.settings import DATASETS, Settings, job_environment
from infra.local.stack import Stack

DAILY = "daily "
_SIZES = ("rows", "users", "items", "days", "seed")
_SHARED = ("airflow", "demo", "mlflow")
_OF_THE_DATASET = ("lake", "feast", "checkpoints", "artifacts", "reports")


@from_flags
class DemoRequest:
    """The main job, on this machine."""

    dataset: str | None = option(
        "the data set; without it and --schema, the first of RANKING_DATASETS",
        metavar="NAME",
        parse=known,
        default=None,
    )
    schema: Path | None = option(
        "the schema file of the data set, wherever it is", metavar="FILE", default=None
    )
    landing: Place | None = option(
        "folder of its log, which is copied: impressions/<day>.<format>, users and items; without "
        "it, the log is fetched, or has landed in var/landing/<data set>",
        metavar="DIR",
        default=None,
    )
    daily: int | None = option(
        f"days that Airflow runs, the last ones; {landed_log.USUAL_DAILY} where the log has enough",
        default=None,
    )
    rows: int = option("generated data only", default=20_000)
    users: int = option("generated data only", default=500)
    items: int = option("generated data only", default=300)
    days: int = option("generated data only", default=4)
    seed: int = option("generated data only", default=0)

    def __post_init__(self) -> None:
        """ValueError where the data set is named twice."""
        if self.dataset and self.schema:
            raise ValueError(f"--schema {self.schema}: not with --dataset {self.dataset}")


class Demo:
    """One demo: its settings, its days, and what it has seen so far."""

    def __init__(self, request: DemoRequest, settings: Settings) -> None:
        """Args: what was asked for, and the stack's settings."""
        self.request = request
        self.settings = settings
        self.schema = schema_of(settings.dataset)
        self.landing = settings.data / "landing" / settings.dataset
        self.is_fetched = is_fetched(request, settings)
        self.sampler = MemorySampler()
        self.folder = settings.var / "demo"
        self.jobs = backfill.Jobs(settings, self.sampler, logs=self.folder / "logs")
        self.tasks: list[Task] = []
        self._seen: dict[tuple[str, str], str] = {}

    def run(self) -> dict[str, object]:
        """Run the whole demo; returns the report."""
        if not self.is_fetched:
            self._plan()  # what is missing is said before anything starts
        background = concurrent.futures.ThreadPoolExecutor()
        with self.sampler.running(), Stack(self.settings) as stack, background:
            stack.start_jobs()
            stack.start_spark()
            self._fetch(stack)
            airflow = background.submit(stack.start_airflow)
            stack.wait_for_spark()
            backfill.prepare(self.jobs, *self.history)
            first, learnt = self.history[0], self._learnt(self.history[1])
            holdout_days = self.schema.holdout_days
            backfill.together(
                lambda: self._open_endpoint(stack),
                lambda: backfill.learn(self.jobs, first, learnt, holdout_days=holdout_days),
            )
            airflow.result()
            self._stage("endpoint answers", lambda: stack.wait_for_endpoint(with_model=False))
            backfill.promote(self.jobs, learnt)
            self._stage("Airflow is healthy", stack.wait_for_airflow)
            dag_id = dag_of("daily_ranking", self.settings.dataset)
            self._run_days(Scheduler(self.settings.airflow_url, dag_id))
            freshness = background.submit(self._replay, stack)
            drill = self._drill()
            answer = self._answer()
            fresh = freshness.result()
        seconds = round(time.monotonic() - self.jobs.started, 1)
        return report.build(self, seconds=seconds, drill=drill, answer=answer, fresh=fresh)

    def _fetch(self, stack: Stack) -> None:
        """Get the log, where something fetches it."""
        if not self.is_fetched:
            return
        sizes = [f"--{name}={getattr(self.request, name)}" for name in _SIZES]
        stack.wait_for_spark()  # which generates some of the logs
        self.jobs.run("fetch", "features", "fetch", *sizes, folders="landing")
        self._plan()

    def _plan(self) -> None:
        """Share the landed days out, and have the schedule begin and end with Airflow's."""
        landed = landed_log.landed_days(self.schema, self.landing)
        self.history, self.days = landed_log.span_of(self.schema, landed, self.request.daily)
        self.replay = Replay(self.schema, settings=self.settings, day=self.days[-1])
        os.environ["RANKING_FIRST_DAY"] = str(self.days[0])
        os.environ["RANKING_LAST_DAY"] = str(self.days[-1])  # no run for today

    def _learnt(self, day: datetime.date) -> datetime.date:
        """The newest day whose labels are final when a day is over."""
        return day - datetime.timedelta(days=self.schema.maturity_days)

    def _open_endpoint(self, stack: Stack) -> None:
        """Fill the online store, then start what reads it: its imports take a core for 15 s."""
        backfill.bring_online(self.jobs, *self.history)
        self.replay.keep_store()
        stack.start_endpoint()

    def _replay(self, stack: Stack) -> dict[str, object]:
        """The last day lands once more, impression by impression, and a push follows it."""
        started = time.monotonic()
        self.replay.start_push(stack.processes, job_environment(self.settings))
        result = self.replay.run()
        self.jobs.say(f"replay of {self.replay.day}, {time.monotonic() - started:.1f} s")
        return result

    def _answer(self) -> dict[str, object]:
        """One ranked answer; without items when there is no champion."""
        endpoint = self.settings.endpoint_url
        if not answers(f"{endpoint}/v2/health/ready"):
            return {"items": [], "note": "no champion: the gate has not let one through yet"}
        lake = self.settings.data / "lake"
        return ranked_answer(self.schema, lake=lake, day=self.days[-1], endpoint=endpoint)

    def _run_days(self, scheduler: Scheduler) -> None:
        scheduler.wait_for_dag()
        span = f"{self.days[0]} to {self.days[-1]}"
        self.jobs.say(f"Airflow runs {span}; watch it at {self.settings.airflow_url}")
        scheduler.unpause()
        self.tasks = scheduler.watch(self.days, on_poll=self._on_poll)
        self.sampler.set_active(set(), prefix=DAILY)

    def _on_poll(self, tasks: list[Task]) -> None:
        """Log which tasks changed state, and assign memory samples to the running stages."""
        running = {DAILY + task["task"] for task in tasks if task["state"] == "running"}
        self.sampler.set_active(running, prefix=DAILY)
        for task in tasks:
            state, key = task["state"] or "", (task["day"], task["task"])
            if state in report.LOGGED_STATES and self._seen.get(key) != state:
                self._seen[key] = state
                took = "" if state == "running" else f", {task['seconds']:.1f} s"
                self.jobs.say(f"{task['day']} {task['task']:<22}{state}{took}")

    def _drill(self) -> dict[str, object]:
        """Evaluate a candidate that was spoilt on purpose; the gate must not let it through.

        It refuses it; of a log of one's own the days may be too small to show how bad it is.
        """
        result = self.jobs.run(
            *("drill spoilt", "training", "evaluate"),
            *(f"--date={self._learnt(self.days[-1])}", "--drill=spoilt"),
            folders="lake checkpoints artifacts tracking reports",
        )
        allowed = ["refuse"] if self.is_fetched else ["refuse", "hold"]
        if result.get("decision") not in allowed:
            said = f"drill: the gate said {result.get('decision')!r}"
            raise RuntimeError(f"{said}; expected {' or '.join(allowed)}")
        return result

    def _stage(self, name: str, wait: Callable[[], object]) -> None:
        started = time.monotonic()
        wait()
        self.jobs.say(f"{name}, waited {time.monotonic() - started:.1f} s")


def is_fetched(request: DemoRequest, settings: Settings) -> bool:
    """Whether the demo gets the log itself."""
    return request.landing is None and bool(data_set_of(settings.dataset).source.fetch)


def clear(settings: Settings) -> None:
    """Remove what an earlier demo left: its results must not be mistaken for this demo's."""
    if is_recorded_alive(settings.record):
        raise ValueError(f"stack {settings.record}: is running; end it first with `make down`")
    for name in _SHARED:
        remove_folder(place(settings.var / name))
    for name in _OF_THE_DATASET:
        remove_folder(settings.data / name / settings.dataset)
    settings.var.mkdir(parents=True, exist_ok=True)


def prepared(request: DemoRequest) -> Settings:
    """Set the environment that all parts share, remove what an earlier demo left, bring the log.

    Raises:
        ValueError: There is no such data set, its file is wrong, or a stack is running.
    """
    if request.schema:
        named = [str(request.schema.resolve()), os.environ.get(SCHEMAS, "")]
        os.environ[SCHEMAS] = os.pathsep.join(filter(None, named))
    if name := request.dataset or (request.schema and request.schema.stem):
        os.environ[DATASETS] = name
    settings = Settings.from_environment()
    os.environ[DATASETS] = settings.dataset  # the demo is of one
    settings = settings.model_copy(update={"datasets": settings.dataset})
    landing = settings.data / "landing" / settings.dataset
    has_fetch = is_fetched(request, settings)
    if request.landing is not None:
        landed_log.require_log(request.landing)
    clear(settings)
    if has_fetch:
        remove_folder(landing)
    if request.landing is not None:
        landed_log.bring(request.landing, landing)
    return settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    request = parse(DemoRequest, prog="python -m infra.demo.demo", arguments=arguments)
    terminate_as_interrupt()
    try:
        demo = Demo(request, prepared(request))
        summary = demo.run()
    except KeyboardInterrupt:
        sys.stderr.write("ended before the end\n")
        return 130
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    finally:
        end_trees(child.pid for child in psutil.Process().children())
    sys.stdout.write(report.write(summary, demo.folder))
    sys.stdout.write(json.dumps(report.headline(summary)) + "\n")
    return 1 if summary["failed_tasks"] else 0


if __name__ == "__main__":
    sys.exit(main())
