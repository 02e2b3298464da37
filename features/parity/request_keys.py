"""Whose rows each logged candidate asked for: users, items, and keys that are made of both."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.lake.lake import IMPRESSIONS, Lake
from features.online_store.codec import ARROW_TYPES
from features.parity.lake_rows import batches
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


def users_of(schema: Schema, lake: Lake, rows: pa.Table, hashed: IdHash | None) -> Users:
    """The users of logged candidates.

    Where the log has hashes, the lake's ids are hashed until all are found.

    Args:
        schema: The data set's schema.
        lake: Its lake.
        rows: Of the log.
        hashed: Hashes by the log's key; None: there is no key.
    """
    size = len(rows)
    if schema.user is None:
        return Users(pa.nulls(size, pa.int64()), np.zeros(size, dtype=np.bool_))
    texts, key_ids = (rows.column(name).combine_chunks() for name in ("user_key", "hash_key_id"))
    is_hashed = key_ids.is_valid()
    is_own = pc.fill_null(pc.equal(key_ids, hashed.key_id if hashed else ""), False)
    wanted = set(pc.unique(texts.filter(is_own)).to_pylist()) - {None}
    found = _resolved(schema, lake, wanted, hashed) if hashed and wanted else {}
    kind, distinct = ARROW_TYPES[schema.user.dtype], pc.unique(texts)
    ids = pa.array([found.get(text) for text in distinct.to_pylist()], kind)
    resolved = ids.take(pc.index_in(texts, value_set=distinct))
    plain = pc.if_else(is_hashed, pa.scalar(None, pa.string()), texts).cast(kind)
    is_hidden = pc.and_not(is_hashed, is_own).to_numpy(zero_copy_only=False)
    return Users(pc.if_else(is_hashed, resolved, plain), is_hidden)


def _resolved(
    schema: Schema, lake: Lake, wanted: set[str], hashed: IdHash
) -> Mapping[str, int | str]:
    """The ids behind hashes, as far as the lake has them."""
    found: dict[str, int | str] = {}
    seen: set[int | str | None] = {None}
    for ids in _ids_of_lake(schema, lake):
        new = set(pc.unique(ids).to_pylist()) - seen
        seen |= new
        by_hash = {hashed.user(one): one for one in new if one is not None}
        found |= {text: by_hash[text] for text in wanted & by_hash.keys()}
        if len(found) == len(wanted):
            break
    return found


def _ids_of_lake(schema: Schema, lake: Lake) -> Iterator[pa.Array]:
    """Ids of users in the lake's tables, those of the newest days first."""
    name = schema.entity(Role.USER).name
    tables = [table.name for table in schema.tables if table.role is Role.USER]
    for table in (*tables, IMPRESSIONS):
        found = lake.snapshot(table)
        for day in reversed(found.days):
            for batch in batches(found, day, [name]):
                yield batch.column(name)


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
