"""``make bench-models``: eight rankers on three data sets, with equal budget and equal search."""

import json
import math
import sys

from infra.bench.jobs import prepare_examples, run_job
from infra.local.network import JsonObject
from infra.local.settings import REPOSITORY

FOLDER = REPOSITORY / "var" / "models"
DATASETS = {
    "movielens-100k": ("1998-04-22", ()),
    "open-bandit": ("2019-11-30", ()),
    "synthetic": ("2025-01-30", ("--rows=100000", "--users=2000", "--items=1000", "--days=30")),
}
"""Of each data set its last day, and how much of it is generated."""
MODELS = ("wukong", "dlrm", "dcnv2", "autoint", "finalmlp", "masknet", "xdeepfm", "afn")
SEEDS, TRIALS = 3, 2
_T_OF_THREE = 4.303
"""Student's t, 95 % on both sides, for the two degrees of freedom that three seeds leave."""


def main() -> None:
    """Prepare the lakes, run every model, print one table a data set and one JSON object."""
    figures: dict[str, JsonObject] = {}
    for dataset, (last, sizes) in DATASETS.items():
        lake = prepare_examples(dataset, FOLDER, last=last, sizes=sizes)
        named = (f"--dataset={dataset}", f"--data={lake}")
        figures[dataset] = {}
        for model in MODELS:
            flags = (f"--model={model}", f"--seeds={SEEDS}", f"--search={TRIALS}")
            figures[dataset][model] = run_job("training", "benchmark", *named, *flags)
        sys.stdout.write(table(dataset, figures[dataset]) + "\n")
    sys.stdout.write(json.dumps(figures) + "\n")


def table(dataset: str, models: JsonObject) -> str:
    """Means of three seeds with their 95 % intervals, the lowest log loss first."""
    first = next(iter(models.values()))
    rows = first["rows"]
    lines = [
        f"### {dataset}: {rows['train']:,} rows to train, {rows['test']:,} to test\n",
        "| model | log loss | NE | AUC | GAUC | dense and embedding parameters | MFLOP/example |",
        "|---|---|---|---|---|---|---|",
    ]
    for model, found in sorted(models.items(), key=lambda item: item[1]["log_loss"]):
        cells = [cell(found, name) for name in ("log_loss", "ne", "auc", "gauc")]
        size = f"{found['params']:,} | {found['mflop_per_example']:.2f}"
        lines.append(f"| {model} | {' | '.join(cells)} | {size} |")
    if "best_log_loss" in first:
        lines.append(f"\nThe true probabilities have log loss {first['best_log_loss']:.4f}.")
    return "\n".join(lines) + "\n"


def cell(found: JsonObject, name: str) -> str:
    """A mean and half the width of its interval."""
    value, spread = found[name], found["spreads"][name]
    if value is None:
        return "not defined"
    return f"{value:.4f} ± {_T_OF_THREE * spread / math.sqrt(SEEDS):.4f}"


if __name__ == "__main__":
    main()
