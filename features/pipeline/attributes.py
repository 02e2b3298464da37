"""Attributes over time: a row holds from when it was seen, and no later build changes it.

What lands of attributes has no day: it is what is known now. The first build takes it as true since
the schema's epoch. A later one adds the rows that are new or have changed, from when its last day
counts; it adds nothing where a later day has seen the attributes before it.
"""

import datetime
import functools
from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from features.datasets.readers import reader_of
from features.lake.candidate import Candidate
from features.lake.lake import ONE_DAY
from features.pipeline.aggregates import newest_rows
from features.pipeline.availability import with_availability
from features.pipeline.builds import restage_good
from features.pipeline.workspace import Workspace
from features.places import Place
from features.provenance.inputs import fingerprint_of
from features.schema import CREATED, DAY, EVENT_TIMESTAMP, FeatureTable, Schema, TableKind
from features.spark.erased_rows import without_erased
from features.spark.row_rules import feature_rules, is_good, mark_broken_rules
from features.spark.session import feature_struct


def stage_attributes(
    work: Workspace,
    landing: Place,
    table: FeatureTable,
    days: Sequence[datetime.date],
    *,
    available_at: datetime.datetime | None = None,
) -> Candidate | None:
    """Stage the attributes that are new or have changed; None where there are none.

    Under a schema with other attributes the table begins anew, at the epoch.

    Args:
        work: Session, schema and lake.
        landing: Where the attributes have landed.
        table: A table of attributes.
        days: Days of the build; what is new holds from when the last of them counts.
        available_at: From when it counts instead, where later.
    """
    schema, lake, name = work.schema, work.lake, table.name
    reader = reader_of(schema)
    landed = reader.read_attributes(work.spark, landing / schema.name, table)
    landed = without_erased(landed, work.lake.root, schema, have_moments=False)
    lake.note_read(reader.versions)
    known, last = lake.days(name), days[-1]
    current = fingerprint_of(schema, name)
    is_current = all(lake.manifest(name, day).fingerprint == current for day in known)
    if not known or not (is_current or _has_columns(work, table)):
        rows = _rows(work, table, landed, schema.epoch, _midnight(schema.epoch))
        rows = rows.withColumn(CREATED, F.col(EVENT_TIMESTAMP))
        return _stage(work, table, [rows], sorted({schema.epoch, *known}))
    struct = feature_struct(schema, table)
    # Rows of another schema with the same attributes are kept: they are the history.
    kept = [] if is_current else [day for day in known if day != last or last < known[-1]]
    frames, written = [lake.read(work.spark, name, struct, kept)] if kept else [], kept
    if last >= known[-1]:
        earlier = lake.read(work.spark, name, struct, [day for day in known if day < last])
        newest = newest_rows(earlier.drop(DAY), schema.key_of(table).name)
        changed = landed.subtract(newest.select(*landed.columns))
        if last in known or not changed.isEmpty():
            dated = _rows(work, table, changed, last, _seen_at(schema, last))
            frames.append(with_availability(work, table, dated, [last], available_at))
            written = [*kept, last]
    return _stage(work, table, frames, written) if frames else None


def as_published(work: Workspace, staged: Candidate) -> Candidate:
    """What the check lets through of staged attributes.

    What is computed from other rows would be stale as soon as both are published.
    """
    table = work.schema.table(staged.table)
    with work.lake.preview(staged):
        rows = work.features(table, staged.days)
    marked = mark_broken_rules(rows, feature_rules(work.schema, table))
    is_whole = marked.where(~is_good()).isEmpty()
    return staged if is_whole else restage_good(work, staged, marked)


def _stage(
    work: Workspace,
    table: FeatureTable,
    frames: Sequence[DataFrame],
    days: Sequence[datetime.date],
) -> Candidate:
    rows = functools.reduce(DataFrame.unionByName, frames)
    names = [*feature_struct(work.schema, table).names, DAY]
    key = work.schema.key_of(table).name
    return work.stage(rows.select(*names), table.name, days, keys=[key, EVENT_TIMESTAMP, CREATED])


def _rows(
    work: Workspace,
    table: FeatureTable,
    landed: DataFrame,
    day: datetime.date,
    since: datetime.datetime,
) -> DataFrame:
    """Attributes that hold since a moment, as rows of a day."""
    columns = [work.schema.key_of(table).name, *(column.name for column in table.columns)]
    return landed.select(*columns, F.lit(since).alias(EVENT_TIMESTAMP), F.lit(day).alias(DAY))


def _has_columns(work: Workspace, table: FeatureTable) -> bool:
    """Whether the table in the lake has this schema's columns, whatever its other tables have."""
    struct = feature_struct(work.schema, table).add(DAY, "date")
    return work.lake.snapshot(table.name).has_columns(struct.json())


def _seen_at(schema: Schema, day: datetime.date) -> datetime.datetime:
    """When all rows of a day count that its build brings online: so do attributes seen by it."""
    computed = [table for table in schema.tables if table.kind is not TableKind.ATTRIBUTES]
    return max([_midnight(day + ONE_DAY), *(table.first_visible(day) for table in computed)])


def _midnight(day: datetime.date) -> datetime.datetime:
    return datetime.datetime.combine(day, datetime.time(), datetime.UTC)
