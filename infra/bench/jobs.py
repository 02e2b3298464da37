"""Jobs run one after the other through their command lines, for the benches of this folder."""

import json
import subprocess
import sys
from pathlib import Path

from features.datasets.catalog import schema_of
from infra.local.network import JsonObject
from infra.local.settings import REPOSITORY

LOGS = {
    "synthetic-fields": ("2025-01-24", ("--rows=960000", "--days=24")),
    "synthetic": ("2025-01-24", ("--rows=300000", "--users=6000", "--items=3000", "--days=24")),
    "movielens-100k": ("1998-04-22", ()),
}
"""Last day and size of the logs on which growing and scaling are measured."""
LAWS = REPOSITORY / "var" / "laws"
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
    run_job("features", "examples", named, lake, *days)
    return folder / "lake"


def lake_of(dataset: str) -> Path:
    """The lake with one of ``LOGS``, prepared once."""
    lake = LAWS / "lake"
    if not (lake / dataset / "examples").exists():
        last, sizes = LOGS[dataset]
        prepare_examples(dataset, LAWS, last=last, sizes=sizes)
    return lake
