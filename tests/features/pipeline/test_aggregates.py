"""State and daily aggregates against a plain Python transcription of what they mean."""

import collections
import dataclasses
import datetime
import random

import pytest
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, StringType, StructField, StructType

from features.datasets.catalog import schema_of
from features.lake.lake import day_range
from features.pipeline.availability import declared_availability
from features.pipeline.item_daily import first_impression_day, item_daily
from features.pipeline.user_state import user_state
from features.schema import CREATED, EXAMPLE_ID, Column, Dtype, Kind, TableKind
from features.schema.derived_tables import user_state as user_state_table
from features.spark.session import feature_struct, impressions_struct

pytestmark = pytest.mark.spark

UTC = datetime.UTC
DAY = datetime.timedelta(days=1)
FIRST = datetime.date(2025, 1, 1)
BASE = schema_of("synthetic")
# A short memory and a long label delay, so that small logs cross every limit.
TAGS = Column(
    name="item_tags",
    dtype=Dtype.STRING_LIST,
    kind=Kind.SPARSE,
    hash_size=9,
    max_length=2,
    doc="Tags, which change with the day.",
)
STATE = user_state_table(
    item=BASE.item,
    label=BASE.label,
    history_length=3,
    ttl=2 * DAY,
    delay=datetime.timedelta(seconds=60),
    affinities=[TAGS.name],
    attributes={TAGS.name: TAGS},
)
DELAYED = dataclasses.replace(
    BASE,
    labels=(dataclasses.replace(BASE.label, delay=datetime.timedelta(hours=5)),),
    history_length=3,
    tables=(STATE, *BASE.tables[1:]),
)
PROMPT = dataclasses.replace(
    DELAYED, labels=(dataclasses.replace(BASE.label, delay=datetime.timedelta(0)),)
)


@dataclasses.dataclass(frozen=True, order=True)
class Shown:
    at: datetime.datetime
    item: int
    number: int
    user: int
    click: int

    @property
    def tags(self) -> list[str] | None:
        return [f"t{self.item}", f"d{self.at.day}"][: self.item % 3] or None


