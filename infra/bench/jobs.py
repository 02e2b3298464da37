"""Jobs run one after the other through their command lines, for the benches of this folder."""

import datetime
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from features.datasets.catalog import schema_of
from infra.local.network import JsonObject
from infra.local.settings import REPOSITORY

VAR = REPOSITORY / "var"
LOGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "synthetic-fields": ("2025-01-24", ("--rows=960000", "--days=24")),
    "synthetic": ("2025-01-24", ("--rows=300000", "--users=6000", "--items=3000", "--days=24")),
    "movielens-100k": ("1998-04-22", ()),
}
"""Last day and size of the logs on which growing and scaling are measured."""
LAWS = VAR / "laws"
"""Where they are."""


def run_job(package: str, name: str, *flags: str) -> JsonObject:
    """One job's summary; its log goes to stderr, and its failure ends this process."""
    command = [sys.executable, "-m", package, name, *flags]
    sys.stderr.write(f"== {package} {' '.join((name, *flags))}\n")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def prepare_examples(dataset: str, folder: Path, *, last: str, sizes: tuple[str, ...] = ()) -> Path:
    """Fetch a log and take all its days to training examples, at once; returns the lake.

    A lake that has them already is left as it is.
    """
    landing = f"--landing={folder / 'landing'}"
    first = schema_of(dataset).first_day
    days = (datetime.date.fromisoformat(last) - first).days + 1
    places = (landing, f"--lake={folder / 'lake'}", f"--docs={folder / 'reports'}")
    range_of_days = (f"--date={first}", f"--to={last}", "--first-day", f"--days-per-chunk={days}")
    run_job("features", "fetch", f"--dataset={dataset}", landing, *sizes)
    run_job("features", "history", f"--dataset={dataset}", *places, *range_of_days)
    return folder / "lake"


def lake_of(dataset: str, folder: Path = LAWS, sizes: tuple[str, ...] = ()) -> Path:
    """The lake with one of ``LOGS``, in its size or another one, prepared once."""
    if not (folder / "lake" / dataset / "examples").exists():
        last, usual = LOGS[dataset]
        prepare_examples(dataset, folder, last=last, sizes=sizes or usual)
    return folder / "lake"


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table in Markdown, on stderr."""
    lines = [columns, ["---"] * len(columns), *rows]
    table = "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
    sys.stderr.write(f"### {title}\n\n{table}\n\n" if title else f"{table}\n\n")
