"""Benches that run commands of training and show what they found: ``--suite NAME``.

Tables go to stderr as soon as there is one; the last line of stdout is one JSON object.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from features.datasets.catalog import known
from features.options import from_flags, option, parse
from infra.bench.jobs import LAWS, LOGS, VAR, lake_of, prepare_examples, run_job, show
from training.experiments.daily.policies import POLICIES

MOVIELENS = "movielens-100k"
Figures = dict[str, Any]


def speed() -> Figures:
    """``make bench-train``: the speed of training on two fixed configurations.

    A process for each, so that its peak memory is its own.
    """
    names = (
        *("samples_per_second", "gflops", "peak_gflops", "share_of_peak", "peak_memory_mb"),
        *("input_samples_per_second", "input_ratio"),
        *("samples_per_second_2_ranks", "input_samples_per_second_2_ranks", "input_ratio_2_ranks"),
    )
    found = {}
    for name in ("A", "B"):
        by_ranks = run_job("training", "speed", f"--configuration={name}", "--ranks=2")
        found[name] = run_job("training", "speed", f"--configuration={name}", "--ranks=1")
        for key in ("samples_per_second", "input_samples_per_second", "input_ratio"):
            found[name][f"{key}_2_ranks"] = by_ranks[f"{key}_by_ranks"]["2"]
    rows = [(name, *(f"{one[key]:,.2f}" for key in names)) for name, one in found.items()]
    show("", ("configuration", *names), rows)
    return found


def quality(only: Sequence[str] = ()) -> Figures:
    """``make bench-quality``: the daily ranker against baselines, and what a daily run may do.

    The last 28 days of MovieLens-100k, rolled daily, against simple baselines; then, of it, of
    MovieLens-1M and of the generated shop, policies of daily training. ``only`` some of these data
    sets: less.
    """
    figures = {MOVIELENS: _rolled()} if MOVIELENS in only or not only else {}
    for dataset, (last, sizes) in _QUALITY.items():
        if dataset in only or not only:
            lake = prepare_examples(dataset, VAR / "quality", last=last, sizes=sizes)
            figures[dataset] = {"daily": _daily(dataset, lake, last)}
    return figures


def _rolled() -> Figures:
    last, _ = LOGS[MOVIELENS]
    lake = prepare_examples(MOVIELENS, VAR / "quality", last=last)
    named = (f"--dataset={MOVIELENS}", f"--lake={lake}", f"--date={last}")
    found = run_job("training", "backtest", *named, "--days=28")
    names = ("log_loss", "ne", "auc", "gauc", "calibration")
    metrics = found["metrics"].items()
    rows = [(model, *(f"{values[name]:.4f}" for name in names)) for model, values in metrics]
    show("", ("model", *names), rows)
    changes = found["log_loss_change"].items()
    rows = [
        (one, f"{c['change']:+.2%}", f"{c['low']:+.2%} to {c['high']:+.2%}") for one, c in changes
    ]
    show("Log loss against baselines, users resampled", ("baseline", "change", "interval"), rows)
    return {**found, "daily": _daily(MOVIELENS, lake, last)}


_DAILY = {MOVIELENS: (28, 3), "movielens-1m": (28, 1), "synthetic-shop": (14, 1)}
"""Days that policies of daily training predict, and runs of each."""


def _daily(dataset: str, lake: Path, last: str) -> Figures:
    """What a daily run may do, the best first, and what age costs."""
    days, seeds = _DAILY[dataset]
    named = (f"--dataset={dataset}", f"--lake={lake}", f"--date={last}")
    folder = f"--reports={VAR / 'quality' / 'reports'}"
    # From scratch each day takes hours of the larger data sets.
    asked = [name for name, one in POLICIES.items() if dataset == MOVIELENS or one.cold_every != 1]
    flags = (f"--days={days}", f"--seeds={seeds}", f"--policies={','.join(asked)}", folder)
    found = run_job("training", "daily", *named, *flags)
    names = ("log_loss", "ne", "auc", "calibration")
    ordered = sorted(found["policies"].items(), key=lambda item: item[1]["log_loss"])
    rows = [
        (
            *(policy, *(f"{one[name]:.4f}" for name in names)),
            f"{(c := one['log_loss_change'])['change']:+.2%} ({c['low']:+.2%} to {c['high']:+.2%})",
        )
        for policy, one in ordered
    ]
    show(f"{dataset}, rolled: policies, days resampled", ("policy", *names, "change"), rows)
    ages = [
        (one["age"], one["days"], f"{one['change']:+.2%} ({one['low']:+.2%} to {one['high']:+.2%})")
        for one in found["by_age"]
    ]
    show("NE against the age of the model", ("age, days", "on days", "change"), ages)
    return found


_QUALITY: dict[str, tuple[str, tuple[str, ...]]] = {
    "movielens-1m": ("2003-02-28", ()),
    "synthetic-shop": (
        "2025-01-30",
        ("--rows=1000000", "--users=10000", "--items=3000", "--days=30"),
    ),
}
"""Of the larger data sets their last day, and how much of them is generated."""


def export() -> Figures:
    """``make bench-export``: what a request's scores cost, and what quantised tables cost in NE."""
    folder = LAWS / "export"
    named = (
        f"--dataset={MOVIELENS}",
        f"--lake={lake_of(MOVIELENS)}",
        f"--date={LOGS[MOVIELENS][0]}",
    )
    folders = [f"--{name}={folder / name}" for name in ("checkpoints", "tracking")]
    compiled = f"--compiled={folder / 'compiled'}"
    reports = f"--reports={folder / 'reports'}"
    run_job("training", "train", *named, *folders, reports, "--recipe=wukong-small")
    artifacts = f"--artifacts={folder / 'artifacts'}"
    exported = run_job("training", "export", *named, *folders, artifacts, compiled)
    found = run_job("training", "export-bench", f"--dataset={MOVIELENS}", compiled)
    measured = [
        (recipe, size.replace("_", " "), values)
        for recipe, figures in found.items()
        if recipe.startswith("wukong")
        for size, values in figures.items()
        if size.startswith("threads")
    ]
    names = list(measured[0][2])
    rows = [(*key, *(f"{values[name]:.2f}" for name in names)) for *key, values in measured]
    show("Milliseconds", ("ranker", "measured", *names), rows)
    found["table_costs"] = exported["table_costs"]
    costs = [(name, exported["table_costs"][name]) for name in ("fp32", "int8", "int4")]
    rows = [(p, f"{c['bytes']:,}", f"{c['ne']:.6f}", f"{c['ne_change']:+.2e}") for p, c in costs]
    show("Tables", ("precision", "bytes", "NE", "change"), rows)
    return found


def _names(text: str) -> tuple[str, ...]:
    return tuple(known(name) for name in text.split(","))


@from_flags
class SuiteRequest:
    """Run one bench of training."""

    suite: Literal["speed", "quality", "export"] = option("which")
    datasets: tuple[str, ...] = option(
        "of quality: only these, separated by commas", metavar="NAMES", parse=_names, default=()
    )


def run(request: SuiteRequest) -> Figures:
    """The figures of the suite that was asked for."""
    if request.suite == "quality":
        return quality(request.datasets)
    suites: dict[str, Callable[[], Figures]] = {one.__name__: one for one in (speed, export)}
    return suites[request.suite]()


if __name__ == "__main__":
    asked = parse(SuiteRequest, prog="python -m infra.bench.training.suites")
    sys.stdout.write(json.dumps(run(asked)) + "\n")
