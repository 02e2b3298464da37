"""What must be made again because rows were re-admitted, and the commands that do it."""

import datetime
import json
from collections.abc import Mapping, Sequence

from features.labels.stale import stale_by_events, stale_days
from features.lake.lake import EXAMPLES, ONE_DAY, Lake
from features.pipeline.workspace import TO_EXAMPLES, command_lines
from features.schema import Schema, TableKind
from features.validation.due_steps import due

Days = list[datetime.date]


def due_because_of(
    lake: Lake,
    schema: Schema,
    days: Sequence[datetime.date],
    *,
    stale_before: Mapping[str, Sequence[datetime.date]],
) -> dict[str, Days]:
    """Days of tables that no longer follow from the impressions of some days.

    They are those of these days that were not built since, the days after them, which go on from
    them, and examples of days before where a label that comes later is joined with impressions.

    Args:
        lake: The tables of the data set.
        schema: Its schema.
        days: Days to which rows were re-admitted, in order.
        stale_before: What ``stale_by_events`` found before that; its examples are not named.

    Returns:
        By table, where there are any.
    """
    touched = [day for day in days if "features" in due(lake, schema, [day])]
    if not touched:
        return {}
    later, found = stale_days(lake, schema, touched[:1]), {}
    for table in schema.tables:
        if table.kind is not TableKind.ATTRIBUTES:
            follow = {day for day in later.get(table.name, ()) if day > touched[0]}
            found[table.name] = sorted({*touched, *follow} & {*lake.days(table.name)})
    joined = {*stale_by_events(lake, schema).get(EXAMPLES, ())} - {*stale_before.get(EXAMPLES, ())}
    since = {day for day in lake.days(EXAMPLES) if day >= touched[0]}
    found[EXAMPLES] = sorted(since | joined)
    return {table: of_table for table, of_table in found.items() if of_table}


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
    features = sorted(
        {day for name, days in partitions.items() if name != EXAMPLES for day in days}
    )
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
    """The same by Airflow: a run of the daily DAG for each day, to be triggered in this order."""
    dag = f"daily_ranking_{schema.name.replace('-', '_')}"
    days = sorted({day for of_table in partitions.values() for day in of_table})
    params = [json.dumps({"day": str(day), "available_at": moment.isoformat()}) for day in days]
    return [f"airflow dags trigger {dag} --conf '{one}'" for one in params]
