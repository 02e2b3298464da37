"""``make bench-quality``: the last 28 days of MovieLens, rolled daily, against simple rivals."""

import json
import subprocess
import sys
from pathlib import Path

from settings import REPOSITORY

FIRST, LAST = "1997-09-20", "1998-04-22"
FOLDER = REPOSITORY / "var" / "quality"
LANDING, LAKE = f"--landing={FOLDER / 'landing'}", f"--lake={FOLDER / 'lake'}"
RANGE = (f"--date={FIRST}", f"--to={LAST}")
JOBS = (
    ("features", "fetch", LANDING),
    ("features", "ingest", LANDING, LAKE, *RANGE),
    ("features", "validate", "--table=impressions", LAKE, f"--docs={FOLDER / 'reports'}", *RANGE),
    ("features", "build", LANDING, LAKE, *RANGE),
    ("features", "examples", LAKE, *RANGE),
    ("training", "backtest", LAKE, f"--date={LAST}", "--days=28"),
)


def run(package: str, verb: str, *flags: str) -> dict[str, object]:
    """One job's summary; its log goes to our stderr."""
    command = [sys.executable, "-m", package, verb, "--dataset=movielens-100k", *flags]
    sys.stderr.write(f"== {package} {verb}\n")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def table(found: dict[str, object]) -> str:
    """The metrics of the ranker and its rivals, for a person."""
    metrics: dict[str, dict[str, float]] = found["metrics"]  # type: ignore[assignment]
    names = ("log_loss", "ne", "auc", "gauc", "calibration")
    lines = [f"{'':<22}" + "".join(f"{name:>13}" for name in names)]
    for model, values in metrics.items():
        lines.append(f"{model:<22}" + "".join(f"{values[name]:>13.4f}" for name in names))
    changes: dict[str, dict[str, float]] = found["log_loss_change"]  # type: ignore[assignment]
    for rival, change in changes.items():
        lines.append(
            f"log loss against the {rival}: {change['change']:+.2%} "
            f"({change['low']:+.2%} to {change['high']:+.2%}, users resampled)"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Prepare the lake, run the backtest, print the table and one JSON object."""
    Path(FOLDER).mkdir(parents=True, exist_ok=True)
    results = [run(*job) for job in JOBS]
    sys.stderr.write(table(results[-1]))
    sys.stdout.write(json.dumps(results[-1]) + "\n")


if __name__ == "__main__":
    main()
