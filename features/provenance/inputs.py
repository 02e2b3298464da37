"""What a day of a table is made of: which days of which tables, by which code and which rules.

One function says it for all tables, ``inputs_of``. What it finds when a day is made is written into
the log with the day; what it finds later is compared with that. So an input that is missing here is
one whose change nobody notices.
"""

import datetime
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence

from features.labels.events import events_table, last_event_day, raw_events_table
from features.lake.day_rows import Inputs, Partition
from features.lake.lake import (
    EXAMPLES,
    IMPRESSIONS,
    IMPRESSIONS_RAW,
    ONE_DAY,
    QUARANTINE,
    READMITTED,
)
from features.provenance.known import Known, KnownDays, Made, made_of_partition
from features.schema import Column, FeatureTable, Label, Schema, TableKind
from features.schema.fingerprints import (
    digest,
    events_fingerprint,
    impressions_fingerprint,
    rows_fingerprint,
)
from features.schema.keys import attributes_read

CODE_VERSIONS = {"ingest": 1, "checks": 1, "features": 1, "examples": 1}
"""Of the code that makes a table's rows. Who changes which rows it makes of the same inputs raises
its number: then every day that it made is stale."""
CODE, RULES = "code", "rules"
_FROM_THE_LOG = (IMPRESSIONS_RAW, IMPRESSIONS, f"{QUARANTINE}_{IMPRESSIONS}")
_RULED = (
    *("name", "dtype", "is_nullable", "minimum", "maximum", "vocabulary", "num_ids"),
    *("max_length", "severity"),
)
"""Of a column what decides which rows go to quarantine; how it is encoded makes no row stale."""


def fingerprint_of(schema: Schema, table: str) -> str:
    """What the files of a table carry under this schema."""
    if label := label_of(schema, table):
        return events_fingerprint(schema, label)
    is_log = table in _FROM_THE_LOG
    return impressions_fingerprint(schema) if is_log else rows_fingerprint(schema)


def label_of(schema: Schema, table: str) -> Label | None:
    """The label of whose events a table is."""
    for label in schema.later_labels:
        published = events_table(label)
        if table in (raw_events_table(label), published, f"{QUARANTINE}_{published}"):
            return label
    return None


def is_from_the_log(schema: Schema, table: str) -> bool:
    """Whether a table has what landed, and nothing that was computed."""
    return table in _FROM_THE_LOG or label_of(schema, table) is not None


def raw_tables(schema: Schema) -> list[str]:
    """What has landed."""
    return [IMPRESSIONS_RAW, *map(raw_events_table, schema.later_labels)]


def checked_tables(schema: Schema) -> list[str]:
    """What the checks of the log let through."""
    return [IMPRESSIONS, *map(events_table, schema.later_labels)]


def computed_tables(schema: Schema) -> list[str]:
    """The feature tables of which each day goes on from the days before."""
    return [table.name for table in schema.tables if table.kind is not TableKind.ATTRIBUTES]


def tables_in_order(schema: Schema) -> list[str]:
    """All tables of which a day says what it was made of, each after those that it reads."""
    return [*raw_tables(schema), *checked_tables(schema), *computed_tables(schema), EXAMPLES]


def inputs_of(
    schema: Schema, known: Known, table: str, day: datetime.date, *, recorded: Inputs | None = None
) -> Inputs | None:
    """What a day would be made of now: names of inputs, and a hash or version of each.

    Args:
        schema: The data set's schema.
        known: Its tables.
        table: One of them.
        day: The day, whether the table has it or not.
        recorded: What it was made of, where it is there: a day that went on from one that is kept
            no longer did not begin the table.

    Returns:
        None of a table that is no part of the way from the log to examples.
    """
    if table in raw_tables(schema):
        return {CODE: _version("ingest")}
    if table in checked_tables(schema):
        return _checked(schema, known, table, day)
    if table in computed_tables(schema):
        before = [one for one in known.days(table) if one < day]
        began = not any(one.startswith(f"{table} ") for one in recorded or ())
        return _computed(schema, known, schema.table(table), day, before, is_first=began)
    return _examples(schema, known, day) if table == EXAMPLES else None


