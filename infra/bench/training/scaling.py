"""``make bench-scaling``: a scaling law from runs on this machine, and its error.

On a generated log whose best reachable loss is known, or on MovieLens: Wukong's ladder and DLRM's
MLPs against compute, both against data. The points go to docs/scaling/; an interrupted sweep
continues where it stopped.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from infra.bench.jobs import LAWS, LOGS, lake_of, run_job
from infra.local.settings import REPOSITORY

EVIDENCE = REPOSITORY / "docs" / "scaling"
SWEEPS = (
    ("dlrm-small", "data", 8),
    ("wukong-small", "data", 8),
    ("dlrm-small", "compute", 8),
    ("wukong-small", "compute", 8),
)
"""The longest last: it is where a budget ends."""
BATCH_SIZES = {"synthetic-fields": 512}
SMALLER = tuple((recipe, axis, 5) for recipe, axis, _ in SWEEPS)
"""For MovieLens: 85,000 examples to train on."""


def main() -> None:
    """Prepare, sweep, fit, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", choices=sorted(LOGS), default="synthetic-fields")
    parser.add_argument("--budget", type=float, default=85.0, help="minutes of all sweeps together")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each size")
    options = parser.parse_args()
    lake = lake_of(options.dataset)
    left, swept = options.budget, []
    for recipe, axis, num_points in SWEEPS if options.dataset != "movielens-100k" else SMALLER:
        found = run_job(
            *("training", "scaling", f"--dataset={options.dataset}", f"--lake={lake}"),
            *(f"--study={LAWS}", f"--tracking={LAWS / 'mlflow'}", f"--recipe={recipe}"),
            *(f"--axis={axis}", f"--points={num_points}", f"--seeds={options.seeds}"),
            *(
                f"--budget={left}",
                f"--batch-size={BATCH_SIZES.get(options.dataset, 256)}",
                f"--reports={LAWS / 'reports'}",
            ),
        )
        swept.append({"recipe": recipe, **found["swept"]})
        left = max(0.0, left - found["swept"][axis]["minutes"])
    points = LAWS / f"{options.dataset}.jsonl"
    EVIDENCE.mkdir(parents=True, exist_ok=True)
    shutil.copy(points, EVIDENCE)
    summary = {"swept": swept, **{key: found.get(key) for key in ("law", "advice", "report")}}
    if options.dataset != "movielens-100k":
        summary["known_floor_ne"] = known_floor(lake / options.dataset)
    print(json.dumps(summary))


def known_floor(lake: Path) -> float:
    """NE of the true probabilities on the days that judge, the last eighth."""
    days = sorted((lake / "impressions").glob("day=*"))
    judged = days[-max(1, len(days) // 8) :]
    rows = [
        pq.read_table(path, partitioning=None) for day in judged for path in day.glob("*.parquet")
    ]
    true = np.concatenate([table.column("true_probability").to_numpy() for table in rows])
    label = np.concatenate([table.column("click").to_numpy() for table in rows])
    log_loss = -np.mean(np.where(label == 1, np.log(true), np.log1p(-true)))
    rate = label.mean()
    return float(log_loss / -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate)))


if __name__ == "__main__":
    main()
