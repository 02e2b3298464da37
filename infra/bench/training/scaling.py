"""``make bench-scaling``: a scaling law from runs on this machine, and its error.

On a generated log whose best reachable loss is known, or on MovieLens: Wukong's ladder and DLRM's
MLPs against compute, both against data, and Wukong's depth. The points go to docs/scaling/; an
interrupted sweep continues where it stopped.
"""

import json
import shutil
from pathlib import Path

import numpy as np

from features.lake.snapshot import snapshot
from features.options import from_flags, option, parse
from features.places import place
from infra.bench.jobs import LAWS, LOGS, lake_of, run_job
from infra.local.settings import REPOSITORY

EVIDENCE = REPOSITORY / "docs" / "scaling"
SWEEPS = (
    ("dlrm-small", "data", 8),
    ("wukong-small", "data", 8),
    ("dlrm-small", "compute", 8),
    ("wukong-small", "depth", 6),
    ("wukong-small", "compute", 8),
)
"""The longest last: it is where a budget ends."""
BATCH_SIZES = {"synthetic-fields": 512}
SMALLER = tuple((recipe, axis, 5) for recipe, axis, _ in SWEEPS)
"""For MovieLens: 85,000 examples to train on."""


@from_flags
class ScalingRequest:
    """A scaling law from runs on this machine, and its error."""

    dataset: str = option("the log", choices=sorted(LOGS), default="synthetic-fields")
    budget: float = option("minutes of all sweeps together", default=170.0)
    seeds: int = option("runs of each size", default=3)


def main() -> None:
    """Prepare, sweep, fit, and print one JSON object."""
    request = parse(ScalingRequest, prog="python -m infra.bench.training.scaling")
    dataset, lake = request.dataset, lake_of(request.dataset)
    left, swept = request.budget, []
    for recipe, axis, num_points in SWEEPS if dataset != "movielens-100k" else SMALLER:
        found = run_job(
            *("training", "scaling", f"--dataset={dataset}", f"--lake={lake}", f"--study={LAWS}"),
            *(f"--tracking={LAWS / 'mlflow'}", f"--reports={LAWS / 'reports'}"),
            *(f"--recipe={recipe}", f"--axis={axis}", f"--points={num_points}"),
            *(f"--seeds={request.seeds}", f"--budget={left}"),
            f"--batch-size={BATCH_SIZES.get(dataset, 256)}",
        )
        swept.append({"recipe": recipe, **found["swept"]})
        left = max(0.0, left - found["swept"][axis]["minutes"])
    EVIDENCE.mkdir(parents=True, exist_ok=True)
    shutil.copy(LAWS / f"{dataset}.jsonl", EVIDENCE)
    summary = {"swept": swept, **{key: found.get(key) for key in ("law", "advice", "report")}}
    if dataset != "movielens-100k":
        summary["known_floor_ne"] = known_floor(lake / dataset)
    print(json.dumps(summary))


def known_floor(lake: Path) -> float:
    """NE of the true probabilities on the days that judge, the last eighth."""
    found = snapshot(place(lake / "impressions"))
    judged = found.days[-max(1, len(found.days) // 8) :]
    rows = [found.read(day) for day in judged]
    true = np.concatenate([table.column("true_probability").to_numpy() for table in rows])
    label = np.concatenate([table.column("click").to_numpy() for table in rows])
    log_loss = -np.mean(np.where(label == 1, np.log(true), np.log1p(-true)))
    rate = label.mean()
    return float(log_loss / -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate)))


if __name__ == "__main__":
    main()
