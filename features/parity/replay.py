"""The as-of join replayed for logged answers: what each table should have given each candidate."""

import dataclasses
import datetime
import functools
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.encoding.encode import RowStatus, status_at
from features.encoding.primitives import IntArray, epoch_microseconds
from features.lake.lake import IMPRESSIONS, ONE_DAY, Lake
from features.online_store.codec import STAMP
from features.parity.causes import Mask
from features.parity.differences import differing_values, used_only
from features.parity.lake_rows import LakeRows, micros_of, rows_visible
from features.prediction_log.columns import status_column
from features.schema import REQUEST_TIME, FeatureTable, Schema, TableKind

_AHEAD = datetime.timedelta(minutes=1)
"""How far a caller's clock may be ahead; who asks for a later moment asks what nobody knows yet."""
_STATUS_NAMES = pa.array([status.name.lower() for status in RowStatus])
NOT_LOGGED = -1
NOT_BUILT, LATER_MOMENT, HIDDEN_ID = "not_built_yet", "asked_for_later_moment", "hashed_id"
OTHER_SCHEMA = "table_not_logged"
"""Why a row of the log is not judged by a table."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answers:
    """What is the same for all tables, for N logged candidates."""

    time: IntArray
    """Epoch microseconds for which was ranked."""
    read_at: IntArray
    """When rows were read."""
    compared_at: IntArray
    """When the items in memory were last found equal to the store's; 0 where that is not known."""
    is_from_memory: Mask
    """Whether items came from memory."""
    is_given: Mask
    """Whether the caller named the time."""
    is_store_down: Mask
    """Whether the store gave nothing."""
    is_other_schema: Mask
    """Whether requests were read by a schema of another fingerprint."""

    @staticmethod
    def of(schema: Schema, rows: pa.Table) -> "Answers":
        """Args: the schema, and rows of the log."""
        times = {
            name: epoch_microseconds(rows.column(name).combine_chunks())
            for name in (REQUEST_TIME.name, "read_at", "items_compared_at")
        }
        is_own = pc.equal(rows.column("schema_fingerprint"), schema.fingerprint())
        return Answers(
            time=times[REQUEST_TIME.name],
            read_at=times["read_at"],
            compared_at=times["items_compared_at"],
            is_from_memory=rows.column("items_version").is_valid().to_numpy(),
            is_given=rows.column("is_time_given").to_numpy(),
            is_store_down=_has(rows.column("degraded_by").combine_chunks(), "store_unavailable"),
            is_other_schema=pc.invert(is_own).to_numpy(),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Served:
    """The rows of a table as they were served to N candidates."""

    status: IntArray
    """Of RowStatus; NOT_LOGGED where the server's schema did not have the table."""
    event: IntArray
    """Epoch microseconds; -1 where there was no row, as ``created``."""
    created: IntArray
    values: Mapping[str, pa.Array]
    """As they were read, whether or not they could be used; columns that the log lacks are not."""

    @functools.cached_property
    def used(self) -> dict[str, pa.Array]:
        """As they were encoded."""
        return used_only(self.values, self.status == RowStatus.USABLE)

    @staticmethod
    def of(table: FeatureTable, rows: pa.Table) -> "Served":
        """Args: the table, and rows of the log."""
        names = [name for name in table.encoded_columns if name in rows.schema.names]
        texts = column_or_nulls(rows, status_column(table), pa.string())
        status = pc.fill_null(pc.index_in(texts, value_set=_STATUS_NAMES), NOT_LOGGED)
        return Served(
            status=status.to_numpy(),
            event=_micros(rows, table.timestamp_column),
            created=_micros(rows, table.created_column),
            values={name: rows.column(name).combine_chunks() for name in names},
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expected:
    """The rows of a table that the as-of join gives N candidates."""

    table: FeatureTable
    keys: pa.Array
    """(K,) each once."""
    codes: IntArray
    """(N,) the key of each by its place; -1 for none."""
    rows: LakeRows
    places: IntArray
    """(N,) the row of each among ``rows``, expired or not; -1 for none."""
    is_usable: Mask

    @functools.cached_property
    def times(self) -> tuple[IntArray, IntArray]:
        """Event time and created of each row; -1 where there is none."""
        if not len(self.rows.event):
            return self.places, self.places
        found = (self.rows.event[self.places], self.rows.created[self.places])
        event, created = (np.where(self.places < 0, -1, one) for one in found)
        return event, created

    @functools.cached_property
    def used(self) -> dict[str, pa.Array]:
        """The values of each row; null where none is usable."""
        places = np.where(self.is_usable, self.places, -1)
        columns = {column.name for column in self.table.columns}
        names = [name for name in self.table.encoded_columns if name in columns]
        event = pa.array(self.times[0], mask=~self.is_usable).cast(STAMP)
        values = {name: self.rows.column(name, places) for name in names}
        return {**values, self.table.timestamp_column: event}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableReplay:
    """A table's part: what was served, what should have been, and of whom that is known."""

    table: FeatureTable
    served: Served
    expected: Expected
    is_judged: Mask
    """(N,)."""
    reasons: Mapping[str, int]
    """Why others are not, with how many."""

    def values(self, name: str) -> tuple[pa.Array, pa.Array]:
        """(N,) a column as served and as expected: null where unusable, or not in the log."""
        expected = self.expected.used[name]
        if name not in self.served.values:
            return (pa.nulls(len(expected), expected.type),) * 2
        return self.served.used[name], expected

    def differs(self, name: str) -> Mask:
        """(N,) whether a feature was served with another value than the join gives."""
        if name == self.table.missing_indicator:
            found = (self.served.status == RowStatus.USABLE) != self.expected.is_usable
        else:
            found = differing_values(*self.values(name))
        is_other: Mask = found & self.is_judged
        return is_other

    def is_absent(self, name: str) -> Mask:
        """(N,) whether a value is missing as served, and not as expected."""
        if name == self.table.missing_indicator:
            return np.zeros(len(self.is_judged), dtype=np.bool_)
        is_there = (one.is_valid().to_numpy(zero_copy_only=False) for one in self.values(name))
        served, expected = is_there
        found: Mask = ~served & expected
        return found


def expected_rows(
    schema: Schema, lake: Lake, table: FeatureTable, keys: pa.Array, answers: Answers, judged: Mask
) -> Expected:
    """Replay the join of a table.

    Args:
        schema: The data set's schema.
        lake: Its lake.
        table: The table.
        keys: (N,) what each candidate asks for; null for nothing.
        answers: When, as of which moments.
        judged: Which of them are judged; others have no row.
    """
    asked = pc.if_else(pa.array(judged), keys, pa.scalar(None, keys.type))
    distinct = pc.unique(asked).drop_null()
    codes = pc.fill_null(pc.index_in(asked, value_set=distinct), -1).to_numpy().astype(np.int64)
    found = lake.snapshot(table.name)
    rows = rows_visible(found, schema, table, distinct, codes=codes, times=answers.time)
    places = rows.newest_visible(codes, answers.time)
    is_known = places >= 0
    event = rows.event[places] if len(rows.event) else places
    visible_at = rows.visible_at[places] if len(rows.event) else places
    status = status_at(
        table, event, visible_at=visible_at, is_known=is_known, request_time=answers.time
    )
    return Expected(
        table=table,
        keys=distinct,
        codes=codes,
        rows=rows,
        places=places,
        is_usable=status == RowStatus.USABLE,
    )


def whole_until(schema: Schema, lake: Lake, table: FeatureTable) -> int:
    """Epoch microseconds before which the lake has all rows of a table that count.

    Those of a table of state come with the build of their day, although a push may have brought
    them online before. Attributes that a build has seen count when all that it computes does.
    """
    computed = [one for one in schema.tables if one.kind is not TableKind.ATTRIBUTES]
    is_computed = table in computed
    read = [table.name] if is_computed else [one.name for one in computed] or [IMPRESSIONS]
    days = [lake.days(name)[-1:] for name in read]
    if not all(days):
        return 0
    following = min(day for (day,) in days) + ONE_DAY
    if is_computed:
        return micros_of(table.first_visible(following))
    midnight = datetime.datetime.combine(following + ONE_DAY, datetime.time(), datetime.UTC)
    return micros_of(max([midnight, *(one.first_visible(following) for one in computed)]))


def not_judged(answers: Answers, served: Served, *, until: int, is_hidden: Mask) -> dict[str, Mask]:
    """By reason, the candidates that a table cannot judge.

    Args:
        answers: The candidates.
        served: What they were served of the table.
        until: ``whole_until`` of it.
        is_hidden: Whose key is not known.
    """
    ahead = _AHEAD // datetime.timedelta(microseconds=1)
    return {
        NOT_BUILT: answers.time >= until,
        LATER_MOMENT: answers.time > answers.read_at + ahead,
        HIDDEN_ID: is_hidden,
        OTHER_SCHEMA: served.status == NOT_LOGGED,
    }


def column_or_nulls(rows: pa.Table, name: str, kind: pa.DataType) -> pa.Array:
    """A column of the log; nulls where it has none, as of a schema that no server had yet."""
    if name not in rows.schema.names:
        return pa.nulls(len(rows), kind)
    return rows.column(name).combine_chunks()


def _has(lists: pa.Array, value: str) -> Mask:
    found = np.zeros(len(lists), dtype=np.bool_)
    is_one = pc.equal(lists.flatten(), value)
    found[pc.list_parent_indices(lists).filter(is_one).to_numpy()] = True
    return found


def _micros(rows: pa.Table, name: str) -> IntArray:
    given = column_or_nulls(rows, name, STAMP)
    is_there = given.is_valid().to_numpy(zero_copy_only=False)
    return np.where(is_there, epoch_microseconds(given), -1)
