"""``make bench-growth``: what growing a ranker saves, on generated data and on MovieLens."""

import json
import sys
from pathlib import Path

from infra.bench.jobs import LAWS, lake_of, prepare_examples, run_job
from infra.local.network import JsonObject

SEEDS = 3
RUNS = {
    "synthetic-fields": (
        *("--recipe=wukong-mini", "--to=wukong-mini-x2"),
        *("--batch-size=512", "--share=0.5"),
    ),
    "movielens-100k": ("--to=wukong-small-x3", "--batch-size=256"),
}
"""By data set: what grows and to what, the batch, and how much of the log the large one sees."""
LONG_LOG = ("--rows=2400000", "--days=24")
LONG_LOG_ENDS = "2025-01-24"


def main() -> None:
    """Prepare the lakes, compare, print a table a data set and one JSON object."""
    found: dict[str, JsonObject] = {}
    for dataset, sizes in RUNS.items():
        lake = long_lake() if dataset == "synthetic-fields" else lake_of(dataset)
        flags = (f"--dataset={dataset}", f"--lake={lake}", f"--seeds={SEEDS}")
        found[dataset] = run_job("training", "growth", *flags, *sizes)
        sys.stderr.write(table(dataset, found[dataset]) + "\n")
    keys = ("max_logit_difference", "compute_to_scratch_loss")
    (LAWS / "growth.json").write_text(json.dumps(found))
    summary = {name: {key: values[key] for key in keys} for name, values in found.items()}
    sys.stdout.write(json.dumps(summary) + "\n")


def long_lake() -> Path:
    """The generated log in which a small ranker has seen enough before the large one has."""
    folder = LAWS / "growth"
    if not (folder / "lake" / "synthetic-fields" / "examples").exists():
        prepare_examples("synthetic-fields", folder, last=LONG_LOG_ENDS, sizes=LONG_LOG)
    return folder / "lake"


def table(dataset: str, found: JsonObject) -> str:
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
