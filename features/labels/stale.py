"""Days that no longer follow from what the lake has, and corrections, from when they count."""

import datetime
from collections.abc import Sequence

from features.labels.events import events_table, last_event_day
from features.lake.candidate import Candidate
from features.lake.lake import EXAMPLES, IMPRESSIONS, ONE_DAY, Lake
from features.lake.snapshot import Snapshot
from features.schema import Schema, TableKind


def numbers_built_on(lake: Lake, staged: Candidate) -> dict[datetime.date, int]:
    """Of a candidate's days, how often the day before had been replaced when they were computed."""
    found = lake.snapshot(staged.table)
    numbers = found.numbers([day - ONE_DAY for day in staged.base if found.files(day - ONE_DAY)])
    numbers |= {day: number + 1 for day, number in staged.base.items()}
    return {day: numbers[day - ONE_DAY] for day in staged.base if day - ONE_DAY in numbers}


def stale_days(
    lake: Lake, schema: Schema, days: Sequence[datetime.date]
) -> dict[str, list[datetime.date]]:
    """Days that do not follow from the days before them, once a build of some days is published.

    They are those after the built ones, which were computed from what these days had; and those
    from the first day on whose day before has been replaced since.

    Returns:
        By computed table, where there are any; built again in their order, they follow.
    """
    stale = {}
    corrected = stale_by_events(lake, schema)
    for table in schema.tables:
        if table.kind is TableKind.ATTRIBUTES:
            continue
        found = lake.snapshot(table.name)
        first = next((day for day in found.days if is_outdated(found, day)), datetime.date.max)
        first = min([first, *corrected.get(table.name, ())])
        first = first if first < days[0] else days[-1] + ONE_DAY
        if after := [day for day in sorted({*found.days, *days}) if day >= first]:
            stale[table.name] = after
    if examples := corrected.get(EXAMPLES):
        stale[EXAMPLES] = examples
    return stale


def stale_by_events(lake: Lake, schema: Schema) -> dict[str, list[datetime.date]]:
    """Days that were computed before the events that they count were replaced.

    An event changes what is known of impressions up to a window before it, so examples from then
    on; and features from its own day on, for nobody knows of it earlier. Where events do not name
    their request, impressions change it too: of those before an event the newest has it.

    Returns:
        By table, where there are any: the first such day and all after it.
    """
    stale: dict[str, list[datetime.date]] = {}
    computed = [table.name for table in schema.tables if table.kind is not TableKind.ATTRIBUTES]
    for label in schema.later_labels:
        window = last_event_day(label, datetime.date.min) - datetime.date.min
        outdated = [(table, _outdated(lake, table, events_table(label))) for table in computed]
        if label is schema.label:  # examples have the target alone
            names_request = schema.request is not None and schema.request.name in label.join
            others = [] if names_request else [IMPRESSIONS]
            outdated += [
                (EXAMPLES, _outdated(lake, EXAMPLES, of_input, reach_days=window.days))
                for of_input in (events_table(label), *others)
            ]
        for table, days in outdated:
            if first := min(days, default=None):
                after = {day for day in lake.days(table) if day >= first}
                stale[table] = sorted(after | set(stale.get(table, ())))
    return stale


def _outdated(lake: Lake, table: str, of_input: str, *, reach_days: int = 0) -> list[datetime.date]:
    """Days of a table that were made before an input was replaced, on them or so long after."""
    replaced = versions_of_days(lake.snapshot(of_input))
    read = versions_of_days(lake.snapshot(table), of_input=of_input)
    return [
        day
        for day, version in read.items()
        if any(version < replaced.get(day + n * ONE_DAY, -1) for n in range(reach_days + 1))
    ]


def versions_of_days(found: Snapshot, *, of_input: str = "") -> dict[datetime.date, int]:
    """For each day the version that last replaced it; or that of an input which it was made from.

    A day whose files have only become one was not replaced.
    """
    versions: dict[datetime.date, int] = {}
    for one in found.history():
        inputs, days = one.get("inputs"), one.get("days")
        if not isinstance(inputs, dict) or not isinstance(days, list):
            continue
        version = inputs.get(of_input) if of_input else one.get("version")
        if isinstance(version, int):
            replaced = {day for day in found.days if str(day) in days}
            versions = dict.fromkeys(replaced, version) | versions
    return versions


def is_outdated(found: Snapshot, day: datetime.date) -> bool:
    """Whether the day before a day of a table was replaced since the day was computed from it."""
    before = day - ONE_DAY
    number = found.built_on(day) if found.files(before) else None
    return number is not None and number != found.numbers([before])[before]


def newest_correction(
    lake: Lake, schema: Schema, first: datetime.date, last: datetime.date
) -> datetime.datetime | None:
    """When the newest of the corrections among some days' impressions and events began to count."""
    tables = (IMPRESSIONS, *map(events_table, schema.later_labels))
    moments = (
        lake.manifest(table, day).corrected_at
        for table in tables
        for day in lake.days_between(table, first, last)
    )
    return max(filter(None, moments), default=None)
