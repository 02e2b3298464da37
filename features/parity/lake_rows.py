"""Rows of a feature table for some keys, read from the lake, and the as-of join over them.

Without Spark: the answers of an hour ask for few keys. The rule is that of the training join,
``features.pipeline.point_in_time``, which the tests hold it to.
"""

import dataclasses
import datetime
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.encoding.primitives import IntArray, epoch_microseconds
from features.lake.lake import ONE_DAY
from features.lake.snapshot import Snapshot
from features.online_store.codec import ARROW_TYPES
from features.schema import CREATED, DAY, EVENT_TIMESTAMP, FeatureTable, Schema, TableKind

_BATCH_ROWS = 65_536
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_NO_ROW = -1


def moment_of(micros: int) -> datetime.datetime:
    """A moment from epoch microseconds."""
    return _EPOCH + datetime.timedelta(microseconds=micros)


def micros_of(moment: datetime.datetime) -> int:
    """Epoch microseconds of a moment."""
    return (moment - _EPOCH) // datetime.timedelta(microseconds=1)


@dataclasses.dataclass(frozen=True)
class LakeRows:
    """Rows of a table whose keys are among K that were asked for."""

    codes: IntArray
    """(B,) the place of each row's key among them."""
    event: IntArray
    """(B,) epoch microseconds, as ``created`` and ``visible_at``."""
    created: IntArray
    days: npt.NDArray[np.datetime64]
    """(B,) the partition that has each row."""
    values: pa.Table
    """(B,) the table's columns."""

    @property
    def visible_at(self) -> IntArray:
        """The first moment whose requests may use each row."""
        return np.maximum(self.event, self.created)

    def newest_visible(self, codes: IntArray, times: IntArray) -> IntArray:
        """(N,) the row of each key that the as-of join takes at a time; -1 where there is none.

        The time-to-live is for the caller to apply.

        Args:
            codes: (N,) keys by their places; -1 for none.
            times: (N,) epoch microseconds.
        """
        order = np.lexsort((self.created, self.event))
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        rows = pd.DataFrame({"key": self.codes, "at": self.visible_at, "rank": rank})
        rows = rows.sort_values("at", kind="stable")
        rows["rank"] = rows.groupby("key")["rank"].cummax()
        asked = pd.DataFrame({"key": codes, "at": times}).sort_values("at", kind="stable")
        found = pd.merge_asof(asked, rows, on="at", by="key")["rank"].fillna(_NO_ROW)
        newest = np.full(len(codes), _NO_ROW)
        newest[asked.index] = found.to_numpy().astype(np.int64)
        return np.where(newest < 0, _NO_ROW, order[newest] if len(order) else _NO_ROW)

    def places(self, codes: IntArray, event: IntArray, created: IntArray) -> IntArray:
        """(N,) the row of each key with both times; -1 where there is none."""
        names = ["key", "event", "created"]
        own = pd.DataFrame(dict(zip(names, (self.codes, self.event, self.created), strict=True)))
        own["place"] = np.arange(len(own))
        asked = pd.DataFrame(dict(zip(names, (codes, event, created), strict=True)))
        found = asked.merge(own.drop_duplicates(names, keep="last"), on=names, how="left")
        return found["place"].fillna(_NO_ROW).to_numpy().astype(np.int64)

    def column(self, name: str, places: IntArray) -> pa.Array:
        """(N,) values of a column; null where there is no row."""
        taken = pa.array(places, mask=places < 0)
        return self.values.column(name).combine_chunks().take(taken)


