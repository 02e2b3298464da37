"""``make bench-quality``: the last 28 days of MovieLens, rolled daily, against simple baselines."""

import json
import sys

from infra.bench.jobs import prepare_examples, run_job
from infra.local.settings import REPOSITORY

LAST = "1998-04-22"
FOLDER = REPOSITORY / "var" / "quality"


def table(found: dict[str, object]) -> str:
    """The metrics of the ranker and its baselines, for a person."""
    metrics: dict[str, dict[str, float]] = found["metrics"]  # type: ignore[assignment]
    names = ("log_loss", "ne", "auc", "gauc", "calibration")
    lines = [f"{'':<22}" + "".join(f"{name:>13}" for name in names)]
    for model, values in metrics.items():
        lines.append(f"{model:<22}" + "".join(f"{values[name]:>13.4f}" for name in names))
    changes: dict[str, dict[str, float]] = found["log_loss_change"]  # type: ignore[assignment]
    for baseline, change in changes.items():
        lines.append(
            f"log loss against the {baseline}: {change['change']:+.2%} "
            f"({change['low']:+.2%} to {change['high']:+.2%}, users resampled)"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Prepare the lake, run the backtest, print the table and one JSON object."""
    lake = prepare_examples("movielens-100k", FOLDER, last=LAST)
    named = ("--dataset=movielens-100k", f"--lake={lake}", f"--date={LAST}")
    found = run_job("training", "backtest", *named, "--days=28")
    sys.stderr.write(table(found))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
