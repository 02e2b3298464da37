"""``make bench-models``: eight rankers and LightGBM on logs, equal search, paired tests.

Every ranker may spend on a training what the reference recipe of the log does, in FLOP, and has as
many trials on the validation days. Three seeds; of the differences from Wukong an interval over
resampled users. What is found of a ranker is kept, so that a bench that was ended goes on; each
log's part of ``docs/benchmarks.md`` is written when all of its rankers are there.
"""

import json
import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from features.datasets.catalog import schema_of
from features.options import from_flags, option, parse
from features.places import place
from infra.bench.jobs import LOGS, VAR, prepare_examples, run_job
from infra.local.network import JsonObject
from infra.local.settings import REPOSITORY
from training.config.model import MODELS
from training.data.dataset import ExampleTable
from training.evaluation.comparison import relative_change
from training.experiments.journal import Journal, code_hash, hash_of
from training.experiments.one_pass import setting_of

MEASURED = "training.experiments.public_data.run"
OURS, TREES = "wukong", "lightgbm"
FOLDER = VAR / "quality"
"""As ``make bench-quality`` has it: most of the lakes are the same."""
PAGE = REPOSITORY / "docs" / "benchmarks.md"


class Log(NamedTuple):
    """A data set, and how rankers are compared on it."""

    last: str
    """Its last day; empty: it is generated, and has no lake."""
    sizes: tuple[str, ...] = ()
    """How much of it is generated."""
    flags: tuple[str, ...] = ("--search=20", "--compute-of=wukong-small")


_LARGE = ("--search=20", "--search-rows=200000", "--batch-size=2048", "--compute-of=wukong-small")
BENCHED: Mapping[str, Log] = {
    "movielens-100k": Log(LOGS["movielens-100k"][0]),
    "synthetic": Log("2025-01-30", ("--rows=100000", "--users=2000", "--items=1000", "--days=30")),
    "synthetic-fields": Log("2025-01-24", ("--rows=300000", "--days=24"), _LARGE),
    "movielens-1m": Log("2003-02-28", (), _LARGE),
    "synthetic-shop": Log(
        "2025-01-30", ("--rows=1000000", "--users=10000", "--items=3000", "--days=30"), _LARGE
    ),
    "frappe-stand-in": Log(
        "", (), ("--search=20", "--search-rows=50000", "--compute-of=wukong-frappe")
    ),
}
"""The shorter ones first."""


def _named(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in BENCHED]:
        raise ValueError(f"{', '.join(unknown)}; one of {', '.join(BENCHED)}")
    return names


@from_flags
class RankersRequest:
    """Compare eight rankers and LightGBM with equal search."""

    datasets: tuple[str, ...] = option(
        "only these, separated by commas", metavar="NAMES", parse=_named, default=tuple(BENCHED)
    )


def run(request: RankersRequest) -> JsonObject:
    """The figures of each ranker by log; their tables go to stderr and into the page."""
    figures: JsonObject = {}
    for dataset in request.datasets:
        found = compared(dataset, BENCHED[dataset])
        figures[dataset] = found
        section = section_of(dataset, found)
        sys.stderr.write(f"{section}\n")
        PAGE.write_text(with_section(PAGE.read_text(), dataset, section))
    return figures


def compared(dataset: str, log: Log) -> dict[str, JsonObject]:
    """Each ranker's figures, with its log loss against Wukong's under ``against``."""
    asked = [f"--dataset={dataset}", "--seeds=3", *log.flags]
    setting: object = code_hash(MEASURED)
    if log.last:
        lake = prepare_examples(dataset, FOLDER, last=log.last, sizes=log.sizes)
        table = ExampleTable(place(lake), schema_of(dataset))
        setting = setting_of(table, table.days(), MEASURED)
        asked.append(f"--data={lake}")
    journal = Journal(place(FOLDER / f"found-{dataset}.jsonl"))
    found, files = {}, {}
    for model in (*MODELS, TREES):
        own = [one for one in asked if model != TREES or not one.startswith(_OF_RANKERS)]
        key = hash_of({"model": model, "flags": own, "setting": setting})
        files[model] = FOLDER / "losses" / f"{key}.npz"
        if key not in journal.runs or not files[model].exists():
            flags = (*own, f"--model={model}", f"--losses={files[model]}")
            journal.add(key, run_job("training", "benchmark", *flags))
        found[model] = journal.runs[key]
    ours = files[OURS]
    return {model: {**one, "against": against(files[model], ours)} for model, one in found.items()}


