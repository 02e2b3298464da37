"""What every job works with, and what it must find in the lake: whole days, of its schema.

The error names what is missing or stale, and the command that repairs it.
"""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence

from pyspark.sql import DataFrame, SparkSession

from features.labels.events import events_table, last_event_day, with_later_labels
from features.lake.candidate import Candidate
from features.lake.day_rows import Partition
from features.lake.lake import (
    EXAMPLES,
    IMPRESSIONS,
    IMPRESSIONS_RAW,
    ONE_DAY,
    Lake,
)
from features.provenance.inputs import fingerprint_of, inputs_of_staged, is_from_the_log
from features.provenance.known import KnownLake
from features.runbooks import RunbookError
from features.schema import FeatureTable, Label, Schema, TableKind
from features.spark.session import feature_struct, impressions_struct, landed_struct

_NEVER = datetime.date.min
ROWS_OF_A_FILE = 250_000
TO_IMPRESSIONS = ("ingest", "validate --table impressions")
TO_FEATURES = ("build", "validate --table features")
TO_EXAMPLES = ("examples",)


@dataclasses.dataclass(frozen=True)
class Workspace:
    """What every job works with: the session, the schema and the lake."""

    spark: SparkSession
    schema: Schema
    lake: Lake

    def impressions(
        self, days: Sequence[datetime.date], table: str = IMPRESSIONS, *, delay_column: str = ""
    ) -> DataFrame:
        """Impressions of some days, with ``day``; the raw ones with where they have landed.

        The others have a column for each label that comes later; see ``with_later_labels``.

        ValueError where they are of another schema.
        """
        require_current(self.lake, self.schema, table, days)
        if table == IMPRESSIONS_RAW:
            return self.lake.read(self.spark, table, landed_struct(self.schema), days)
        for label in self.schema.later_labels:
            events, until = events_table(label), last_event_day(label, max(days, default=_NEVER))
            known = self.lake.days_between(events, min(days, default=_NEVER), until)
            require_current(self.lake, self.schema, events, known)
        rows = self.lake.read(self.spark, table, impressions_struct(self.schema), days)
        return with_later_labels(
            self.spark, self.lake, self.schema, rows, days, delay_column=delay_column
        )

    def features(self, table: FeatureTable, days: Sequence[datetime.date]) -> DataFrame:
        """Rows of a feature table of some days, with ``day``; as ``impressions``."""
        require_current(self.lake, self.schema, table.name, days)
        return self.lake.read(self.spark, table.name, feature_struct(self.schema, table), days)

    def stage(
        self,
        frame: DataFrame,
        table: str,
        days: Sequence[datetime.date],
        *,
        keys: Sequence[str],
        corrected_at: Mapping[datetime.date, datetime.datetime] | None = None,
    ) -> Candidate:
        """``Lake.stage``, stamped with this schema and with what each day was made of."""
        staged = self.lake.stage(
            frame,
            table,
            days,
            keys=keys,
            fingerprint=fingerprint_of(self.schema, table),
            corrected_at=corrected_at,
            files_per_day=self.files_per_day(days),
        )
        known, parts = KnownLake(self.lake), staged.partitions()
        made_of = inputs_of_staged(self.schema, known, table, parts)
        return dataclasses.replace(staged, made_of=made_of)

    def replace(
        self,
        frame: DataFrame,
        table: str,
        days: Sequence[datetime.date],
        *,
        keys: Sequence[str],
        corrected_at: Mapping[datetime.date, datetime.datetime] | None = None,
    ) -> list[Partition]:
        """Stage and publish rows that nobody has to judge."""
        return self.lake.publish(
            self.stage(frame, table, days, keys=keys, corrected_at=corrected_at)
        )

    def files_per_day(self, days: Sequence[datetime.date]) -> int:
        """So many that a file has ``ROWS_OF_A_FILE`` or fewer, where a row is an impression."""
        known = [
            self.lake.manifest(table, day).rows
            for table in (IMPRESSIONS, IMPRESSIONS_RAW)
            for day in days
            if self.lake.has(table, day)
        ]
        return max(1, -(-max(known, default=0) // ROWS_OF_A_FILE))


def visible_days(
    work: Workspace, table: FeatureTable, first: datetime.date, last: datetime.date
) -> list[datetime.date]:
    """Days whose partitions can hold a row that is usable between ``first`` and ``last``."""
    if table.ttl is None:
        return work.lake.days(table.name)
    # A daily row becomes true at the end of its day, so one more day can still matter.
    return work.lake.days_between(table.name, first - whole_days(table.ttl) - ONE_DAY, last)


def whole_days(span: datetime.timedelta) -> datetime.timedelta:
    """A span rounded up to days."""
    return datetime.timedelta(days=-(-span // ONE_DAY))


def require_day_before(
    lake: Lake, schema: Schema, days: Sequence[datetime.date], *, is_first: bool
) -> None:
    """Require the day before: what users did on a day left out would never be counted.

    Args:
        lake: The tables of the data set.
        schema: Its schema.
        days: Days to build, in order.
        is_first: The lake begins with them on purpose.

    Raises:
        RunbookError: A feature table has no partition of the day before; names the days missing.
    """
    before = days[0] - ONE_DAY
    if is_first or before < schema.first_day:
        return
    for table in schema.tables:
        if table.kind is TableKind.ATTRIBUTES or lake.has(table.name, before):
            continue
        earlier = [day for day in lake.days(table.name) if day < before]
        since = earlier[-1] + ONE_DAY if earlier else before
        commands = (*TO_IMPRESSIONS, *TO_FEATURES, *TO_EXAMPLES)
        raise RunbookError(
            f"table {table.name}: {_span(since, before)} missing, and {days[0]} builds on it; "
            f"first run {command_lines(schema, commands, since, before)}"
            + ("" if earlier else "; where the lake is to begin here, say --first-day"),
            runbook="day-missing",
        )


def require_examples_before(lake: Lake, schema: Schema, days: Sequence[datetime.date]) -> None:
    """Require the examples of the day before: a warm start never returns to a gap.

    Where there are none before these days, they are the first.

    Raises:
        RunbookError: There are earlier ones, and none of the day before; names the days missing.
    """
    earlier = lake.days_between(EXAMPLES, datetime.date.min, days[0] - ONE_DAY)
    if not earlier or earlier[-1] == days[0] - ONE_DAY:
        return
    since, before = earlier[-1] + ONE_DAY, days[0] - ONE_DAY
    raise RunbookError(
        f"table {EXAMPLES}: {_span(since, before)} missing, and a training would go on from "
        f"{days[0]} without them; first run {command_lines(schema, TO_EXAMPLES, since, before)}",
        runbook="day-missing",
    )


def require_events(
    lake: Lake, schema: Schema, labels: Sequence[Label], days: Sequence[datetime.date]
) -> None:
    """Require the events of labels that come later: without them all would be negative."""
    tables = [events_table(label) for label in labels]
    require_days(lake, schema, tables, days, TO_IMPRESSIONS)


def require_days(
    lake: Lake,
    schema: Schema,
    tables: Sequence[str],
    days: Sequence[datetime.date],
    commands: Sequence[str],
) -> None:
    """Require the partitions of some days; the error names the ``commands`` that make them."""
    for table in tables:
        missing = [day for day in days if not lake.has(table, day)]
        if missing:
            raise RunbookError(
                f"table {table}: {_span(missing[0], missing[-1])} missing ({len(missing)} of "
                f"{len(days)} days); first run "
                f"{command_lines(schema, commands, missing[0], missing[-1])}",
                runbook="day-missing",
            )


def require_current(lake: Lake, schema: Schema, table: str, days: Sequence[datetime.date]) -> None:
    """Require partitions of this schema: columns of another may differ in meaning or be missing."""
    expected = fingerprint_of(schema, table)
    stale = [day for day in days if lake.manifest(table, day).fingerprint != expected]
    if not stale:
        return
    all_days = lake.days(table)
    found = lake.manifest(table, stale[0]).fingerprint or "none"
    raise RunbookError(
        f"table {table}: {len(stale)} of {len(days)} days, from {stale[0]} on, were made by "
        f"another schema (fingerprint {found}; {schema.name} has {expected}); make them again: "
        f"{rebuild_commands(schema, table, all_days[0], all_days[-1])}",
        runbook="schema-changed",
    )


def rebuild_commands(schema: Schema, table: str, first: datetime.date, last: datetime.date) -> str:
    """What makes days of a table again after the schema changed, and all that follows from it."""
    commands: tuple[str, ...] = (*TO_FEATURES, *TO_EXAMPLES)
    if is_from_the_log(schema, table):
        commands = (*TO_IMPRESSIONS, *commands)
    if first > schema.first_day:
        commands = tuple(
            "build --first-day" if command == "build" else command for command in commands
        )
    return command_lines(schema, ("apply", *commands, "materialize"), first, last)


def command_lines(
    schema: Schema, commands: Sequence[str], first: datetime.date, last: datetime.date
) -> str:
    """Command lines for a range of days, to be typed as they are."""
    span = f"--date {first}" + (f" --to {last}" if last > first else "")
    return " && ".join(
        f"python -m features {command} --dataset {schema.name}"
        + ("" if command == "apply" else f" {span}")
        for command in commands
    )


def _span(first: datetime.date, last: datetime.date) -> str:
    return f"day {first} is" if first == last else f"days {first} to {last} are"
