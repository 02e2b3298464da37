"""What must be made again because rows were re-admitted, and the commands that do it."""

import datetime
import json
from collections.abc import Mapping, Sequence

from features.labels.stale import is_outdated, stale_by_events, stale_days
from features.lake.lake import EXAMPLES, IMPRESSIONS, ONE_DAY, Lake
from features.pipeline.workspace import TO_EXAMPLES, command_lines
from features.schema import Schema, TableKind
from features.validation.due_steps import due, is_current

Days = list[datetime.date]


def due_because_of(lake: Lake, schema: Schema, days: Sequence[datetime.date]) -> dict[str, Days]:
    """Days of tables that no longer follow from the impressions of some days.

    They are those of these days that were not built since, the days after them, which go on from
    them, and all examples that are older than what they are joined from. Whatever has made a day
    stale, it is named until it is made again.

    Args:
        lake: The tables of the data set.
        schema: Its schema.
        days: Days to which rows were re-admitted, in order.

    Returns:
        By table, where there are any.
    """
    if not days:
        return {}
    computed = [table.name for table in schema.tables if table.kind is not TableKind.ATTRIBUTES]
    found: dict[str, Days] = {}
    since = _first_to_build(lake, schema, computed, days)
    if since is not None:
        built = [day for day in days if day >= since and "features" in due(lake, schema, [day])]
        later = stale_days(lake, schema, [since])
        for name in computed:
            follow = {day for day in later.get(name, ()) if day > since}
            found[name] = sorted({since, *built, *follow} & {*lake.days(name)})
    found[EXAMPLES] = _examples_to_join(lake, schema, computed, days, since)
    return {table: of_table for table, of_table in found.items() if of_table}


def _first_to_build(
    lake: Lake, schema: Schema, computed: Sequence[str], days: Sequence[datetime.date]
) -> datetime.date | None:
    """The first day from the re-admitted ones on whose features do not follow."""
    behind = {day for day in days if "features" in due(lake, schema, [day])}
    for name in computed:
        found = lake.snapshot(name)
        behind |= {day for day in found.days if day >= days[0] and is_outdated(found, day)}
    return min(behind, default=None)


def _examples_to_join(
    lake: Lake,
    schema: Schema,
    computed: Sequence[str],
    days: Sequence[datetime.date],
    since: datetime.date | None,
) -> Days:
    """Those from the first day to build on, and others that are older than what they are of."""
    stale = {*stale_by_events(lake, schema).get(EXAMPLES, ())}
    made_from = [IMPRESSIONS, *computed]
    for day in lake.days_between(EXAMPLES, days[0], datetime.date.max):
        follows = since is not None and day >= since
        if follows or not is_current(lake, schema, EXAMPLES, made_from, [day]):
            stale.add(day)
    return sorted(stale)


def rebuild_lines(
    lake: Lake, schema: Schema, partitions: Mapping[str, Days], moment: datetime.datetime
) -> list[str]:
    """The command lines that make some days of tables again, in their order.

    Args:
        lake: The tables of the data set.
        schema: Its schema.
        partitions: What is due.
        moment: From when the correction counts.
    """
    features = _of_features(partitions)
    examples = partitions.get(EXAMPLES, [])
    at = moment.isoformat()
    lines = []
    if features:
        begins = not any(lake.has(name, features[0] - ONE_DAY) for name in partitions)
        build = f"build{' --first-day' if begins else ''} --available-at {at}"
        commands = (build, "validate --table features")
        lines.append(command_lines(schema, commands, features[0], features[-1]))
    if examples:
        lines.append(command_lines(schema, TO_EXAMPLES, examples[0], examples[-1]))
    if features:
        lines.append(command_lines(schema, ("materialize",), features[0], features[-1]))
    return lines


def dag_runs(
    schema: Schema, partitions: Mapping[str, Days], moment: datetime.datetime
) -> list[str]:
    """The same by Airflow: what is to be done in this order.

    A run of the daily DAG for each day of a feature table. Such a run checks the impressions anew,
    so where only examples are due there is a command.
    """
    dag = f"daily_ranking_{schema.name.replace('-', '_')}"
    days = _of_features(partitions)
    params = [json.dumps({"day": str(day), "available_at": moment.isoformat()}) for day in days]
    runs = [f"airflow dags trigger {dag} --conf '{one}'" for one in params]
    examples = [day for day in partitions.get(EXAMPLES, ()) if day not in days]
    return runs + [command_lines(schema, TO_EXAMPLES, day, day) for day in examples]


def _of_features(partitions: Mapping[str, Days]) -> Days:
    return sorted({day for name, days in partitions.items() if name != EXAMPLES for day in days})
