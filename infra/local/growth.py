"""``make bench-growth``: what growing a ranker saves, on generated data and on MovieLens."""

import json
import sys
from typing import Any

from doors import LAWS, lake_of, run_door

SEEDS = 3
RUNS = {
    "synthetic-fields": ("--to=wukong-small-x2", "--batch-size=512"),
    "movielens-100k": ("--to=wukong-small-x3", "--batch-size=256"),
}
"""By data set: what the usual ranker grows to, and the batch."""


def main() -> None:
    """Prepare the lakes, compare, print a table a data set and one JSON object."""
    found: dict[str, dict[str, Any]] = {}
    for dataset, sizes in RUNS.items():
        flags = (f"--dataset={dataset}", f"--lake={lake_of(dataset)}", f"--seeds={SEEDS}")
        found[dataset] = run_door("training", "growth", *flags, *sizes)
        sys.stderr.write(table(dataset, found[dataset]) + "\n")
    keys = ("max_logit_difference", "compute_to_scratch_loss")
    (LAWS / "growth.json").write_text(json.dumps(found))
    told = {name: {key: values[key] for key in keys} for name, values in found.items()}
    sys.stdout.write(json.dumps(told) + "\n")


def table(dataset: str, found: dict[str, Any]) -> str:
    """Final losses by run, and at what share of the compute the loss from scratch was reached."""
    best = found["best_log_loss"]
    known = f"; the true probabilities' log loss is {best:.4f}" if best else ""
    lines = [
        f"### {dataset}, {found['steps']:,} steps{known}\n",
        "| run | training FLOPs | log loss on the last days, by seed | compute to scratch's loss |",
        "|---|---|---|---|",
    ]
    for name, losses in found["final_log_loss"].items():
        ratio = found["compute_to_scratch_loss_by_moment"].get(name)
        shown = "" if name == "large" else "never" if ratio is None else f"{ratio:.2f}"
        flops = f"{found['training_flops'][name]:.3g}"
        lines.append(f"| {name} | {flops} | {' '.join(f'{x:.4f}' for x in losses)} | {shown} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
