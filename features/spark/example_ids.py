"""The ids of impressions whose log has none that is an integer: a hash of what no other has."""

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from features.schema import DAY, EXAMPLE_ID, EXAMPLE_KEY, SOURCE, Schema

_MOST = 2**63 - 1
_JSON = {"timeZone": "UTC", "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"}
"""To the microsecond; by default Spark leaves out what is below a second."""


def with_example_id(schema: Schema, rows: DataFrame) -> DataFrame:
    """Typed impressions with the ids that the schema derives, and of what each is.

    Two rows with the same keys have the same id, in each format and on each day. Where a key is
    missing, so is the id.

    Args:
        schema: The data set's schema.
        rows: Impressions with ``day`` and where each landed; with a column ``example_key``, or of
            the name that ``example_id.column`` has, where ids are derived from one column.

    Raises:
        ValueError: The reader of the data set gave no such column.
    """
    derived = schema.example_id
    if derived is None:
        return rows
    key = _key_of_columns(derived.keys) if derived.keys else _own_key(rows, derived.column)
    columns = [column.name for column in schema.impression_columns()]
    identified = rows.withColumn(EXAMPLE_KEY, key).withColumn(
        EXAMPLE_ID,
        F.when(F.col(EXAMPLE_KEY).isNotNull(), F.xxhash64(EXAMPLE_KEY).bitwiseAND(F.lit(_MOST))),
    )
    return identified.select(EXAMPLE_ID, *columns, EXAMPLE_KEY, *SOURCE, DAY)


def _key_of_columns(keys: tuple[str, ...]) -> SparkColumn:
    """The keys with their names, which no others are written as."""
    has_all = F.lit(True)  # a Spark literal
    for key in keys:
        has_all = has_all & F.col(key).isNotNull()
    return F.when(has_all, F.to_json(F.struct(*keys), _JSON))


def _own_key(rows: DataFrame, column: str) -> SparkColumn:
    name = next((name for name in (EXAMPLE_KEY, column) if name in rows.columns), None)
    if name is None:
        raise ValueError(
            f"example_id.column {column!r}: the reader gave the columns {rows.columns}; pass this "
            f"one on, or name it {EXAMPLE_KEY}"
        )
    return F.col(f"`{name}`").cast("string")
