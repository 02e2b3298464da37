"""An erasure in words."""

from collections.abc import Mapping, Sequence

from features.erasure.lake_tables import Plan
from features.erasure.proof import LogProof, Proof
from features.places import Place


def dry_run_in_words(
    plan: Plan, store: Mapping[str, int], log: LogProof | None, landed: Mapping[str, int]
) -> tuple[dict[str, object], str]:
    """What would go, as numbers and as text."""
    days = {
        name: {str(day): one.rows + one.named_in for day, one in of_table.items()}
        for name, of_table in plan.days.items()
    }
    old = {name: len(files) for name, files in plan.old.items()}
    found: dict[str, object] = {
        "tables": days,
        "old_files": old,
        "online_store": dict(store),
        "prediction_log": log["days"] if log else {},
        "landed": dict(landed),
    }
    lines = _table(("table", "day", "rows"), _day_rows(days))
    lines += [f"old files of {name}: {number}" for name, number in old.items()]
    lines += [f"online store, {name}: {number} entities" for name, number in store.items()]
    lines += [f"prediction log, {day}: {n} rows" for day, n in (log["days"] if log else {}).items()]
    lines += [f"landed, stays: {name}: {number} rows" for name, number in landed.items()]
    nothing = not (days or old or store or (log and log["rows"]))
    return found, "\n".join(["Nothing of this user is here."] * nothing + lines)


def in_words(proof: Proof, file: Place, command: str) -> str:
    """What was done, and what is left; a command line that remains to be called, or empty."""
    days = {
        name: {day: one["rows"] + one["rows_naming"] for day, one in table["days"].items()}
        for name, table in proof["tables"].items()
    }
    log = proof["prediction_log"]
    is_nothing = not (any(days.values()) or proof["online_store"] or (log and log["rows"]))
    lines = ["Nothing of this user was found."] if is_nothing else []
    lines += _table(("table", "day", "rows removed"), _day_rows(days))
    lines += [f"online store, {one}: {n} entities" for one, n in proof["online_store"].items()]
    lines += [f"prediction log: {log['rows']} rows"] if log else []
    changed = {
        name: table["replaced_by_others"]
        for name, table in proof["tables"].items()
        if table["replaced_by_others"]
    }
    lines.append(
        f"Other days that have other content, by others: {changed}"
        if changed
        else "The content hashes of all other days are what they were."
    )
    lines += ["", "Left:"]
    lines += [f"- {one['what']}: {one['why']}; until {one['until']}" for one in proof["left"]]
    lines += ["", f"Proof: {file}"]
    if command:
        lines += ["", "The models are not done yet, where they are:", f"    {command}"]
    return "\n".join(lines)


def _day_rows(days: Mapping[str, Mapping[str, int]]) -> list[tuple[str, str, str]]:
    return [(name, day, str(n)) for name, of_table in days.items() for day, n in of_table.items()]


def _table(head: tuple[str, str, str], lines: Sequence[tuple[str, str, str]]) -> list[str]:
    if not lines:
        return []
    every = [head, *lines]
    widths = [max(len(line[n]) for line in every) for n in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in every
    ]