def log(seed: int, rows: int = 120, days: int = 9) -> list[Shown]:
    """Few users, many ties, and gaps longer than the time-to-live."""
    drawn = random.Random(seed)
    start = datetime.datetime.combine(FIRST, datetime.time(), UTC)
    hours = [drawn.randrange(days * 24) for _ in range(rows // 2)]
    return sorted(
        Shown(
            at=start + datetime.timedelta(hours=drawn.choice(hours)),
            item=drawn.randrange(6),
            number=number,
            user=drawn.randrange(4),
            click=drawn.randrange(2),
        )
        for number in range(rows)
    )


def frame(spark, schema, shown: list[Shown]):
    rows = [(s.number, s.user, s.item, s.at, "phone", s.click, 0.5, s.tags) for s in shown]
    tags = StructField(TAGS.name, ArrayType(StringType()))
    return spark.createDataFrame(rows, StructType([*impressions_struct(schema).fields, tags]))


def expected_states(schema, shown: list[Shown], ttl: datetime.timedelta) -> dict:
    """State after each moment, by user and moment, from the definition."""
    delay = schema.label.delay
    states = {}
    for user in {s.user for s in shown}:
        mine = [s for s in shown if s.user == user]
        moments = sorted({s.at for s in mine} | {s.at + delay for s in mine})
        born = moments[0]
        for before, now in zip([moments[0], *moments], moments, strict=False):
            if now - before > ttl:
                born = now
            seen = [s for s in mine if born <= s.at <= now]
            known = sorted(
                (s.at + delay, s.item, s.number, s.click, s.tags or [])
                for s in mine
                if born <= s.at + delay <= now
            )
            states[user, now] = (
                len(seen),
                len(known),
                sum(k[3] for k in known),
                [k[1] for k in known[-schema.history_length :]],
                [k[3] for k in known[-schema.history_length :]],
                [tag for k in known[-schema.history_length :] for tag in k[4]],
                [len(k[4]) for k in known[-schema.history_length :]],
            )
    return states


def collected_states(rows) -> dict:
    return {
        (r["user_id"], r["event_timestamp"].replace(tzinfo=UTC)): (
            r["user_impressions_all"],
            r["user_labelled_all"],
            r["user_positives_all"],
            r["user_history_item_ids"],
            r["user_history_labels"],
            r["user_history_item_tags"],
            r["user_history_item_tags_counts"],
        )
        for r in rows.collect()
    }


def states(spark, schema, shown, first, last, carry=None):
    struct = feature_struct(schema, STATE)
    rows = user_state(
        schema,
        STATE,
        impressions=frame(spark, schema, shown),
        carry=carry if carry is not None else spark.createDataFrame([], struct),
        first_day=first,
        last_day=last,
    )
    return rows.withColumn(CREATED, declared_availability(STATE)).select(*struct.names)


@pytest.mark.parametrize("schema", [PROMPT, DELAYED], ids=["prompt labels", "delayed labels"])
def test_state_is_what_its_definition_says(spark, schema):
    shown = log(seed=1)
    found = states(spark, schema, shown, FIRST, FIRST + 10 * DAY)
    assert collected_states(found) == expected_states(schema, shown, STATE.ttl)


@pytest.mark.parametrize("schema", [PROMPT, DELAYED], ids=["prompt labels", "delayed labels"])
def test_day_by_day_gives_the_same_state_as_the_range(spark, schema):
    shown = log(seed=2)
    struct = feature_struct(schema, STATE)
    whole = states(spark, schema, shown, FIRST, FIRST + 9 * DAY)
    split = FIRST + 4 * DAY
    before = states(spark, schema, shown, FIRST, split - DAY)
    midnight = datetime.datetime.combine(split, datetime.time(), UTC)
    carry = before.where(F.col("event_timestamp") >= F.lit(midnight - STATE.ttl - DAY))
    needed = [s for s in shown if s.at >= midnight - DAY]
    after = states(spark, schema, needed, split, FIRST + 9 * DAY, carry.select(*struct.names))
    assert collected_states(before) | collected_states(after) == collected_states(whole)


def test_rates_are_smoothed_and_derived_from_integers(spark):
    shown = log(seed=3)
    row = states(spark, PROMPT, shown, FIRST, FIRST + 10 * DAY).orderBy("event_timestamp").first()
    prior = PROMPT.label.prior_rate * PROMPT.label.prior_weight
    expected = (row["user_positives_all"] + prior) / (
        row["user_labelled_all"] + PROMPT.label.prior_weight
    )
    assert row["user_positive_rate_all"] == expected


def expected_daily(schema, shown, days) -> dict:
    """(impressions, positives) of each item, day and window, from the definition."""
    counts = {}
    delay = schema.label.delay
    windows = {"1d": 1, "7d": 7, "28d": 28, "all": 10_000}
    for day in days:
        for item in {s.item for s in shown}:
            row = {}
            for name, length in windows.items():
                since = day - (length - 1) * DAY if length < 10_000 else datetime.date.min
                row[name] = (
                    sum(s.item == item and since <= s.at.date() <= day for s in shown),
                    sum(
                        s.click
                        for s in shown
                        if s.item == item and since <= (s.at + delay).date() <= day
                    ),
                )
            if row["all"][0]:
                counts[item, day] = row
    return counts


def collected_daily(rows) -> dict:
    return {
        (r["item_id"], r["event_timestamp"].date() - DAY): {
            w: (r[f"item_impressions_{w}"], r[f"item_positives_{w}"])
            for w in ("1d", "7d", "28d", "all")
        }
        for r in rows.collect()
    }


def test_daily_aggregates_are_what_their_definition_says_in_one_range_or_two(spark):
    schema, table = DELAYED, DELAYED.tables_of(TableKind.DAILY)[0]
    shown, days = log(seed=4), day_range(FIRST, FIRST + 8 * DAY)
    struct = feature_struct(schema, table)

    def daily(impressions, days, carry, carry_day):
        rows = item_daily(
            schema,
            table,
            impressions=frame(spark, schema, impressions),
            carry=carry,
            carry_day=carry_day,
            days=days,
        )
        return rows.withColumn(CREATED, declared_availability(table)).select(*struct.names)

    nothing = spark.createDataFrame([], StructType(struct.fields))
    whole = daily(shown, days, nothing, None)
    assert collected_daily(whole) == expected_daily(schema, shown, days)
    carry = whole.where(F.to_date("event_timestamp") == days[4])
    since = first_impression_day(schema, table, first_day=days[4], carry_day=days[3])
    recent = [s for s in shown if s.at.date() >= since]
    later = daily(recent, days[4:], carry, days[3])
    expected = {k: v for k, v in collected_daily(whole).items() if k[1] >= days[4]}
    assert collected_daily(later) == expected


def test_recent_rates_are_those_of_the_last_labels(spark):
    prior, weight = PROMPT.label.prior_rate, PROMPT.label.prior_weight
    rows = states(spark, PROMPT, log(seed=6), FIRST, FIRST + 10 * DAY).collect()
    for length in (1, 3):
        expected = [
            (sum(last) + prior * weight) / (len(last) + weight)
            for last in (r["user_history_labels"][-length:] for r in rows)
        ]
        assert [r[f"user_positive_rate_last_{length}"] for r in rows] == expected


def test_a_state_row_merges_all_that_happened_at_one_moment(spark):
    shown = log(seed=5)
    rows = states(spark, PROMPT, shown, FIRST, FIRST + 10 * DAY)
    keys = [(r["user_id"], r["event_timestamp"]) for r in rows.collect()]
    assert max(collections.Counter(keys).values()) == 1
    assert EXAMPLE_ID not in rows.columns
