"""MovieLens' computed tables, and declared ones with their values."""

import dataclasses

import pytest
from pyspark.sql import functions as F
from support.features.declared import aggregate, declared, history, named, with_tables
from support.features.declared_rows import DAYS, by_key_and_day, frame, log, rows_of

from features.datasets.catalog import schema_of
from features.pipeline.item_daily import item_daily
from features.pipeline.user_state import user_state
from features.spark.session import feature_struct

pytestmark = pytest.mark.spark

LENGTH = 12
SCHEMA = dataclasses.replace(schema_of("movielens-100k"), history_length=LENGTH)
KINDS = (
    aggregate("impressions", "impressions", "count"),
    aggregate("positives", "liked", "count"),
    aggregate("positive_rate", "liked", "rate"),
    aggregate("rating_sum", "rating", "sum"),
    aggregate("rating_mean", "rating", "mean"),
)
NAMES = [kind.name for kind in KINDS]


def ratings(rows):
    """Of a user one at a moment: user_state orders those of the same one by item."""
    shown = {(row["user_id"], row["timestamp"]): row for row in log(2, rows=rows)}
    return [row | {"rating": 1 + row["example_id"] * 7 % 5} for row in shown.values()]


def computed(spark, compute, table, shown, **days):
    rows = compute(
        SCHEMA,
        table,
        impressions=frame(spark, SCHEMA, shown).withColumn("item_genres", F.array(F.lit("War"))),
        carry=spark.createDataFrame([], feature_struct(SCHEMA, table)),
        **days,
    )
    return [row.asDict() for row in rows.collect()]


def test_item_daily_can_be_declared(spark):
    daily, shown = SCHEMA.table("item_daily"), ratings(150)
    table = declared(
        "items",
        ("item_id",),
        named("declared", KINDS),
        schema=SCHEMA,
        windows_days=daily.windows_days,
    )
    schema = with_tables(table, schema=SCHEMA)
    found = by_key_and_day(rows_of(spark, schema, table, shown, DAYS, key="item_id"))
    wanted = computed(spark, item_daily, daily, shown, carry_day=None, days=DAYS)
    names = [f"{name}_{window}" for name in NAMES for window in ("1d", "7d", "28d", "all")]
    assert len(wanted) == len(found) > 40
    for row in wanted:
        values = found[row["item_id"], row["day"]]
        assert {n: values[f"declared_{n}"] for n in names} == {n: row[f"item_{n}"] for n in names}


def test_user_state_at_the_end_of_a_day_can_be_declared(spark):
    """But for the negatives and the rates among its last ones: it keeps the last of any label."""
    table = declared(
        "users",
        ("user_id",),
        named("declared", (*KINDS, aggregate("last", "impressions", "recency"))),
        histories=(history("declared", "liked", LENGTH, "item_id"),),
        schema=SCHEMA,
        windows_days=(),
    )
    schema, shown = with_tables(table, schema=SCHEMA), ratings(200)
    found = by_key_and_day(rows_of(spark, schema, table, shown, DAYS, key="user_id"))
    days = {"first_day": DAYS[0], "last_day": DAYS[-1]}
    states = computed(spark, user_state, SCHEMA.table("user_state"), shown, **days)
    longer = 0
    for (user, day), row in found.items():
        state = max(
            (one for one in states if one["user_id"] == user and one["day"] <= day),
            key=lambda one: one["event_timestamp"],
        )
        assert row["declared_last_all"] == state["user_last_event_at"]
        assert {n: row[f"declared_{n}_all"] for n in NAMES} == {
            n: state[f"user_{n}_all"] for n in NAMES
        }
        pairs = zip(state["user_history_item_ids"], state["user_history_labels"], strict=True)
        positives = [item for item, label in pairs if label == 1][::-1]
        assert row["declared_item_id"][: len(positives)] == positives
        assert len(row["declared_item_id"]) == min(LENGTH, row["declared_positives_all"])
        longer += len(row["declared_item_id"]) > len(positives)
    assert 0 < longer < len(found)
    assert len(found) > 40
