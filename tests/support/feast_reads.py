"""What Feast itself reads from an online store: the oracle of our own readers."""

import pyarrow as pa

from features.online_store.codec import ARROW_TYPES, STAMP


def feast_columns(feast, schema, role, ids):
    """Columns and event timestamps of every table of a role; the newest row of each id."""
    tables = [table for table in schema.tables if table.role is role]
    refs = [f"{table.name}:{column.name}" for table in tables for column in table.columns]
    response = feast.get_online_features(refs, {schema.entity(role).name: list(ids)}).proto
    vectors = dict(zip(response.metadata.feature_names.val, response.results, strict=True))
    columns = {}
    for table in tables:
        for column in table.columns:
            values = [_plain(value) for value in vectors[column.name].values]
            columns[column.name] = pa.array(values, ARROW_TYPES[column.dtype])
        stamps = vectors[table.columns[0].name].event_timestamps
        moments = [one.seconds * 1_000_000 + one.nanos // 1_000 or None for one in stamps]
        columns[table.timestamp_column] = pa.array(moments, pa.int64()).cast(STAMP)
    return columns


def _plain(value):
    kind = value.WhichOneof("val")
    if kind is None or kind == "null_val":
        return None
    content = getattr(value, kind)
    return list(content.val) if kind.endswith("list_val") else content
