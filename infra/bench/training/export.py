"""``make bench-export``: what a request's scores cost, and what quantised tables cost in NE."""

import json
import sys

from infra.bench.jobs import LAWS, LOGS, lake_of, run_job
from infra.local.network import JsonObject

DATASET = "movielens-100k"
RECIPE = "wukong-small"
"""What is trained for the NE."""


def main() -> None:
    """Train and export a ranker, measure both recipes, print a table and one JSON object."""
    named = f"--dataset={DATASET}"
    lake, day = f"--lake={lake_of(DATASET)}", f"--date={LOGS[DATASET][0]}"
    folders = [f"--{name}={LAWS / 'export' / name}" for name in ("checkpoints", "tracking")]
    compiled = f"--compiled={LAWS / 'export' / 'compiled'}"
    reports = f"--reports={LAWS / 'export' / 'reports'}"
    run_job("training", "train", named, lake, day, *folders, reports, f"--recipe={RECIPE}")
    artifacts = f"--artifacts={LAWS / 'export' / 'artifacts'}"
    exported = run_job("training", "export", named, lake, day, *folders, artifacts, compiled)
    found = run_job("training", "export-bench", named, compiled)
    found["table_costs"] = exported["table_costs"]
    sys.stderr.write(table(found) + "\n")
    sys.stdout.write(json.dumps(found) + "\n")


def table(found: JsonObject) -> str:
    """Milliseconds by recipe, threads and candidates; then the tables' costs."""
    rows = [
        (recipe, size, values)
        for recipe, figures in found.items()
        if recipe.startswith("wukong")
        for size, values in figures.items()
        if size.startswith("threads")
    ]
    names = list(rows[0][2])
    lines = [f"| ranker | {' | '.join(['measured', *names])} |", "|---" * (len(names) + 2) + "|"]
    for recipe, size, values in rows:
        cells = " | ".join(f"{values[name]:.2f}" for name in names)
        lines.append(f"| {recipe} | {size.replace('_', ' ')} | {cells} |")
    lines.append("")
    for precision in ("fp32", "int8", "int4"):
        cost = found["table_costs"][precision]
        lines.append(
            f"{precision}: {cost['bytes']:,} bytes, NE {cost['ne']:.6f} ({cost['ne_change']:+.2e})"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