def inputs_of_staged(
    schema: Schema, known: Known, table: str, parts: Sequence[Partition]
) -> dict[datetime.date, Inputs]:
    """The same of days that were made together, each from the one before."""
    made: dict[datetime.date, Made] = {}
    for part in parts:
        inputs = inputs_of(schema, KnownDays({table: made}, known), table, part.day)
        if inputs is None:
            return {}
        made[part.day] = made_of_partition(part, inputs)
    return {day: one.inputs for day, one in made.items() if one.inputs is not None}


def partition_of_input(name: str) -> tuple[str, datetime.date] | None:
    """The table and the day that an input is; None of a version, or of several days."""
    table, _, day = name.rpartition(" ")
    is_one = bool(table) and not table.endswith(_UNTIL)
    return (table, datetime.date.fromisoformat(day)) if is_one else None


_UNTIL = " until"


def _checked(schema: Schema, known: Known, table: str, day: datetime.date) -> Inputs:
    label = label_of(schema, table)
    columns = schema.event_columns(label) if label else schema.impression_columns()
    request = schema.request.name if schema.request else ""
    rules = _rules(columns, str(schema.limits.max_rows_of_user), request)
    found = {CODE: _version("checks"), RULES: rules}
    raw = raw_events_table(label) if label else IMPRESSIONS_RAW
    sources = [raw] if label else [raw, READMITTED]
    return found | dict(_present(schema, known, ((name, day) for name in sources)))


def _computed(
    schema: Schema,
    known: Known,
    table: FeatureTable,
    day: datetime.date,
    before: Sequence[datetime.date],
    *,
    is_first: bool,
) -> Inputs:
    """A day's own log, and the day before with all that it was made of.

    So a day depends on every impression before it, whether the row in which it was counted has
    changed or not: of a number of different values, it need not.
    """
    found = {CODE: _version("features"), RULES: _rules(table.columns)}
    log = checked_tables(schema)
    days = [(name, day) for name in log]
    if before:
        days.append((table.name, before[-1]))
    elif is_first:
        days += [(name, one) for name in log for one in known.days(name) if one < day]
    found |= _present(schema, known, days)
    return found | _attributes(known, attributes_read(schema, table), day)


def _examples(schema: Schema, known: Known, day: datetime.date) -> Inputs:
    days = [(name, day) for name in (IMPRESSIONS, *computed_tables(schema))]
    label = schema.label
    if label.comes_later:
        until = last_event_day(label, day)
        after = [day + n * ONE_DAY for n in range(1, (until - day).days + 1)]
        days += [(events_table(label), one) for one in (day, *after)]
        names_request = schema.request is not None and schema.request.name in label.join
        # Of those before an event the newest has it.
        days += [] if names_request else [(IMPRESSIONS, one) for one in after]
    found = {CODE: _version("examples"), **dict(_present(schema, known, days))}
    return found | _attributes(known, schema.tables_of(TableKind.ATTRIBUTES), day)


def _present(
    schema: Schema, known: Known, days: Iterable[tuple[str, datetime.date]]
) -> Iterator[tuple[str, str]]:
    carried = computed_tables(schema)
    for table, day in days:
        if day in known.days(table):
            goes_on = table in carried
            found = _chained(known.made(table, day)) if goes_on else known.content(table, day)
            yield f"{table} {day}", found


def _chained(made: Made) -> str:
    """A hash of a day and of all days before it, and of all that they were made of."""
    return digest((made.content, dict(made.inputs or {})))


def _attributes(known: Known, tables: Sequence[FeatureTable], day: datetime.date) -> dict[str, str]:
    found = {}
    for table in tables:
        days = [one for one in known.days(table.name) if one <= day]
        if days:
            contents = {str(one): known.content(table.name, one) for one in days}
            found[f"{table.name}{_UNTIL} {day}"] = digest(contents)
    return found


def _rules(columns: Sequence[Column], *limits: str) -> str:
    declared = [[str(getattr(column, name)) for name in _RULED] for column in columns]
    return hashlib.sha256(json.dumps([declared, limits]).encode()).hexdigest()[:16]


def _version(code: str) -> str:
    return str(CODE_VERSIONS[code])
