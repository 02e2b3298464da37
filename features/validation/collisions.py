"""Impressions that share an id, in words: which rows they are, and what to declare."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from features.schema import EXAMPLE_ID, EXAMPLE_KEY, SOURCE_FILE, SOURCE_LINE, Schema
from features.spark.landed_columns import HOW_TO_IDENTIFY

_SHOWN_IDS = 5
_KEY = "_key"


def missing_ids(schema: Schema, rows: DataFrame) -> list[str]:
    """A sentence where no impression has an id, which is a matter of the schema."""
    if schema.example_id or not rows.where(F.col(EXAMPLE_ID).isNotNull()).isEmpty():
        return []
    return [f"{EXAMPLE_ID}: none of the rows has one; {HOW_TO_IDENTIFY}"]


def collisions(schema: Schema, rows: DataFrame) -> list[str]:
    """A sentence for some of the ids that several impressions share, with where these landed.

    Args:
        schema: The data set's schema.
        rows: Raw impressions.
    """
    key = F.col(EXAMPLE_KEY) if schema.example_id else F.col(EXAMPLE_ID).cast("string")
    place = F.concat_ws(":", SOURCE_FILE, SOURCE_LINE)
    found = (
        rows.where(F.col(EXAMPLE_ID).isNotNull())
        .select(EXAMPLE_ID, key.alias(_KEY), place.alias("place"), SOURCE_FILE, SOURCE_LINE)
        .groupBy(EXAMPLE_ID)
        .agg(
            F.count("*").alias("num_rows"),
            F.min(_KEY).alias("key"),
            F.max(_KEY).alias("other_key"),
            # Of the two keys, where they differ; else the first and the last row.
            F.min_by("place", F.struct(_KEY, SOURCE_FILE, SOURCE_LINE)).alias("place"),
            F.max_by("place", F.struct(_KEY, SOURCE_FILE, SOURCE_LINE)).alias("other_place"),
        )
        .where("num_rows > 1")
    )
    num_ids = found.count()
    shown = found.orderBy(EXAMPLE_ID).limit(_SHOWN_IDS).collect()
    more = [f"{EXAMPLE_ID}: {num_ids - len(shown)} more ids are shared"] * (num_ids > len(shown))
    return [_sentence(schema, row.asDict()) for row in shown] + more


def _sentence(schema: Schema, row: dict[str, object]) -> str:
    what = f"{EXAMPLE_ID} {row[EXAMPLE_ID]}: {row['num_rows']} rows"
    places = f"{row['place']} and {row['other_place']}"
    if schema.example_id is None:
        return f"{what} have it, such as {places}; land an impression once"
    if row["key"] != row["other_key"]:
        return (
            f"{what} have it, with different keys: {row['key']} and {row['other_key']}, at "
            f"{places}; add a column to example_id.from, which makes other hashes of all keys"
        )
    return (
        f"{what} have the same keys {row['key']}, such as {places}; land an impression once, or "
        "declare in example_id.from what tells them apart"
    )
