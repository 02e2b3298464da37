"""Keys of declared tables in Spark: the same that ``features.schema.keys`` makes for a request.

An impression has the attributes that were visible at it, in the aggregates and histories of a key
as in the training examples: when an item changes its category, earlier impressions stay with the
old one.
"""

import dataclasses
import datetime
from collections.abc import Collection

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from features.pipeline.aggregates import midnight
from features.pipeline.point_in_time import join_as_of
from features.pipeline.workspace import Workspace, visible_days
from features.schema import DAY, REQUEST_TIME, FeatureTable, Schema
from features.schema.keys import ESCAPE, SEPARATOR, attributes_read


def key_value(table: FeatureTable) -> SparkColumn:
    """The key of a row that has the columns of which it is made; null where one is missing."""
    first, *others = (F.col(name) for name in table.by)
    if not others:
        return first
    escaped = [_escaped(column) for column in (first, *others)]
    # Unlike concat_ws, which leaves a null out.
    return F.concat(escaped[0], *(part for one in escaped[1:] for part in (F.lit(SEPARATOR), one)))


def _escaped(column: SparkColumn) -> SparkColumn:
    text = F.replace(column.cast("string"), F.lit(ESCAPE), F.lit(ESCAPE + ESCAPE))
    return F.replace(text, F.lit(SEPARATOR), F.lit(ESCAPE + SEPARATOR))


def with_key(
    work: Workspace, table: FeatureTable, impressions: DataFrame, *, since: datetime.date
) -> DataFrame:
    """Impressions with the key column of a table and the attributes that it reads, as of each.

    Args:
        work: Session, schema and lake; of attributes, what has been published or is previewed.
        table: The table.
        impressions: Impressions, with their columns.
        since: Their first day, or one before it.
    """
    joined = impressions
    for attributes in attributes_read(work.schema, table):
        joined = _with_attributes(work, attributes, table.reads, joined, since)
    return joined.withColumn(table.of, key_value(table)) if table.by else joined


def _with_attributes(
    work: Workspace,
    attributes: FeatureTable,
    names: Collection[str],
    impressions: DataFrame,
    since: datetime.date,
) -> DataFrame:
    """Impressions with some columns of a table of attributes as they were visible at each."""
    columns = tuple(column for column in attributes.columns if column.name in names)
    days = visible_days(work, attributes, datetime.date.min, datetime.date.max)
    return join_as_of(
        impressions,
        work.features(attributes, days).drop(DAY),
        dataclasses.replace(attributes, columns=columns),
        key=work.schema.key_of(attributes).name,
        time=REQUEST_TIME.name,
        # Attributes have changed on many days before, and each would be a moment of its own.
        since=midnight(since),
    )


def in_order_of_keys(schema: Schema) -> list[FeatureTable]:
    """The tables of a schema so that attributes come before the keys that are made of them."""
    return sorted(schema.tables, key=lambda table: bool(table.by))
