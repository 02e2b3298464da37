"""The main job on one machine: bootstrap a history, then let Airflow run days of it, one by one.

    python -m infra.demo.demo                  MovieLens-100k, 20 to 22 April 1998
    python -m infra.demo.demo --dataset synthetic --rows 20000 --days 4 --daily 1

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

import psutil

from features.datasets.catalog import known, schema_of
from features.options import from_flags, option, parse
from features.places import place, remove_folder
from infra.demo import backfill, report
from infra.demo.memory import MemorySampler
from infra.demo.replay import Replay
from infra.demo.sample_request import ranked_answer
from infra.local.airflow_client import Scheduler, Task
from infra.local.network import answers
from infra.local.processes import end_trees, is_recorded_alive, terminate_as_interrupt
from infra.local.settings import Settings, job_environment
from infra.local.stack import Stack

ONE_DAY = datetime.timedelta(days=1)
DAILY = "daily "
_SIZES = ("rows", "users", "items", "days", "seed")
_SHARED = ("airflow", "demo", "mlflow")
_OF_THE_DATASET = ("landing", "lake", "feast", "checkpoints", "artifacts", "reports")


@from_flags
class DemoRequest:
    """The main job, on this machine."""

    dataset: str = option(
        "the data set",
        metavar="NAME",
        parse=known,
        default_factory=lambda: Settings.from_environment().dataset,
    )
    daily: int = option("days that Airflow runs, the last ones", default=3)
    rows: int = option("generated data only", default=20_000)
    users: int = option("generated data only", default=500)
    items: int = option("generated data only", default=300)
    days: int = option("generated data only", default=4)
    seed: int = option("generated data only", default=0)

    @property
    def last_day(self) -> datetime.date:
        """The last day of the log; generated data have as many days as were asked for."""
        schema = schema_of(self.dataset)
        return schema.last_day or schema.first_day + (self.days - 1) * ONE_DAY


class Demo:
    """One demo: its settings, its days, and what it has seen so far."""

    def __init__(self, request: DemoRequest, settings: Settings) -> None:
        """Args: what was asked for, and the stack's settings."""
        self.settings = settings
        self.schema = schema_of(settings.dataset)
        self.days = [request.last_day - n * ONE_DAY for n in reversed(range(request.daily))]
        self.history = (self.schema.first_day, self.days[0] - ONE_DAY)
        self.sizes = [f"--{name}={getattr(request, name)}" for name in _SIZES]
        self.sampler = MemorySampler()
        self.folder = settings.var / "demo"
        self.jobs = backfill.Jobs(settings, self.sampler, logs=self.folder / "logs")
        self.replay = Replay(self.schema, settings=settings, day=self.days[-1])
        self.tasks: list[Task] = []
        self._seen: dict[tuple[str, str], str] = {}

    def run(self) -> dict[str, object]:
        """Run the whole demo; returns the report."""
        background = concurrent.futures.ThreadPoolExecutor()
        with self.sampler.running(), Stack(self.settings) as stack, background:
            stack.start_jobs()
            stack.start_spark()
            sizes = []
            if self.settings.dataset == "synthetic":
                sizes = self.sizes
                stack.wait_for_spark()  # which generates the log
            self.jobs.run("fetch", "features", "fetch", *sizes, folders="landing")
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
            self._run_days(Scheduler(self.settings.airflow_url))
            freshness = background.submit(self._replay, stack)
            drill = self._drill()
            answer = self._answer()
            fresh = freshness.result()
        seconds = round(time.monotonic() - self.jobs.started, 1)
        return report.build(self, seconds=seconds, drill=drill, answer=answer, fresh=fresh)

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
        """Evaluate a candidate that was spoilt on purpose; the gate must refuse it."""
        result = self.jobs.run(
            *("drill spoilt", "training", "evaluate"),
            *(f"--date={self._learnt(self.days[-1])}", "--drill=spoilt"),
            folders="lake checkpoints artifacts tracking reports",
        )
        if result.get("decision") != "refuse":
            raise RuntimeError(f"drill: the gate said {result.get('decision')!r}; it must refuse")
        return result

    def _stage(self, name: str, wait: Callable[[], object]) -> None:
        started = time.monotonic()
        wait()
        self.jobs.say(f"{name}, waited {time.monotonic() - started:.1f} s")


def clear(settings: Settings) -> None:
    """Remove what an earlier demo left: its results must not be mistaken for this demo's."""
    if is_recorded_alive(settings.record):
        raise ValueError(f"stack {settings.record}: is running; end it first with `make down`")
    for name in _SHARED:
        remove_folder(place(settings.var / name))
    for name in _OF_THE_DATASET:
        remove_folder(settings.data / name / settings.dataset)
    settings.var.mkdir(parents=True, exist_ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    request = parse(DemoRequest, prog="python -m infra.demo.demo", arguments=arguments)
    os.environ["RANKING_DATASET"] = request.dataset
    settings = Settings.from_environment()
    # Generated data end too, and the schedule with them: no run for today.
    os.environ["RANKING_LAST_DAY"] = str(request.last_day)
    terminate_as_interrupt()
    try:
        clear(settings)
        demo = Demo(request, settings)
        # The schedule catches up from the end of the history, not from the log's first day.
        os.environ["RANKING_FIRST_DAY"] = str(demo.days[0])
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
