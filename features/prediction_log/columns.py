"""The columns of the prediction log, one row for each candidate of a logged answer."""

from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa

from features.online_store.codec import ARROW_TYPES, STAMP
from features.schema import DAY, REQUEST_TIME, FeatureTable, Schema

FORMAT_VERSION = 1
"""Of rows; one more whenever the meaning or the type of a column changes."""
HOUR = "hour"
PARTITIONS = (DAY, HOUR)
_STATUS = "status"


class LogColumn(NamedTuple):
    """A column that every log has, whatever the data set."""

    name: str
    arrow_type: pa.DataType
    unit: str
    """Empty for what has none."""
    meaning: str


ANSWER = (
    LogColumn(
        "answer_id",
        pa.string(),
        "UUIDv7",
        "The answer, as the server named it. The response has it, and callers write it into their "
        "impressions.",
    ),
    LogColumn(
        "request_id",
        pa.string(),
        "",
        "`id` of the request, or what the server set where it had none; hashed where a key is set.",
    ),
    LogColumn("answered_at", STAMP, "UTC", "When the answer was ready."),
    LogColumn(
        "format_version", pa.int32(), "", f"Version of this table of columns: {FORMAT_VERSION}."
    ),
    LogColumn(
        "schema_fingerprint", pa.string(), "", "The schema by which the server read requests."
    ),
    LogColumn("model_version", pa.string(), "", "The version that scored."),
    LogColumn(
        "role",
        pa.string(),
        "",
        "In which role it scored: `champion`, `canary`, or `shadow`, whose scores no caller got.",
    ),
    LogColumn(
        "arm",
        pa.string(),
        "",
        "The side of the split to which the request belongs: `stable` or `canary`; `shadow` for "
        "scores of a shadow. It differs from the role where the caller named a version.",
    ),
    LogColumn("arm_percent", pa.float64(), "percent", "Share of the requests that the arm has."),
    LogColumn("arm_salt", pa.string(), "", "Salt of that split; empty where nothing is split."),
    LogColumn("pod", pa.string(), "", "Host name of the server."),
    LogColumn("process", pa.int64(), "", "Id of its process on that host."),
    LogColumn(
        "stratum",
        pa.string(),
        "",
        "Why the answer is logged: `canary` (all answers of a canary), `degraded` (all others that "
        "are degraded), `sampled` (by a hash of `answer_id`), `shadow`.",
    ),
    LogColumn(
        "inclusion_probability",
        pa.float64(),
        "0 to 1",
        "With which probability an answer like this one is logged; its inverse is the weight of "
        "the row in an estimate over all answers.",
    ),
    LogColumn(
        "is_time_given",
        pa.bool_(),
        "",
        f"Whether the caller sent `{REQUEST_TIME.name}`; else it is when the request arrived.",
    ),
    LogColumn(
        "read_at",
        STAMP,
        "UTC",
        "When the request's rows had been read from the online store, or were given up.",
    ),
    LogColumn(
        "items_version",
        STAMP,
        "UTC",
        "Version of the items in memory: when their newest load began. Null where the items were "
        "read for the request.",
    ),
    LogColumn(
        "items_compared_at",
        STAMP,
        "UTC",
        "When the items in memory were last found equal to the store's. Null as `items_version`.",
    ),
    LogColumn(
        "degraded_by",
        pa.list_(pa.string()),
        "",
        "Why the answer is degraded; empty where it is not. `store_unavailable`, `items_stale`, "
        "`missing_context:<column>`, `unknown:<table>`, `expired:<table>`, `future:<table>`.",
    ),
)
"""Of the answer: the same in all of its rows."""
CANDIDATE = (
    LogColumn("place", pa.int32(), "from 0", "Place of the candidate in the request."),
    LogColumn(
        "rank",
        pa.int32(),
        "from 1",
        "Position by score, the highest first; equal scores in the order of the request.",
    ),
    LogColumn(
        "user_key",
        pa.string(),
        "",
        "The user's id as it was sent, as text, or its hash where a key is set. Null where the "
        "schema has no user.",
    ),
    LogColumn(
        "hash_key_id",
        pa.string(),
        "",
        "Which key hashed the ids; null where they are not hashed.",
    ),
    LogColumn("score", pa.float32(), "probability", "As it was answered."),
)
"""Of each candidate."""
SENT_ITEM = "sent_item_id"
FOR_DATA_SET = (
    LogColumn(
        SENT_ITEM, pa.null(), "", "The item's id as it was sent; of the type of the item's id."
    ),
    LogColumn(DAY, pa.date32(), "UTC", "Day of `answered_at`; a partition."),
    LogColumn(HOUR, pa.int32(), "UTC", "Hour of `answered_at`, 0 to 23; a partition."),
)
"""Those whose type or place depends on the data set or the table."""


def status_column(table: FeatureTable) -> str:
    """Name of the column that says whether a table's row could be used."""
    return f"{table.name}__{_STATUS}"


def arrow_schema(schema: Schema) -> pa.Schema:
    """All columns of a data set's log, in their order, without the partitions."""
    fields = [pa.field(column.name, column.arrow_type) for column in (*ANSWER, *CANDIDATE)]
    fields.append(pa.field(SENT_ITEM, ARROW_TYPES[schema.item.dtype]))
    return pa.schema([*fields, *(pa.field(*one) for one in _of_data_set(schema))])


def require_free_names(schema: Schema) -> None:
    """ValueError where the log would have a column of a schema by a name of its own.

    Columns that no request has, such as the request's id in impressions, are not in the log.
    """
    own = {column.name for column in (*ANSWER, *CANDIDATE, *FOR_DATA_SET)}
    taken = sorted(own.intersection(name for name, _ in _of_data_set(schema)))
    if taken:
        raise ValueError(f"column {taken[0]}: of schema {schema.name}; a name not of the log's own")


def _of_data_set(schema: Schema) -> Iterator[tuple[str, pa.DataType]]:
    """What the schema decides: ids, context and time of the request, then each table's columns."""
    entities = (column for _, column in schema.entities())
    for column in (*entities, *schema.context):
        yield column.name, ARROW_TYPES[column.dtype]
    yield REQUEST_TIME.name, STAMP
    for table in schema.tables:
        kinds = {column.name: column.dtype for column in table.columns}
        for name in table.encoded_columns:
            yield name, STAMP if name == table.timestamp_column else ARROW_TYPES[kinds[name]]
        yield table.created_column, STAMP
        yield status_column(table), pa.string()
