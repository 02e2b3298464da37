"""Declared histories against a plain Python transcription of what they mean."""

import dataclasses

import pytest
from pyspark.sql import functions as F
from support.features.declared import (
    BASE,
    DAY,
    HOUR,
    declared,
    history,
    with_tables,
)
from support.features.declared_rows import DAYS, by_key_and_day, carried, log, micros, rows_of

from features.pipeline.item_daily import first_impression_day
from features.schema import Label

pytestmark = pytest.mark.spark

ORDER = Label(
    name="order",
    column="order",
    positive_from=1,
    delay=HOUR,
    join=("user_id", "item_id"),
    window=2 * DAY,
)
SLOW = dataclasses.replace(BASE, labels=(dataclasses.replace(BASE.label, delay=30 * HOUR), ORDER))
HISTORIES = (
    history("clicked", "click", 3, "item_id", "device", "age"),
    history("ordered", "order", 2, "age"),
    history("shown", "impressions", 5, "age", "item_id"),
)
TABLE = declared("interests", ("user_id",), (), histories=HISTORIES, schema=SLOW, windows_days=())
SCHEMA = with_tables(TABLE, schema=SLOW)
IS_OF = {
    "clicked": lambda row: row["click"],
    "ordered": lambda row: row["example_id"] % 3 == 0,
    "shown": lambda row: True,
}
KNOWN_AFTER = {"clicked": 30 * HOUR, "ordered": 49 * HOUR, "shown": 0 * HOUR}


def expected(shown) -> dict:
    """Every list of every user and day, from the definition."""
    found, in_order = {}, sorted(shown, key=lambda row: (row["timestamp"], row["example_id"]))
    for day in DAYS:
        for user in {row["user_id"] for row in shown if row["timestamp"].date() <= day}:
            row = found[user, day] = {"user_id": user}
            for one in HISTORIES:
                last = [
                    entry | {"age": micros(entry["timestamp"])}
                    for entry in in_order
                    if entry["user_id"] == user
                    and IS_OF[one.name](entry)
                    and (entry["timestamp"] + KNOWN_AFTER[one.name]).date() <= day
                    and all(entry[name] is not None for name in one.columns if name != "age")
                ][: -one.length - 1 : -1]
                row |= {f"{one.name}_{name}": [e[name] for e in last] for name in one.columns}
    return found


def rows(spark, shown, days, **options):
    more = {"order": (F.col("example_id") % 3 == 0).cast("bigint")}
    return rows_of(spark, SCHEMA, TABLE, shown, days, key="user_id", more=more, **options)


def test_lists_are_what_their_definition_says_in_one_range_or_two(spark):
    """With impressions of a user at one moment, and with some that lack a device."""
    shown = log(1, rows=300)
    moments = {(row["user_id"], row["timestamp"]) for row in shown}
    assert len(moments) < len(shown) - 20
    whole = rows(spark, shown, DAYS)
    assert by_key_and_day(whole) == expected(shown)
    split = 5
    before = DAYS[split - 1]
    since = first_impression_day(SCHEMA, TABLE, first_day=DAYS[split], carry_day=before)
    recent = [row for row in shown[::-1] if row["timestamp"].date() >= since]
    assert since == DAYS[split] - 3 * DAY
    assert len(recent) < len(shown)
    later = rows(spark, recent, DAYS[split:], carry=carried(whole, before), carry_day=before)
    in_range = {key: row for key, row in expected(shown).items() if key[1] >= DAYS[split]}
    assert by_key_and_day(later) == in_range