def rows_visible(
    found: Snapshot,
    schema: Schema,
    table: FeatureTable,
    keys: pa.Array,
    *,
    codes: IntArray,
    times: IntArray,
) -> LakeRows:
    """The rows that an as-of join may take.

    Days are read backwards, each only for the keys of which no row was visible yet at the first
    moment for which they are asked.

    Args:
        found: The version of the table to read.
        schema: The data set's schema.
        table: The table.
        keys: (K,) each once, none of them null.
        codes: (N,) what is asked for: keys by their places; -1 for none.
        times: (N,) as of when, in epoch microseconds.
    """
    asked = codes >= 0
    if not asked.any():
        return _joined(schema, table, keys, [])
    first = np.full(len(keys), np.iinfo(np.int64).max)
    np.minimum.at(first, codes[asked], times[asked])
    oldest, last = datetime.date.min, moment_of(int(times[asked].max()))
    if table.ttl is not None:
        oldest = (moment_of(int(first.min())) - table.ttl).date() - ONE_DAY
    days = [day for day in found.days if day >= oldest and table.first_visible(day) <= last]
    parts, is_needed = [], np.ones(len(keys), dtype=np.bool_)
    for day in reversed(days):
        rows = _of_day(found, schema, table, day, keys.filter(pa.array(is_needed)))
        parts.append(rows)
        own = _joined(schema, table, keys, [rows])
        is_needed[own.codes[own.visible_at <= first[own.codes]]] = False
        if not is_needed.any():
            break
    return _joined(schema, table, keys, parts)


def rows_of_events(
    found: Snapshot, schema: Schema, table: FeatureTable, keys: pa.Array, events: IntArray
) -> LakeRows:
    """The rows of some keys in the partitions that have the rows of some event times."""
    wanted = {moment_of(int(one)).date() for one in np.unique(events)}
    wanted |= {day - ONE_DAY for day in wanted}  # a daily row is as of the end of its day
    is_any = table.kind is TableKind.ATTRIBUTES
    days = [day for day in found.days if is_any or day in wanted]
    parts = [_of_day(found, schema, table, day, keys) for day in days]
    return _joined(schema, table, keys, parts)


def batches(
    found: Snapshot, day: datetime.date, columns: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Rows of a partition, some at a time."""
    for path in found.files(day):
        with pq.ParquetFile(path, filesystem=found.filesystem) as file:
            names = [name for name in columns if name in file.schema_arrow.names]
            yield from file.iter_batches(_BATCH_ROWS, columns=names)


def _of_day(
    found: Snapshot, schema: Schema, table: FeatureTable, day: datetime.date, keys: pa.Array
) -> pa.Table:
    """Rows of a partition whose keys are asked for, in the types of the log."""
    columns = _columns(schema, table)
    parts = []
    for batch in batches(found, day, columns.names):
        of_keys = batch.filter(pc.is_in(batch.column(_key(schema, table)), value_set=keys))
        given = {
            field.name: of_keys.column(field.name).cast(field.type)
            if field.name in of_keys.schema.names
            else pa.nulls(len(of_keys), field.type)
            for field in columns
        }
        parts.append(pa.table(given, schema=columns))
    rows = pa.concat_tables(parts) if parts else columns.empty_table()
    return rows.append_column(DAY, pa.repeat(pa.scalar(day, pa.date32()), len(rows)))


def _key(schema: Schema, table: FeatureTable) -> str:
    return schema.key_of(table).name


def _columns(schema: Schema, table: FeatureTable) -> pa.Schema:
    key, stamp = schema.key_of(table), pa.timestamp("us", tz="UTC")
    times = [(EVENT_TIMESTAMP, stamp), (CREATED, stamp)]
    values = [(column.name, ARROW_TYPES[column.dtype]) for column in table.columns]
    return pa.schema([(key.name, ARROW_TYPES[key.dtype]), *times, *values])


def _joined(
    schema: Schema, table: FeatureTable, keys: pa.Array, parts: Sequence[pa.Table]
) -> LakeRows:
    empty = _columns(schema, table).append(pa.field(DAY, pa.date32())).empty_table()
    rows = pa.concat_tables([empty, *parts])
    codes = pc.index_in(rows.column(_key(schema, table)), value_set=keys).to_numpy()
    return LakeRows(
        codes.astype(np.int64),
        epoch_microseconds(rows.column(EVENT_TIMESTAMP)),
        epoch_microseconds(rows.column(CREATED)),
        rows.column(DAY).to_numpy().astype("datetime64[D]"),
        rows.select([column.name for column in table.columns]),
    )
