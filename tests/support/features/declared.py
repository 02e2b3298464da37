"""The generated data set with declared aggregates, and a schema file of it."""

import dataclasses
import datetime

from features.datasets.catalog import schema_of
from features.schema import Aggregate, AggregateKind, FeatureTable, History, Schema, TableKind
from features.schema.aggregate_tables import Sources, aggregate_table
from features.schema.derived_tables import user_state
from features.schema.measures import labels_of

BASE = schema_of("synthetic")
DAY = datetime.timedelta(days=1)
HOUR = datetime.timedelta(hours=1)


def aggregate(name: str, of: str, kind: str, **options) -> Aggregate:
    return Aggregate(name=name, of=of, kind=AggregateKind(kind), **options)


def history(name: str, of: str, length: int, *columns: str) -> History:
    return History(name=name, of=of, length=length, columns=columns)


ALL_KINDS = (
    aggregate("shown", "impressions", "count"),
    aggregate("clicks", "click", "count"),
    aggregate("ctr", "click", "rate"),
    aggregate("odds", "true_probability", "mean", scale=0.001),
    aggregate("total", "true_probability", "sum", scale=0.001),
    aggregate("clicked", "click", "sum"),
    aggregate("last_shown", "impressions", "recency"),
    aggregate("last_click", "click", "recency"),
    aggregate("people", "impressions", "distinct", distinct_of="user_id"),
    aggregate("clickers", "click", "distinct", distinct_of="user_id"),
)


def declared(
    name: str, by: tuple[str, ...], aggregates=ALL_KINDS, *, schema: Schema = BASE, **options
) -> FeatureTable:
    """A table of the generated data set."""
    given = {"windows_days": (1, 3), "ttl": 7 * DAY, "delay": HOUR, **options}
    context = {column.name: column for column in schema.context}
    return aggregate_table(
        name=name,
        by=by,
        aggregates=aggregates,
        sources=Sources(
            labels=labels_of(schema),
            columns=context | {column.name: column for column in schema.stored},
            context=context,
            user=schema.user,
            item=schema.item,
            attributes={
                column.name: column
                for table in schema.tables_of(TableKind.ATTRIBUTES)
                for column in table.columns
            },
        ),
        **given,
    )


def named(prefix: str, aggregates) -> tuple[Aggregate, ...]:
    """Aggregates whose columns begin with a table's prefix, so that two tables can have them."""
    return tuple(dataclasses.replace(one, name=f"{prefix}_{one.name}") for one in aggregates)


def with_tables(*tables: FeatureTable, schema: Schema = BASE) -> Schema:
    """The schema with these tables before its attributes."""
    return dataclasses.replace(schema, tables=(*schema.tables[:2], *tables, *schema.tables[2:]))


def with_affinity(on: str, schema: Schema = BASE) -> Schema:
    """The schema with an affinity of its users to an attribute of items."""
    state, *others = schema.tables
    columns = schema.table("item_attributes").columns
    keeping = user_state(
        item=schema.item,
        label=schema.label,
        history_length=schema.history_length,
        ttl=state.ttl,
        delay=state.delay,
        affinities=[on],
        attributes={column.name: column for column in columns},
    )
    return dataclasses.replace(schema, tables=(keeping, *others))
