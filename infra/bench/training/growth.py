"""``make bench-growth``: what growing a ranker saves, in width and in depth.

On the generated log of small fields, by the product's own commands alone. Three figures over three
seeds, each with a 95 % interval: the compute at which the grown ranker has the loss from scratch,
with the parent's and without; and the days until it is better than the un-grown one, over the days
of replay that one from scratch needs for it. Less is better; null: not reached. The small ranker at
equal compute stands beside them.
"""

import json
import shutil
import sys
from typing import Literal

from features.options import from_flags, option, parse
from infra.bench.jobs import LAWS, lake_of, run_job, show
from infra.local.network import JsonObject

FIELDS = "synthetic-fields"
OPERATORS = {"width": "exact", "depth": "fresh-head"}
RECIPES = {
    "full": {
        "width": ("wukong-mini-l2-w4", "wukong-mini-l2-w9"),
        "depth": ("wukong-mini-w2", "wukong-mini-l4-w2"),
    },
    "small": {
        "width": ("wukong-tiny", "wukong-tiny-w2"),
        "depth": ("wukong-tiny", "wukong-tiny-l3"),
    },
}
"""What grows to what: a step of the wider ranker costs more than five times the small one's."""
SIZES = {
    "full": (("--rows=2400000", "--days=24"), ("--batch-size=512", "--share=0.45")),
    "small": (
        ("--rows=60000", "--days=24"),
        ("--batch-size=512", "--share=0.6", "--seeds=2", "--trials=0"),
    ),
}
"""The log, and how it is run. The small one, of some minutes, shows that everything runs: its log
is too short for a larger ranker to be better."""
RATIOS = ("compute_to_scratch_loss", "compute_after_growth", "days_to_better")


@from_flags
class GrowthBenchRequest:
    """What growing a ranker saves, in width and in depth."""

    size: Literal["full", "small"] = option("of the log and the search for rates", default="full")
    axis: Literal["both", "width", "depth"] = option("what grows", default="both")


def run(request: GrowthBenchRequest) -> JsonObject:
    """The three ratios of each axis; what a run that was ended has finished is not run again."""
    rows, flags = SIZES[request.size]
    folder = LAWS / ("growth" if request.size == "full" else "growth-small")
    lake = lake_of(FIELDS, folder, rows)
    found: dict[str, JsonObject] = {}
    for axis, (small, large) in RECIPES[request.size].items():
        if request.axis in {axis, "both"}:
            named = (f"--dataset={FIELDS}", f"--lake={lake}", f"--operator={OPERATORS[axis]}")
            asked = (*named, f"--recipe={small}", f"--to={large}", *flags)
            asked = (*asked, f"--study={folder / 'found'}")
            found[axis] = run_job("training", "growth", *asked)
            _show(axis, found[axis])
            (folder / f"{axis}.json").write_text(json.dumps(found[axis]))
    # All were shown: the next run measures again.
    shutil.rmtree(folder / "found", ignore_errors=True)
    exact = [one["max_logit_difference"] for one in found.values() if one["operator"] == "exact"]
    return {
        "max_logit_difference": max(exact, default=None),
        FIELDS: {axis: {name: one[name] for name in RATIOS} for axis, one in found.items()},
    }


def _show(axis: str, one: JsonObject) -> None:
    rows = [
        (
            *(arm, f"{budget['steps']:,}", f"{budget['compute']:.2f}"),
            f"{budget['mean_log_loss']:.4f}",
            " ".join(f"{loss:.4f}" for loss in budget["log_loss"]),
        )
        for arm, budgets in one["arms"].items()
        for budget in budgets
    ]
    best = one["best_log_loss"]
    title = f"{axis}, {one['operator']}: {one['steps']:,} steps, the large one's is "
    title += f"{one['compute_ratio']:.1f} times as dear; rates {one['learning_rates']}"
    show(
        title + (f"; the true probabilities' log loss is {best:.4f}" if best else ""),
        ("ranker", "steps", "compute", "log loss", "by seed"),
        rows,
    )
    show("", ("figure", "mean", "95 % interval", "by seed"), [_ratio(name, one) for name in RATIOS])


def _ratio(name: str, one: JsonObject) -> tuple[str, str, str, str]:
    found = one[name]

    def number(value: float | None) -> str:
        return "not reached" if value is None else f"{value:.2f}"

    if found["low"] is None:
        interval = "none"
    else:
        interval = f"{number(found['low'])} to {number(found['high'])}"
    return name, number(found["value"]), interval, " ".join(map(number, found["by_seed"]))


if __name__ == "__main__":
    asked = parse(GrowthBenchRequest, prog="python -m infra.bench.training.growth")
    sys.stdout.write(json.dumps(run(asked)) + "\n")
