"""The tables of the lake: what of them is a user's, removed table by table, noted in the proof."""

import datetime
import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

from pyspark.sql import SparkSession

from features.erasure import old_files, rows
from features.erasure.marks import TableMarks
from features.erasure.person import Person
from features.erasure.proof import DayProof, Proof, TableProof
from features.lake.commit import ConflictError
from features.lake.lake import IMPRESSIONS, IMPRESSIONS_RAW, QUARANTINE, RUN
from features.lake.snapshot import Snapshot, snapshot, tables
from features.places import Place

LAST = (f"{QUARANTINE}_{IMPRESSIONS}", IMPRESSIONS_RAW, IMPRESSIONS)
"""Tables that are done last: they have the ids by which rows of other tables are known."""
JOB = "forget"
_TRIES = 5


class Plan(NamedTuple):
    """What of the lake is a user's."""

    days: dict[str, dict[datetime.date, rows.Found]]
    """By table."""
    old: dict[str, list[old_files.OldFile]]
    """Files with the user's rows that the newest version does not name, by table."""


def in_order(lake: Place) -> list[str]:
    """The tables of a data set in the order in which they are done."""
    return sorted(tables(lake), key=lambda name: LAST.index(name) if name in LAST else -1)


def plan(lake: Place, person: Person) -> Plan:
    """What of the lake is the user's now."""
    days, old = {}, {}
    for name in in_order(lake):
        marks = TableMarks(person, name)
        if of_table := rows.found_by_day(snapshot(lake / name), marks):
            days[name] = of_table
        if files := old_files.old_files(lake / name, marks):
            old[name] = files
    return Plan(days, old)


def add_plan(proof: Proof, found: Snapshot, days: Mapping[datetime.date, rows.Found]) -> None:
    """Note in a proof what is to be removed of a table, and the content hash of every day.

    What a killed run has planned, and maybe done, stays as it planned it.
    """
    hashes = {str(day): part.content_hash for day, part in found.partitions(found.days).items()}
    planned = {
        str(day): DayProof(
            rows=of_day.rows,
            rows_naming=of_day.named_in,
            hash_before=hashes[str(day)],
            hash_after="",
        )
        for day, of_day in days.items()
    }
    name = found.root.name
    table = proof["tables"].setdefault(name, _empty_table(found.version, hashes))
    table["days"] = {**planned, **table["days"]}
    untouched = table["untouched"].items()
    table["untouched"] = {day: one for day, one in untouched if day not in table["days"]}


def erase_table(
    lake: Place,
    name: str,
    person: Person,
    proof: Proof,
    *,
    grace: datetime.timedelta,
    session: Callable[[], SparkSession],
) -> None:
    """Commit a version of a table without the user, and remove the files that had their rows.

    Raises:
        ConflictError: Others replace the days all the time.
    """
    marks = TableMarks(person, name)
    for attempt in range(1, _TRIES + 1):
        found = snapshot(lake / name)
        days = rows.found_by_day(found, marks)
        if not days:
            break
        add_plan(proof, found, days)
        try:
            _write_without(found, list(days), marks, session)
        except ConflictError:
            if attempt == _TRIES:
                raise
    cleared = old_files.clear(lake, name, marks, grace=grace)
    if not (cleared.files or cleared.pins or name in proof["tables"]):
        return
    add_plan(proof, snapshot(lake / name), {})
    table = proof["tables"][name]
    table["old_files_removed"] += cleared.files
    table["candidates_removed"] += cleared.candidates
    table["pins_removed"] += cleared.pins


def close_table(found: Snapshot, table: TableProof) -> None:
    """Note the content hashes as they are now; other jobs may have replaced days meanwhile."""
    now = {str(day): part.content_hash for day, part in found.partitions(found.days).items()}
    for day, of_day in table["days"].items():
        of_day["hash_after"] = now.get(day, "")
    changed = [day for day, one in table["untouched"].items() if now.get(day) != one]
    for day in changed:
        last = found.newest_commit([datetime.date.fromisoformat(day)])
        table["replaced_by_others"][day] = f"{last.get('job')} of run {last.get('run')}"
    table["untouched_unchanged"] = not changed
    table["version_after"] = found.version


def _write_without(
    found: Snapshot,
    days: list[datetime.date],
    marks: TableMarks,
    session: Callable[[], SparkSession],
) -> None:
    run, dataset = os.environ.get(RUN) or "by hand", found.root.parent.name
    rows.without_rows(
        found,
        days,
        marks,
        hash_sums_of=rows.spark_hash_sums(session, found.schema_json),
        metadata={"dataset": dataset, "job": JOB, "run": run},
    )


def _empty_table(version: int, hashes: dict[str, str]) -> TableProof:
    return TableProof(
        days={},
        untouched=hashes,
        untouched_unchanged=None,
        replaced_by_others={},
        version_before=version,
        version_after=version,
        old_files_removed=0,
        candidates_removed=[],
        pins_removed=[],
    )
