"""Jobs run one after the other through their command lines, for the benches of this folder."""

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
    """Fetch a log and take all its days to training examples; returns the lake."""
    landing, lake = f"--landing={folder / 'landing'}", f"--lake={folder / 'lake'}"
    days = (f"--date={schema_of(dataset).first_day}", f"--to={last}")
    docs = f"--docs={folder / 'reports'}"
    named = f"--dataset={dataset}"
    run_job("features", "fetch", named, landing, *sizes)
    run_job("features", "ingest", named, landing, lake, *days)
    run_job("features", "validate", named, "--table=impressions", lake, docs, *days)
    run_job("features", "build", named, landing, lake, *days)
    run_job("features", "validate", named, "--table=features", lake, docs, *days)
    run_job("features", "examples", named, lake, *days)
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
