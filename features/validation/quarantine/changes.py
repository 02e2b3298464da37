"""Changes to impressions in quarantine, and what of a day they make publishable.

What is kept of a row that was re-admitted is not the row, but what was changed of it: the columns,
each with the landed value and the one in its place. A check applies them to what has landed. So a
day that lands again has each row once: one that was put right in the log is taken as it landed.
"""

import functools
import operator
from collections.abc import Sequence
from datetime import date

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from features.lake.lake import READMITTED
from features.pipeline.workspace import Workspace
from features.schema import DAY, EXAMPLE_ID
from features.spark.session import impressions_struct

CHANGES, BROKEN, SOURCE_OF_CHANGES, READMITTED_AT = "changes", "broken", "source", "readmitted_at"
_CHANGE = StructType([StructField(name, StringType()) for name in ("column", "before", "after")])
STRUCT = StructType(
    [
        StructField(EXAMPLE_ID, LongType()),
        StructField(CHANGES, ArrayType(_CHANGE)),
        StructField(BROKEN, ArrayType(StringType())),
        StructField(SOURCE_OF_CHANGES, StringType()),
        StructField(READMITTED_AT, TimestampType()),
    ]
)
"""Row type of what is kept: values are JSON, which outlives a change of the schema; the rules that
the row broke; the names of the mapping and of the file, each with a hash of its content."""
_JSON = {"timeZone": "UTC", "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"}
_VALUE = "value"


def as_readmitted(work: Workspace, raw: DataFrame, days: Sequence[date]) -> DataFrame:
    """Raw impressions of some days with the changes that were made to rows in quarantine.

    A row is changed only where it has the values that the changes were made for: one that was put
    right in the log meanwhile stays as it landed.
    """
    there = work.lake.days_between(READMITTED, days[0], days[-1])
    if not there:
        return raw
    kept = work.lake.read(work.spark, READMITTED, STRUCT, there)
    joined = raw.join(
        F.broadcast(kept.select(EXAMPLE_ID, DAY, CHANGES)), [EXAMPLE_ID, DAY], how="left"
    )
    fields = [one for one in impressions_struct(work.schema) if one.name != EXAMPLE_ID]
    are_as_landed = [
        F.coalesce(_is_as_landed(one), F.lit(True)) for one in fields
    ]  # a Spark literal
    is_changed = functools.reduce(operator.and_, are_as_landed)
    values = {
        one.name: F.when(is_changed, _changed(one)).otherwise(F.col(one.name)) for one in fields
    }
    return joined.withColumns(values).select(*raw.columns)


def changes_between(landed: SparkColumn, fields: Sequence[StructField]) -> SparkColumn:
    """The columns that are not as in a struct of landed values, as an array of changes."""
    found = []
    for field in fields:
        before, after = as_json(landed[field.name]), as_json(F.col(field.name))
        change = F.struct(
            F.lit(field.name).alias("column"), before.alias("before"), after.alias("after")
        )
        found.append(F.when(before != after, change))
    return F.array_compact(F.array(*found))


def as_json(value: SparkColumn) -> SparkColumn:
    """A value as text, which is never null; texts are equal where values are."""
    return F.to_json(F.struct(value.alias(_VALUE)), _JSON)


def _change(field: StructField) -> SparkColumn:
    """The change of a column; null where it has none."""
    return F.get(F.filter(CHANGES, lambda one: one["column"] == field.name), 0)


def _is_as_landed(field: StructField) -> SparkColumn:
    """Whether a column has the value that its change was made for; null where it has no change."""
    return _change(field)["before"] == as_json(F.col(field.name))


def _changed(field: StructField) -> SparkColumn:
    """A column with the value of its change, where it has one."""
    struct = StructType([StructField(_VALUE, field.dataType)])
    value = F.from_json(_change(field)["after"], struct, _JSON)[_VALUE]
    return F.when(_change(field).isNotNull(), value).otherwise(F.col(field.name))
