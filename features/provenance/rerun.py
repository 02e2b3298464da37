"""What becomes of a day that lands again after it was taken: nothing, a rebuild, or a question."""

import dataclasses
import datetime
import enum
from collections.abc import Mapping, Sequence

from features.lake.candidate import Candidate
from features.lake.lake import EXAMPLES, ONE_DAY, Lake
from features.provenance.inputs import CODE, computed_tables
from features.provenance.known import KnownLake, Made, made_of_partition
from features.provenance.learnt import learnt_days
from features.provenance.staleness import following
from features.schema import Schema


class Rule(enum.StrEnum):
    """What a day that landed again leads to."""

    NO_OP = "no-op"
    """Its rows are what they were: nothing follows."""
    REBUILD = "rebuild"
    """Its rows are others, and nobody has learnt what follows from the old ones."""
    HOLD = "hold"
    """Its rows are others, and what was made of the old ones was learnt, or cannot be made again:
    somebody must decide."""


@dataclasses.dataclass(frozen=True)
class Rerun:
    """The rule for a day of a table, and why it holds."""

    table: str
    day: datetime.date
    rule: Rule
    reason: str

    def __str__(self) -> str:
        """In words."""
        return f"{self.table} of {self.day}: {self.rule}: {self.reason}"


def rerun_of(
    table: str,
    day: datetime.date,
    *,
    before: Made,
    after: Made,
    follows: Mapping[str, Sequence[datetime.date]],
    learnt: Mapping[datetime.date, str],
    built: Sequence[datetime.date],
) -> Rerun:
    """The rule for a day that was there before.

    Args:
        table: The raw table.
        day: Its day.
        before: The day as it is.
        after: The day as it has landed.
        follows: Days by table that are stale once the day is replaced.
        learnt: Days of examples that a kept ranker was trained or judged on, with its name.
        built: Days of which features are kept.
    """
    if before.content == after.content:
        return Rerun(table, day, Rule.NO_OP, f"the rows are what they were, {before.content}")
    changed = f"rows {before.content} -> {after.content}"
    if (files := _files(before)) and files == _files(after):
        reason = f"{changed}; the file is the same, the schema or the code is not"
        return Rerun(table, day, Rule.REBUILD, reason)
    known = [one for one in follows.get(EXAMPLES, ()) if one in learnt]
    if known:
        return Rerun(
            table,
            day,
            Rule.HOLD,
            f"{changed}; {learnt[known[-1]]} has learnt examples of {len(known)} days that follow, "
            f"from {known[0]} to {known[-1]}",
        )
    if built and day < built[0]:
        return Rerun(
            table,
            day,
            Rule.HOLD,
            f"{changed}; features are kept from {built[0]} on, and no day of them can be built "
            "without the day before",
        )
    num_days = len({one for days in follows.values() for one in days})
    return Rerun(table, day, Rule.REBUILD, f"{changed}; {num_days} days follow")


def _files(made: Made) -> dict[str, str]:
    """What a day of a raw table was read from; empty where that is not known."""
    return {name: seen for name, seen in (made.inputs or {}).items() if name != CODE}


def reruns(lake: Lake, schema: Schema, staged: Sequence[Candidate]) -> list[Rerun]:
    """The rule for each day of some candidates that the lake has already."""
    known = KnownLake(lake)
    pairs = [
        (part, one.made_of.get(part.day))
        for one in staged
        for part in one.partitions()
        if lake.has(part.table, part.day)
    ]
    before = {(part.table, part.day): known.made(part.table, part.day) for part, _ in pairs}
    after = {(part.table, part.day): made_of_partition(part, made_of) for part, made_of in pairs}
    changed = [key for key, made in before.items() if made.content != after[key].content]
    learnt = learnt_days(lake.root) if changed else {}
    kept = [days for table in computed_tables(schema) if (days := lake.days(table))]
    built = min(kept, default=[])
    return [
        rerun_of(
            *key,
            before=made,
            after=after[key],
            follows=_follows(schema, known, key) if key in changed else {},
            learnt=learnt,
            built=built,
        )
        for key, made in before.items()
    ]


def _follows(
    schema: Schema, known: KnownLake, key: tuple[str, datetime.date]
) -> dict[str, list[datetime.date]]:
    """Examples of impressions before may follow from an event."""
    since = key[1] - schema.maturity_days * ONE_DAY
    return following(schema, known, [key], since=since)
