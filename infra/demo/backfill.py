"""The history before the first daily day: the DAG's commands, each with a range of days."""

import concurrent.futures
import contextlib
import dataclasses
import datetime
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from infra.demo.memory import MemorySampler
from infra.local.settings import Settings, job_environment

EXIT_NOTHING_TO_DO = 99
NEWS_SECONDS = 10.0
"""Longest silence while a job runs."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """The time, memory and summary of one job."""

    name: str
    seconds: float
    state: str
    result: dict[str, object]


class JobFailedError(RuntimeError):
    """A job ended with a code that means failure; the message holds its ``error:`` line."""


class Jobs:
    """Runs commands one after the other, logs their progress, and keeps their time and memory."""

    def __init__(self, settings: Settings, sampler: MemorySampler, *, logs: Path) -> None:
        """Args: the stack's settings, the memory sampler, and the folder of the jobs' logs."""
        self.settings = settings
        self.sampler = sampler
        self.logs = logs
        self.started = time.monotonic()
        self.stages: list[Stage] = []
        self.count = itertools.count()

    def run(
        self, name: str, package: str, asked: str, *flags: str, folders: str = ""
    ) -> dict[str, object]:
        """Run one command as a process; returns its JSON summary."""
        environment = job_environment(self.settings)
        command = [environment["RANKING_PYTHON"], "-m", package, asked]
        command += [f"--dataset={self.settings.dataset}", *self.settings.folders(folders), *flags]
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{next(self.count):02d}-{name.replace(' ', '-')}.log"
        started = time.monotonic()
        with self.sampler.stage(name):
            code, stdout = self._wait(name, command, environment, log)
        stage = Stage(
            name=name,
            seconds=round(time.monotonic() - started, 1),
            state={0: "success", EXIT_NOTHING_TO_DO: "skipped"}.get(code, "failed"),
            result=_last_object(stdout),
        )
        self.stages.append(stage)
        self.say(f"{name:<22}{stage.state}, {stage.seconds:.1f} s{_rows(stage.result)}")
        if stage.state == "failed":
            raise JobFailedError(f"{name}: exit code {code}; {_error_line(log)}; log {log}")
        return stage.result

    def _wait(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> tuple[int, str]:
        self.say(f"{name:<22}started")
        with contextlib.ExitStack() as stack:
            errors = stack.enter_context(log.open("w"))
            output = stack.enter_context(log.with_suffix(".out").open("w+"))
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=self.settings.var,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
            )
            started = time.monotonic()
            code: int | None = None
            while code is None:
                try:
                    code = process.wait(NEWS_SECONDS)
                except subprocess.TimeoutExpired:
                    memory, seconds = self.sampler.now_mb, time.monotonic() - started
                    self.say(f"{name:<22}running, {seconds:.0f} s, {memory} MB in all")
            output.seek(0)
            return code, output.read()

    def say(self, text: str) -> None:
        """One line of progress."""
        sys.stderr.write(f"[{time.monotonic() - self.started:6.1f} s] {text}\n")
        sys.stderr.flush()


def prepare(jobs: Jobs, first: datetime.date, last: datetime.date) -> None:
    """From the landed log to checked features, for a range of days."""
    span = (f"--date={first}", f"--to={last}")
    jobs.run("ingest", "features", "ingest", *span, folders="landing lake")
    _validate(jobs, "impressions", span)
    jobs.run("build features", "features", "build", *span, folders="landing lake")
    together(
        lambda: _validate(jobs, "features", span),
        lambda: jobs.run("feast apply", "features", "apply", folders="lake store"),
    )


def bring_online(jobs: Jobs, first: datetime.date, last: datetime.date) -> None:
    """The newest feature rows into the online store."""
    span = (f"--date={first}", f"--to={last}")
    jobs.run("materialize", "features", "materialize", *span, folders="lake store")


def learn(jobs: Jobs, first: datetime.date, last: datetime.date, *, holdout_days: int) -> None:
    """The first candidate, judged by the same gate as any other.

    A short log may not show its calibration yet; as the first it needs to beat the base rate.
    """
    span, date = (f"--date={first}", f"--to={last}"), f"--date={last}"
    jobs.run("examples", "features", "examples", *span, folders="lake")
    jobs.run(
        *("train", "training", "train", date, f"--holdout-days={holdout_days}"),
        folders="lake checkpoints tracking reports",
    )
    jobs.run("export", "training", "export", date, folders="lake checkpoints artifacts tracking")
    jobs.run(
        *("evaluate", "training", "evaluate", date, "--first"),
        folders="lake checkpoints artifacts tracking reports",
    )


def promote(jobs: Jobs, day: datetime.date) -> None:
    """Carry out the gate's decision on the running endpoint."""
    jobs.run(
        *("promote", "serving", "promote", f"--date={day}"),
        f"--endpoint={jobs.settings.endpoint_url}",
        folders="tracking reports",
    )


def together(*works: Callable[[], object]) -> None:
    """Run several steps at once, as the DAG does for steps that are independent."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        pending = [pool.submit(work) for work in works]
    for work in pending:
        work.result()


def _validate(jobs: Jobs, table: str, span: Sequence[str]) -> None:
    flags = (f"--table={table}", *span)
    jobs.run(f"validate {table}", "features", "validate", *flags, folders="lake docs")


def _last_object(stdout: str) -> dict[str, object]:
    lines = [line for line in stdout.splitlines() if line.strip()]
    try:
        value = json.loads(lines[-1]) if lines else {}
    except json.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _rows(result: dict[str, object]) -> str:
    return f", {result['rows']:,} rows" if isinstance(result.get("rows"), int) else ""


def _error_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("error:")]
    return (errors or lines or ["no output"])[-1]
