"""What must be made again because rows were re-admitted, and the commands that do it."""

import datetime
import json
from collections.abc import Mapping, Sequence

from features.lake.lake import EXAMPLES, ONE_DAY, Lake
from features.pipeline.workspace import TO_EXAMPLES, command_lines
from features.provenance.inputs import computed_tables
from features.provenance.known import KnownLake
from features.provenance.staleness import stale_days
from features.schema import Schema

Days = list[datetime.date]


def due_because_of(lake: Lake, schema: Schema, days: Sequence[datetime.date]) -> dict[str, Days]:
    """Days of tables that no longer follow from the impressions of some days.

    Whatever has made a day stale, it is named until it is made again.

    Args:
        lake: The tables of the data set.
        schema: Its schema.
        days: Days to which rows were re-admitted, in order.

    Returns:
        By table, where there are any.
    """
    if not days:
        return {}
    first = days[0] - schema.maturity_days * ONE_DAY
    found: dict[str, Days] = {}
    for one in stale_days(schema, KnownLake(lake), since=first):
        if one.table in {*computed_tables(schema), EXAMPLES}:
            found.setdefault(one.table, []).append(one.day)
    return found


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
