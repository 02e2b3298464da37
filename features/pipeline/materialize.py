"""The job that brings finished days online."""

import dataclasses
import datetime
import os
from collections.abc import Iterator, Sequence

import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from features.lake.lake import ONE_DAY
from features.lineage import observed
from features.online_store.config import online_address
from features.online_store.feast_store import open_store, write
from features.pipeline.workspace import Workspace
from features.places import Place, place, uri
from features.schema import CREATED, DAY, EVENT_TIMESTAMP, FeatureTable, Schema, TableKind
from features.spark.session import feature_struct

ROWS_OF_A_TASK = 200_000
"""A table with more of them is written by Spark's tasks; a task opens a store of its own."""


def materialize_days(
    work: Workspace, store_dir: Place, days: Sequence[datetime.date]
) -> dict[str, int]:
    """Bring the newest rows of finished days online; returns the rows offered for each table.

    A row that is older than the one online is offered too; the store keeps the rows that requests
    may use. A row that becomes visible later is used from then on; until then, the one before it.
    """
    store = open_store(work.schema, store_dir)
    written = {}
    for table in work.schema.tables:
        of_table = _days_of(work, table, days)
        rows = work.features(table, of_table).drop(DAY)
        needed = needed_rows(rows, work.schema.key_of(table).name)
        num_rows = sum(work.lake.manifest(table.name, day).rows for day in of_table)
        if num_rows > ROWS_OF_A_TASK:
            num_tasks = -(-num_rows // ROWS_OF_A_TASK)
            written[table.name] = _write_in_tasks(work, store_dir, table, needed, num_tasks)
            continue
        frame = stored_frame(work, table, needed)
        if not frame.empty:
            write(store, table, frame)
        written[table.name] = len(frame)
    for name, offered in written.items():
        where = online_address(store_dir / work.schema.name, os.environ)
        observed.wrote(observed.Dataset(where=f"{where}/{work.schema.name}/{name}", rows=offered))
    return written


def _write_in_tasks(
    work: Workspace, store_dir: Place, table: FeatureTable, rows: DataFrame, num_tasks: int
) -> int:
    """Offer rows from Spark's tasks, a batch at a time, so that no process holds all of them."""
    key = work.schema.key_of(table).name
    named = rows.select(*feature_struct(work.schema, table).names).repartition(num_tasks, key)
    offer = _Offer(work.schema, uri(store_dir), table)
    return sum(offered.rows for offered in named.mapInArrow(offer, "rows long").collect())


@dataclasses.dataclass(frozen=True)
class _Offer:
    """Offers a task's rows to the online store; Spark sends it to the task."""

    schema: Schema
    store_dir: str
    table: FeatureTable

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        store = open_store(self.schema, place(self.store_dir))
        for batch in batches:
            if len(batch):
                write(store, self.table, batch.to_pandas())
            yield pa.RecordBatch.from_pydict({"rows": [len(batch)]})


def _days_of(
    work: Workspace, table: FeatureTable, days: Sequence[datetime.date]
) -> list[datetime.date]:
    """The partitions whose rows may be used when the last of some days is online."""
    if table.kind is TableKind.ATTRIBUTES:
        return work.lake.days_between(table.name, datetime.date.min, days[-1])
    if table.kind is TableKind.STATE:
        return work.lake.days_between(table.name, days[0], days[-1])
    # A day's rows are used until those of the next become visible.
    waiting = -(-table.delay // ONE_DAY) * ONE_DAY
    return work.lake.days_between(table.name, days[-1] - waiting, days[-1])


def needed_rows(rows: DataFrame, key: str) -> DataFrame:
    """The rows of each entity that an online store needs: see ``visibility.needed``.

    Args:
        rows: Rows with the id ``key``, both times and any columns.
        key: Id column of the entity.
    """
    of_entity = Window.partitionBy(key)
    visible_at = F.greatest(EVENT_TIMESTAMP, CREATED)
    order = F.struct(EVENT_TIMESTAMP, CREATED)
    with_newest = rows.withColumn("_newest", F.max(EVENT_TIMESTAMP).over(of_entity))
    is_waiting = visible_at > F.col("_newest")
    last_visible = F.max(F.when(~is_waiting, order)).over(of_entity)
    before_newest = F.max(F.when(F.col(EVENT_TIMESTAMP) < F.col("_newest"), order)).over(of_entity)
    is_needed = is_waiting | (order == last_visible) | (order == before_newest)
    marked = with_newest.withColumn("_is_needed", F.coalesce(is_needed, F.lit(False)))
    return marked.where("_is_needed").select(*rows.columns)


def stored_frame(work: Workspace, table: FeatureTable, rows: DataFrame) -> pd.DataFrame:
    """Rows of a table as Feast takes them: its columns, both times in UTC."""
    frame = rows.select(*feature_struct(work.schema, table).names).toPandas()
    for name in (EVENT_TIMESTAMP, CREATED):
        frame[name] = frame[name].dt.tz_localize("UTC")
    return frame
