"""Declared aggregates against a plain Python transcription of what they mean."""

import dataclasses
import datetime
import itertools

import pytest
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType
from support.features.declared import (
    BASE,
    DAY,
    HOUR,
    aggregate,
    declared,
    with_tables,
)
from support.features.declared_rows import DAYS, by_key_and_day, carried, log, micros, rows_of

from features.pipeline.aggregates import label_delay_days
from features.pipeline.item_daily import first_impression_day
from features.pipeline.tables.keys import key_value
from features.schema import Label
from features.schema.keys import keys_of

TABLE = declared("by_device", ("device",))
WINDOWS = {"1d": 1, "3d": 3, "all": 10_000}
SLOW = dataclasses.replace(BASE, labels=(dataclasses.replace(BASE.label, delay=30 * HOUR),))
PROMPT = dataclasses.replace(BASE, labels=(dataclasses.replace(BASE.label, delay=0 * HOUR),))


def expected(schema, shown, days) -> dict:
    """Every value of every device, day and window, from the definition."""
    delay, found = schema.label.delay, {}
    label = schema.label
    for day, device in itertools.product(days, ("phone", "tablet", "desktop")):
        mine = [row for row in shown if row["device"] == device]
        if not any(row["timestamp"].date() <= day for row in mine):
            continue
        row = {}
        for name, length in WINDOWS.items():
            since = day - (length - 1) * DAY if length < 10_000 else datetime.date.min
            seen = [r for r in mine if since <= r["timestamp"].date() <= day]
            known = [r for r in mine if since <= (r["timestamp"] + delay).date() <= day]
            clicks = [r for r in known if r["click"]]
            units = [round(1000 * p) for r in known if (p := r["true_probability"] or 0) > 0]
            row |= {
                f"shown_{name}": len(seen),
                f"clicks_{name}": len(clicks),
                f"ctr_{name}": (len(clicks) + label.prior_rate * label.prior_weight)
                / (len(known) + label.prior_weight),
                f"odds_{name}": sum(units) * 0.001 / len(units) if units else None,
                f"total_{name}": sum(units) * 0.001,
                f"clicked_{name}": len(clicks),
            }
            if name == "all":
                row |= {
                    "last_shown_all": micros(max(r["timestamp"] for r in seen)),
                    "last_click_all": micros(max((r["timestamp"] for r in clicks), default=None)),
                }
            else:
                row[f"people_{name}"] = len({r["user_id"] for r in seen})
                row[f"clickers_{name}"] = len({r["user_id"] for r in clicks})
        found[device, day] = row
    return found


def own_names(table) -> list[str]:
    hidden = f"{table.name}_"
    return [column.name for column in table.columns if not column.name.startswith(hidden)]


def test_a_value_that_is_missing_is_not_counted(spark):
    counts = (
        aggregate("valued", "true_probability", "count"),
        aggregate("last_valued", "true_probability", "recency"),
    )
    table = declared("values_by_device", ("device",), counts)
    schema, shown = with_tables(table), log(4)
    found = by_key_and_day(rows_of(spark, schema, table, shown, DAYS[-1:]))
    for device in ("phone", "tablet", "desktop"):
        delay = schema.label.delay
        there = [
            row["timestamp"]
            for row in shown
            if row["device"] == device
            and (row["true_probability"] or 0) > 0
            and (row["timestamp"] + delay).date() <= DAYS[-1]
        ]
        values = found[device, DAYS[-1]]
        assert values["valued_all"] == len(there)
        assert values["last_valued_all"] == micros(max(there))


