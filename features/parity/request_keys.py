"""Whose rows each logged candidate asked for: users, items, and keys that are made of both."""

import datetime
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.encoding.primitives import IntArray
from features.lake.lake import IMPRESSIONS, ONE_DAY, Lake
from features.online_store.codec import ARROW_TYPES
from features.parity.lake_rows import batches, moment_of
from features.prediction_log.columns import SENT_ITEM
from features.prediction_log.hashed_ids import IdHash
from features.schema import FeatureTable, Role, Schema
from features.schema.keys import keys_of

Mask = npt.NDArray[np.bool_]


class Users(NamedTuple):
    """The users of N logged candidates."""

    ids: pa.Array
    """As the lake has them; null where there is none, or none of the lake's."""
    is_hidden: Mask
    """Of whom the log has a hash by a key that is not here."""


def users_of(
    schema: Schema, lake: Lake, rows: pa.Table, hashed: IdHash | None, *, times: IntArray
) -> Users:
    """The users of logged candidates.

    Where the log has hashes, ids of the lake are hashed until all are found: those of days that
    have rows which may have been served. Who is not among them has no such row. Whom the log says
    to have had one all the same is hidden.

    Args:
        schema: The data set's schema.
        lake: Its lake.
        rows: Of the log.
        hashed: Hashes by the log's key; None: there is no key.
        times: (N,) epoch microseconds for which was ranked.
    """
    size = len(rows)
    if schema.user is None:
        return Users(pa.nulls(size, pa.int64()), np.zeros(size, dtype=np.bool_))
    texts, key_ids = (rows.column(name).combine_chunks() for name in ("user_key", "hash_key_id"))
    is_hashed = key_ids.is_valid()
    is_own = pc.fill_null(pc.equal(key_ids, hashed.key_id if hashed else ""), False)
    wanted = set(pc.unique(texts.filter(is_own)).to_pylist()) - {None}
    found: Mapping[str, int | str] = {}
    if hashed and wanted:
        days = days_of_users(schema, lake, rows.filter(is_own), times=times[_mask(is_own)])
        found = _resolved(schema, lake, days, wanted, hashed)
    kind, distinct = ARROW_TYPES[schema.user.dtype], pc.unique(texts)
    ids = pa.array([found.get(text) for text in distinct.to_pylist()], kind)
    resolved = ids.take(pc.index_in(texts, value_set=distinct))
    plain = pc.if_else(is_hashed, pa.scalar(None, pa.string()), texts).cast(kind)
    is_lost = _mask(pc.and_(is_own, pc.is_null(resolved))) & _had_row(schema, rows)
    is_hidden = _mask(pc.and_not(is_hashed, is_own)) | is_lost
    return Users(pc.if_else(is_hashed, resolved, plain), is_hidden)


def _mask(flags: pa.Array) -> Mask:
    found: Mask = flags.to_numpy(zero_copy_only=False)
    return found


def _had_row(schema: Schema, rows: pa.Table) -> Mask:
    """Whether candidates were served a row that is found by the user's id, as the log says."""
    found = np.zeros(len(rows), dtype=np.bool_)
    for table in schema.tables:
        if reads_users(schema, table) and table.timestamp_column in rows.schema.names:
            found |= _mask(rows.column(table.timestamp_column).combine_chunks().is_valid())
    return found


def days_of_users(
    schema: Schema, lake: Lake, rows: pa.Table, *, times: IntArray
) -> list[tuple[str, datetime.date]]:
    """Tables and days with ids of all users of whom a row may have been served, newest first.

    Users of a table by the user are in its own partitions, those of a table by a key of which the
    user is a part in the impressions that its windows reach.

    Args:
        schema: The data set's schema.
        lake: Its lake.
        rows: Of the log, N.
        times: (N,) epoch microseconds for which was ranked.
    """
    last, since = moment_of(int(times.max())).date(), dict[str, datetime.date]()
    for table in schema.tables:
        if not reads_users(schema, table):
            continue
        name, first = table.name, _oldest(table, rows, times)
        if table.role is not Role.USER:
            name, windows = IMPRESSIONS, datetime.timedelta(days=max(table.windows_days, default=0))
            first -= min(windows, first - datetime.date.min)
        since[name] = min(first, since.get(name, first))
    return [
        (name, day)
        for name, first in since.items()
        for day in reversed(lake.days_between(name, first, last))
    ]


def _oldest(table: FeatureTable, rows: pa.Table, times: IntArray) -> datetime.date:
    """The oldest day whose rows may have been served: not expired, or as the log says."""
    if table.ttl is None:
        return datetime.date.min
    oldest = moment_of(int(times.min())) - table.ttl
    if table.timestamp_column in rows.schema.names:
        served = pc.min(rows.column(table.timestamp_column)).as_py()
        oldest = min(oldest, served or oldest)
    return oldest.date() - ONE_DAY


def _resolved(
    schema: Schema,
    lake: Lake,
    days: Sequence[tuple[str, datetime.date]],
    wanted: set[str],
    hashed: IdHash,
) -> Mapping[str, int | str]:
    """The ids behind hashes, as far as these days have them."""
    found: dict[str, int | str] = {}
    seen: set[int | str | None] = {None}
    name = schema.entity(Role.USER).name
    for table, day in days:
        for batch in batches(lake.snapshot(table), day, [name]):
            new = set(pc.unique(batch.column(name)).to_pylist()) - seen
            seen |= new
            by_hash = {hashed.user(one): one for one in new if one is not None}
            found |= {text: by_hash[text] for text in wanted & by_hash.keys()}
            if len(found) == len(wanted):
                return found
    return found


def keys_of_table(
    schema: Schema,
    table: FeatureTable,
    rows: pa.Table,
    *,
    used: Mapping[str, pa.Array],
    users: Users,
) -> pa.Array:
    """The key by which each candidate's row of a table was asked for; null where it has none.

    Args:
        schema: The data set's schema.
        table: The table.
        rows: Of the log.
        used: The logged values as they were encoded: of attributes a key may be made.
        users: The users of the rows.
    """
    kind = ARROW_TYPES[schema.key_of(table).dtype]
    items = rows.column(SENT_ITEM).combine_chunks()
    if table.role is Role.USER:
        return users.ids.cast(kind)
    if table.role is Role.ITEM:
        return items.cast(kind)
    own = {schema.item.name: items}
    if schema.user is not None:
        own[schema.user.name] = users.ids
    return pa.array(keys_of([{**used, **own}[name].to_pylist() for name in table.by]), kind)


def reads_users(schema: Schema, table: FeatureTable) -> bool:
    """Whether the rows of a table are found by the user's id."""
    by = {schema.user.name} if schema.user else set()
    return table.role is Role.USER or bool(by.intersection(table.by))
