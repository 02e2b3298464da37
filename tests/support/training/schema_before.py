"""The generated data set's schema as it may have been once: smaller tables, fewer inputs."""

import dataclasses
import datetime

from features.datasets.catalog import schema_of
from features.schema import Kind, Schema
from features.schema.fingerprints import rows_fingerprint
from training.data.dataset import ExampleTable


def schema_before() -> Schema:
    """Without a day of the week and two numbers; fewer devices and categories; other user rows."""
    today = schema_of("synthetic")
    device = dataclasses.replace(today.context[0], vocabulary=today.context[0].vocabulary[:2])
    state, daily, users, items = today.tables
    numbers = [c.name for c in daily.columns if c.kind in {Kind.COUNT, Kind.RATE}]
    kept = tuple(column for column in daily.columns if column.name not in numbers[:2])
    category = items.columns[0]
    fewer = dataclasses.replace(category, vocabulary=category.vocabulary[:6])
    return dataclasses.replace(
        today,
        user=dataclasses.replace(today.user, hash_size=50_000),
        context=(device,),
        time_context=("hour_of_day",),
        tables=(
            state,
            dataclasses.replace(daily, columns=kept),
            users,
            dataclasses.replace(items, columns=(fewer, *items.columns[1:])),
        ),
    )


class AnyExamples(ExampleTable):
    """Examples that stand for those of another day's schema too: all its columns are in them."""

    def _fingerprint(self, day: datetime.date) -> str:
        return rows_fingerprint(self.schema)