@pytest.mark.spark
@pytest.mark.parametrize("schema", [PROMPT, BASE, SLOW], ids=["prompt", "minutes", "30 hours"])
def test_every_kind_is_what_its_definition_says_in_one_range_or_two(spark, schema):
    schema, shown = with_tables(TABLE, schema=schema), log(1)
    whole = rows_of(spark, schema, TABLE, shown, DAYS)
    assert by_key_and_day(whole, own_names(TABLE)) == expected(schema, shown, DAYS)
    split = 5
    carry = carried(whole, DAYS[split - 1])
    since = first_impression_day(schema, TABLE, first_day=DAYS[split], carry_day=DAYS[split - 1])
    recent = [row for row in shown if row["timestamp"].date() >= since]
    assert len(recent) < len(shown)
    later = rows_of(
        spark, schema, TABLE, recent, DAYS[split:], carry=carry, carry_day=DAYS[split - 1]
    )
    in_range = {key: row for key, row in by_key_and_day(whole).items() if key[1] >= DAYS[split]}
    assert by_key_and_day(later) == in_range


ORDER = Label(
    name="order",
    column="order",
    positive_from=1,
    delay=HOUR,
    join=("user_id", "item_id"),
    window=2 * DAY,
)


@pytest.mark.spark
def test_a_label_that_comes_later_counts_when_its_window_and_its_delay_are_over(spark):
    """Beside one in the row; each counts at its own time."""
    schema = dataclasses.replace(BASE, labels=(BASE.label, ORDER))
    kinds = (
        aggregate("orders", "order", "count"),
        aggregate("clicks", "click", "count"),
        aggregate("order_rate", "order", "rate"),
    )
    table = declared("by_device", ("device",), kinds, schema=schema)
    schema, shown = with_tables(table, schema=schema), log(4)
    assert label_delay_days(schema, table) == 3 * DAY
    ordered = (F.col("example_id") % 3 == 0).cast("bigint")
    rows = rows_of(spark, schema, table, shown, DAYS, more={"order": ordered})
    found = by_key_and_day(rows, [f"{kind.name}_3d" for kind in kinds])
    for (device, day), row in found.items():
        known = {
            label.name: [
                r
                for r in shown
                if r["device"] == device
                and day - 2 * DAY <= (r["timestamp"] + label.known_after).date() <= day
            ]
            for label in schema.labels
        }
        orders = sum(r["example_id"] % 3 == 0 for r in known["order"])
        assert row == {
            "orders_3d": orders,
            "clicks_3d": sum(r["click"] for r in known["click"]),
            "order_rate_3d": (orders + 0.5 * 10) / (len(known["order"]) + 10),
        }
    assert len(found) > 20


@pytest.mark.spark
def test_the_order_of_rows_changes_no_bit(spark):
    schema = with_tables(TABLE)
    shown = [row | {"true_probability": 0.1 * (row["example_id"] % 7)} for row in log(3)]
    rows = by_key_and_day(rows_of(spark, schema, TABLE, shown, DAYS))
    assert by_key_and_day(rows_of(spark, schema, TABLE, shown[::-1], DAYS)) == rows


def test_rows_are_read_back_for_the_longest_delay_that_a_table_counts():
    shown = declared("shown", ("device",), (aggregate("n", "impressions", "count"),))
    clicks = declared("clicks", ("device",), (aggregate("n_clicks", "click", "recency"),))
    schema = with_tables(shown, clicks, schema=SLOW)
    assert label_delay_days(schema, shown) == 0 * DAY
    assert label_delay_days(schema, clicks) == 2 * DAY


@pytest.mark.spark
def test_spark_makes_the_keys_that_a_request_has(spark):
    parts = ["", "a", "|", "\\", "a|b", "\\|", "|\\", "é", None, "12"]
    pairs = list(itertools.product([*range(-1, 2), None], parts))
    pair = declared("pairs", ("user_id", "item_category"))
    rows = spark.createDataFrame(pairs, "user_id bigint, item_category string")
    made = [row.key for row in rows.select(key_value(pair).alias("key")).collect()]
    assert made == keys_of(list(zip(*pairs, strict=True)))
    assert len(set(made) - {None}) == 3 * 9
    single = declared("single", ("item_category",))
    struct = StructType([StructField("item_category", StringType())])
    rows = spark.createDataFrame([(part,) for part in parts], struct)
    assert [row.key for row in rows.select(key_value(single).alias("key")).collect()] == parts