_OF_RANKERS = ("--batch-size", "--compute-of")
"""Flags that trees do not have."""


def against(losses: Path, ours: Path) -> JsonObject:
    """The relative change of the log loss, mean over seeds, and its 95 % interval over users."""
    with np.load(losses) as theirs, np.load(ours) as mine:
        group = mine["group"]
        if not np.array_equal(group, theirs["group"]):
            raise ValueError(f"{losses}: rows of other users than {ours}; delete both")
        other, own = (one["losses"].mean(axis=0, dtype=np.float64) for one in (theirs, mine))
    found = relative_change(other, own, group)
    return {"change": found.change, "low": found.low, "high": found.high}


def section_of(dataset: str, found: Mapping[str, JsonObject]) -> str:
    """The part of the page that one log has: its size, the table, and who differs from Wukong."""
    first = next(iter(found.values()))
    rows, best = first["rows"], first.get("best_log_loss")
    floor = f"; the true probabilities have log loss {best:.4f}" if best else ""
    lines = [
        f"### {dataset}: {rows['train']:,} rows to train, {rows['test']:,} to test{floor}",
        "",
        "| model | log loss | against Wukong's, % | NE | AUC | GAUC | parameters or leaves "
        "| MFLOP/example |",
        "|---|---|---|---|---|---|---|---|",
    ]
    ordered = sorted(found.items(), key=lambda item: item[1]["log_loss"])
    lines += [_row(model, one) for model, one in ordered]
    better = [model for model, one in ordered if one["against"]["high"] < 0]
    worse = [model for model, one in ordered if one["against"]["low"] > 0]
    level = [model for model, _ in ordered if model not in {*better, *worse, OURS}]
    groups = {"better than Wukong": better, "level with it": level, "worse": worse}
    verdict = "; ".join(f"{what}: {', '.join(names) or 'none'}" for what, names in groups.items())
    return "\n".join([*lines, "", f"Over users, with these seeds, {verdict}."])


def _row(model: str, one: JsonObject) -> str:
    change, flops = one["against"], one["mflop_per_example"]
    compared_with = (
        ""
        if model == OURS
        else "{change:+.2f} ({low:+.2f} to {high:+.2f})".format(
            **{name: 100 * value for name, value in change.items()}
        )
    )
    cells = (
        *(model, _mean(one, "log_loss"), compared_with),
        *(_mean(one, name) for name in ("ne", "auc", "gauc")),
        *(f"{one['params']:,}", "none" if flops is None else f"{flops:.2f}"),
    )
    return f"| {' | '.join(cells)} |"


_T_OF_THREE = 4.303
"""Student's t, 95 % on both sides, for the two degrees of freedom that three seeds leave."""


def _mean(found: JsonObject, name: str) -> str:
    """A mean and half the width of its interval over the seeds."""
    if found[name] is None:
        return "not defined"
    return f"{found[name]:.4f} ± {_T_OF_THREE * found['spreads'][name] / math.sqrt(3):.4f}"


def with_section(page: str, dataset: str, section: str) -> str:
    """The page with a log's part in place of what stands between the comments of its name."""
    begin, end = f"<!-- {dataset}: by make bench-models -->", f"<!-- end of {dataset} -->"
    part = f"{begin}\n{section}\n{end}"
    pattern = re.escape(begin) + ".*?" + re.escape(end)
    changed, number = re.subn(pattern, lambda _: part, page, flags=re.DOTALL)
    if number != 1:
        raise ValueError(f"{PAGE}: {number} parts begin with {begin}; must be 1")
    return changed


if __name__ == "__main__":
    asked_for = parse(RankersRequest, prog="python -m infra.bench.training.rankers")
    sys.stdout.write(json.dumps(run(asked_for)) + "\n")
