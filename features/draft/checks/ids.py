"""Ids and values: ids that collide, tables too small for them, values that are not there."""

from collections.abc import Iterator

from features.draft.checks.findings import Finding, Level
from features.draft.checks.landed import Landed
from features.draft.checks.reading import DAY_OF_FILE
from features.draft.checks.rules import key_of
from features.draft.entries import collision_share, rounded_up
from features.draft.log.sample import quoted, text
from features.schema import EXAMPLE_ID, EXAMPLE_KEY, Column, Kind

_MOST_SHARED = 0.25
"""Share of ids in one row with another above which a table is too small."""
_ROWS_PER_ID = 10
_MOST_MISSING = 0.01
_SHOWN = 3


def repeated_examples(landed: Landed) -> Iterator[Finding]:
    """Impressions whose id another one has, or what it is derived from."""
    derived = landed.schema.example_id
    keys = (EXAMPLE_ID,) if derived is None else derived.keys or (EXAMPLE_KEY,)
    words = " and ".join(keys) if derived is None or derived.keys else derived.column
    listed = ", ".join(map(quoted, keys))
    present = " AND ".join(f"{quoted(key)} IS NOT NULL" for key in keys)
    ids, rows = landed.row(
        f"SELECT count(*), coalesce(sum(n), 0) FROM (SELECT count(*) AS n FROM {landed.table} "
        f"WHERE {present} GROUP BY {listed} HAVING n > 1)"
    )
    if ids:
        example = landed.row(
            f"SELECT {listed} FROM {landed.table} WHERE {present} GROUP BY {listed} "
            f"HAVING count(*) > 1 ORDER BY {listed} LIMIT 1"
        )
        shown = ", ".join(map(str, example))
        said = (
            f"{rows:,.0f} rows share {ids:,.0f} values of {words}, such as {shown}: the day stops"
        )
        yield Finding(Level.ERROR, EXAMPLE_ID, "repeated-id", said)


def small_tables(landed: Landed) -> Iterator[Finding]:
    """Embedding tables with too few rows for the ids that are there."""
    for column in landed.schema.impression_columns():
        is_owner = column.kind is Kind.SPARSE and not column.shares_table_with
        if not is_owner or column.name not in landed.columns:
            continue
        key = key_of(landed.schema, column.name)
        if column.hash_size:
            yield from _hashed(landed, column, key)
        elif column.num_ids:
            yield from _numbered(landed, column, key)


def _hashed(landed: Landed, column: Column, key: str) -> Iterator[Finding]:
    value = quoted(column.name)
    source = f"unnest({value})" if column.dtype.is_list else value
    (ids,) = landed.row(f"SELECT count(DISTINCT v) FROM (SELECT {source} AS v FROM {landed.table})")
    share = collision_share(int(ids), column.hash_size)
    if ids > 1 and share > _MOST_SHARED:
        enough = rounded_up(_ROWS_PER_ID * ids)
        said = (
            f"{ids:,.0f} ids in these days, hashed to {column.hash_size:,} rows: {share:.0%} of "
            f"them are expected to share their row with another; {enough:,} rows would do"
        )
        yield Finding(Level.WARNING, f"{key}.hash_size", "small-table", said)


def _numbered(landed: Landed, column: Column, key: str) -> Iterator[Finding]:
    value = quoted(column.name)
    source = f"unnest({value})" if column.dtype.is_list else value
    rows, outside, high = landed.row(
        f"SELECT count(v), count(*) FILTER (v < 0 OR v >= {column.num_ids}), max(v) "
        f"FROM (SELECT {source} AS v FROM {landed.table})"
    )
    if outside:
        said = (
            f"{outside:,.0f} of {rows:,.0f} ids ({outside / rows:.2%}) are not below "
            f"{column.num_ids:,}, the highest is {high:,.0f}: the model cannot tell them apart"
        )
        yield Finding(Level.WARNING, f"{key}.num_ids", "small-table", said)


def busy_users(landed: Landed) -> Iterator[Finding]:
    """Users with more impressions on a day than the limit allows."""
    user, most = landed.schema.user, landed.schema.limits.max_rows_of_user
    if user is None or user.name not in landed.columns:
        return
    name = quoted(user.name)
    users, rows, largest = landed.row(
        f"SELECT count(*), coalesce(sum(n), 0), arg_max(id, n) FROM (SELECT {name} AS id, "
        f"count(*) AS n FROM {landed.table} WHERE {name} IS NOT NULL "
        f"GROUP BY {name}, {DAY_OF_FILE} HAVING n > {most})"
    )
    if users:
        said = (
            f"{rows:,.0f} rows are of users with more than {most:,} on a day, such as {largest}: a "
            "program, or an id that many share? They go to quarantine"
        )
        yield Finding(Level.WARNING, "limits.max_rows_of_user", "busy-user", said)


def unseen_neutrals(landed: Landed) -> Iterator[Finding]:
    """Values that every served request has, and of which nothing is learnt: no row has them."""
    for column in landed.schema.context:
        if column.neutral is None or column.name not in landed.columns:
            continue
        name = quoted(column.name)
        neutral = text(column.neutral) if isinstance(column.neutral, str) else column.neutral
        found = landed.connection.execute(
            f"SELECT {name}, count(*) AS n, sum(({name} = {neutral})::INT) OVER () > 0 "
            f"FROM {landed.table} WHERE {name} IS NOT NULL GROUP BY {name} "
            f"ORDER BY n DESC, {name} LIMIT {_SHOWN}"
        ).fetchall()
        if found and not found[0][2]:
            shown = ", ".join(f"{value!r} ({rows:,})" for value, rows, _ in found)
            said = (
                f"no row has {column.neutral!r}, which every served request has; the values are "
                f"{shown} and the like. Training learns nothing of it: name one that the log has, "
                "such as the first place"
            )
            key = f"{key_of(landed.schema, column.name)}.neutral"
            yield Finding(Level.WARNING, key, "neutral", said)


def empty_columns(landed: Landed) -> Iterator[Finding]:
    """Columns that may be missing and are, in most rows; and inputs that are always the same."""
    for column in (*landed.schema.context, *landed.schema.stored):
        if column.name not in landed.columns:
            continue
        name, key = quoted(column.name), key_of(landed.schema, column.name)
        rows, filled, differ = landed.row(
            f"SELECT count(*), count({name}), count(DISTINCT {name}) FROM {landed.table}"
        )
        share = 1 - filled / rows if rows else 0.0
        if column.is_nullable and share > _MOST_MISSING:
            level = Level.WARNING if share > 1 - _MOST_MISSING else Level.INFO
            unread = landed.unreadable(column.name)
            said = f"missing in {share:.1%} of {rows:,.0f} rows"
            if unread:
                level = Level.WARNING
                said += f", some cannot be read, such as {unread.value!r} ({unread.where})"
            yield Finding(level, key, "missing-value", said)
        if differ == 1 and filled == rows and column.kind is not Kind.STORED:
            said = "has the same value in all rows: nothing is learnt of it"
            yield Finding(Level.INFO, key, "constant-column", said)
