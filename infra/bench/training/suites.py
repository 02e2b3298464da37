"""Benches that run commands of training and show what they found: ``--suite NAME``.

Tables go to stderr as soon as there is one; the last line of stdout is one JSON object.
"""

import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from features.datasets.catalog import known
from features.options import from_flags, option, parse
from features.places import place
from infra.bench.jobs import LAWS, LOGS, VAR, lake_of, prepare_examples, run_job, show
from training.experiments.journal import Journal, code_hash, hash_of

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
    """``make bench-quality``: the daily ranker against baselines, and Wukong against other rankers.

    The last 28 days of MovieLens-100k, rolled daily, against simple baselines; then eight rankers
    and LightGBM on MovieLens-1M and on the generated shop, 20 trials each. Of all three what a
    daily run may do, rolled. Hours on two cores; ``only`` some of these data sets: less. What is
    found of a ranker is kept in ``var/quality``, so that a run which was ended goes on there; it
    goes with the end of a run.
    """
    figures = {MOVIELENS: _rolled()} if MOVIELENS in only or not only else {}
    found = Journal(place(VAR / "quality" / "found.jsonl"))
    for dataset, (last, sizes) in _QUALITY.items():
        if dataset in only or not only:
            lake = prepare_examples(dataset, VAR / "quality", last=last, sizes=sizes)
            figures[dataset] = _compared(dataset, lake, *_SEARCH, kept=found)
            figures[dataset]["daily"] = _daily(dataset, lake, last)
    # All were shown: the next run measures again.
    found.path.unlink(missing_ok=True)
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
    found = run_job("training", "daily", *named, f"--days={days}", f"--seeds={seeds}", folder)
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


_RANKERS = ("wukong", "dlrm", "dcnv2", "autoint", "finalmlp", "masknet", "xdeepfm", "afn")
_TREES = "lightgbm"
_DATASETS: dict[str, tuple[str, tuple[str, ...]]] = {
    MOVIELENS: LOGS[MOVIELENS],
    "open-bandit": ("2019-11-30", ()),
    "synthetic": ("2025-01-30", ("--rows=100000", "--users=2000", "--items=1000", "--days=30")),
}
"""Of each data set its last day, and how much of it is generated."""
_QUALITY: dict[str, tuple[str, tuple[str, ...]]] = {
    "movielens-1m": ("2003-02-28", ()),
    "synthetic-shop": (
        "2025-01-30",
        ("--rows=1000000", "--users=10000", "--items=3000", "--days=30"),
    ),
}
"""The same, of the data sets of ``make bench-quality``."""
_SEARCH = ("--search=20", "--search-rows=200000", "--batch-size=2048")
"""On these logs: a setting sees the newest days alone, and no ranker has another batch."""
_T_OF_THREE = 4.303
"""Student's t, 95 % on both sides, for the two degrees of freedom that three seeds leave."""


def models() -> Figures:
    """``make bench-models``: eight rankers and LightGBM on three data sets, equal search."""
    figures: dict[str, Figures] = {}
    for dataset, (last, sizes) in _DATASETS.items():
        lake = prepare_examples(dataset, VAR / "models", last=last, sizes=sizes)
        figures[dataset] = _compared(dataset, lake, "--search=2")
    return figures


def _compared(dataset: str, lake: Path, *flags: str, kept: Journal | None = None) -> Figures:
    """All rankers on one data set: means of three seeds with their 95 % intervals, best first.

    Args:
        dataset: Its name.
        lake: Where its examples are.
        flags: What each ranker may try on the validation days, and its batch.
        kept: What was found before by the same code and flags; None: all are trained.
    """
    named = (f"--dataset={dataset}", f"--data={lake}", "--seeds=3", *flags)
    found = {}
    for model in (*_RANKERS, _TREES):
        # Trees have no batches.
        own = [one for one in named if model in _RANKERS or "--batch-size" not in one]
        own.append(f"--model={model}")
        key = hash_of({"flags": own, "code": code_hash("training.experiments.public_data.run")})
        if kept and key in kept.runs:
            sys.stderr.write(f"{model}: as {kept.path} has it; delete it for a new run\n")
            found[model] = kept.runs[key]
            continue
        found[model] = run_job("training", "benchmark", *own)
        if kept:
            kept.add(key, found[model])
    _show_comparison(dataset, found)
    return found


def _show_comparison(dataset: str, found: Figures) -> None:
    first = next(iter(found.values()))
    best, num = first.get("best_log_loss"), first["rows"]
    title = f"{dataset}: {num['train']:,} rows to train, {num['test']:,} to test"
    show(
        title + (f"; the true probabilities have log loss {best:.4f}" if best else ""),
        (
            *("model", "log loss", "NE", "AUC", "GAUC"),
            *("parameters or leaves", "MFLOP/example"),
        ),
        [
            (
                *(model, *(_mean(one, name) for name in ("log_loss", "ne", "auc", "gauc"))),
                f"{one['params']:,}",
                "none" if (flops := one["mflop_per_example"]) is None else f"{flops:.2f}",
            )
            for model, one in sorted(found.items(), key=lambda item: item[1]["log_loss"])
        ],
    )


def _mean(found: Figures, name: str) -> str:
    """A mean and half the width of its interval."""
    if found[name] is None:
        return "not defined"
    return f"{found[name]:.4f} ± {_T_OF_THREE * found['spreads'][name] / math.sqrt(3):.4f}"


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

    suite: Literal["speed", "quality", "models", "export"] = option("which")
    datasets: tuple[str, ...] = option(
        "of quality: only these, separated by commas", metavar="NAMES", parse=_names, default=()
    )


def run(request: SuiteRequest) -> Figures:
    """The figures of the suite that was asked for."""
    if request.suite == "quality":
        return quality(request.datasets)
    suites: dict[str, Callable[[], Figures]] = {
        one.__name__: one for one in (speed, models, export)
    }
    return suites[request.suite]()


if __name__ == "__main__":
    asked = parse(SuiteRequest, prog="python -m infra.bench.training.suites")
    sys.stdout.write(json.dumps(run(asked)) + "\n")
