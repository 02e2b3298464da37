"""No example contains what was not known at its moment: by schema, by tie, or by correction."""

import dataclasses
import datetime
import random
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import functions as F
from support.features.declared import ALL_KINDS
from support.features.declared import declared as declared_table
from support.lake_rows import UNLEARNT

from features.datasets.catalog import schema_of
from features.lake.lake import EXAMPLES, IMPRESSIONS, IMPRESSIONS_RAW, Lake, day_range
from features.pipeline import jobs
from features.pipeline.availability import declared_availability
from features.pipeline.item_daily import item_daily
from features.pipeline.point_in_time import join_as_of
from features.pipeline.tables.aggregate_rows import aggregate_rows
from features.pipeline.user_state import user_state
from features.pipeline.workspace import Workspace
from features.schema import CREATED, Schema
from features.schema.derived_tables import item_daily as item_daily_table
from features.schema.derived_tables import user_state as user_state_table
from features.spark.session import feature_struct, impressions_struct

UTC = datetime.UTC
MICROSECOND = datetime.timedelta(microseconds=1)
HOUR = datetime.timedelta(hours=1)
NONE = datetime.timedelta(0)
BASE = schema_of("synthetic")
START = datetime.datetime(2025, 1, 1, tzinfo=UTC)
COUNTED = ALL_KINDS[:3] + ALL_KINDS[5:8]
"""Of impressions and labels; the drawn probability is the same in both twins."""
DAYS = day_range(START.date(), START.date() + datetime.timedelta(days=3))


def declared(state_delay, daily_delay, label_delay) -> Schema:
    """The generated data set with these delays; ValueError where a label could reach an input."""
    label = dataclasses.replace(BASE.label, delay=label_delay)
    ttl = datetime.timedelta(days=30)
    state = user_state_table(
        item=BASE.item, label=label, history_length=3, ttl=ttl, delay=state_delay
    )
    daily = item_daily_table(label=label, windows_days=(1, 7), ttl=ttl, delay=daily_delay)
    by_item = declared_table("by_item", ("item_id",), COUNTED, delay=daily_delay)
    return dataclasses.replace(
        BASE, labels=(label,), history_length=3, tables=(state, daily, by_item, *BASE.tables[2:])
    )


spans = st.sampled_from([-HOUR, -MICROSECOND, NONE, MICROSECOND, 60_000_000 * MICROSECOND, HOUR])


@given(spans, spans, spans)
@settings(deadline=None, derandomize=True, max_examples=150)
def test_a_schema_in_which_a_row_could_hold_its_own_impression_is_an_error(state, daily, label):
    """The definition: a row that counts an impression must be visible later than it happened."""
    is_safe = state > NONE and daily >= NONE and label >= NONE
    if is_safe:
        declared(state, daily, label)
        return
    with pytest.raises(ValueError, match=r"delay .* (at least|must be above) 0 s"):
        declared(state, daily, label)


def test_the_error_names_table_delay_and_limit():
    with pytest.raises(ValueError, match=r"table user_state: delay 0 s, label delay 0 s; .* above"):
        declared(NONE, HOUR, NONE)


def test_a_table_without_a_delay_cannot_be_declared():
    table = BASE.table("item_attributes")
    fields = {f.name: getattr(table, f.name) for f in dataclasses.fields(table)}
    del fields["delay"]
    with pytest.raises(TypeError, match="delay"):
        type(table)(**fields)


def test_the_label_and_what_it_is_drawn_from_are_never_inputs():
    click, probability = BASE.stored
    as_input = dataclasses.replace(click, kind="dense")
    with pytest.raises(ValueError, match=r"stored columns \['click'\] are inputs"):
        dataclasses.replace(BASE, stored=(as_input, probability))
    with pytest.raises(ValueError, match="'click' tells the label"):
        dataclasses.replace(BASE, stored=(probability,), context=(*BASE.context, as_input))
    with pytest.raises(ValueError, match="'true_probability' tells the label"):
        dataclasses.replace(BASE, stored=(click,))


# What follows reads logs: each case is a user and items of its own, and all cases are one job.

WHO, WHAT, AT, CLICK = range(4)


def drawn_log(seed: int) -> list[list]:
    """(user, item, moment, click): many at the same moment, and around midnight and the delays."""
    drawn = random.Random(seed)
    moments = [START + drawn.randrange(72) * HOUR for _ in range(4)]
    moments += [
        START + day * 24 * HOUR - offset for day in (1, 2) for offset in (NONE, MICROSECOND)
    ]
    return [[0, drawn.randrange(3), drawn.choice(moments), drawn.randrange(2)] for _ in range(10)]


def twins(seeds, schema) -> tuple[list[list], dict]:
    """Each drawn log twice, as users and items of their own, one label of the second flipped.

    Returns the rows, and of each row of a first log its twin's and when the flipped label is known.
    """
    rows, pairs = [], {}
    for case, seed in enumerate(seeds):
        log = drawn_log(seed)
        flipped = random.Random(seed).randrange(len(log))
        known_at = log[flipped][AT] + schema.label.delay
        for twin in (0, 1):
            for number, row in enumerate(log):
                who = 2 * case + twin
                click = row[CLICK] ^ (twin == 1 and number == flipped)
                rows.append([who, 10 * who + row[WHAT], row[AT], click])
        first = len(rows) - 2 * len(log)
        for number in range(len(log)):
            pairs[first + number] = (first + len(log) + number, known_at)
    return rows, pairs


def examples_of(spark, schema, rows) -> dict[int, tuple]:
    """Every computed feature of each row's impression, by the jobs' own functions."""
    shown = [(n, r[WHO], r[WHAT], r[AT], "phone", r[CLICK], 0.5) for n, r in enumerate(rows)]
    impressions = spark.createDataFrame(shown, impressions_struct(schema)).cache()
    state, daily, by_item = schema.tables[:3]
    empty = {t: spark.createDataFrame([], feature_struct(schema, t)) for t in schema.tables[:3]}
    span = {"impressions": impressions}
    states = user_state(
        schema, state, carry=empty[state], first_day=DAYS[0], last_day=DAYS[-1], **span
    )
    dailies = item_daily(schema, daily, carry=empty[daily], carry_day=None, days=DAYS, **span)
    rows_by_item = aggregate_rows(
        schema, by_item, carry=empty[by_item], carry_day=None, days=DAYS, **span
    )
    joined = impressions
    for table, found in ((state, states), (daily, dailies), (by_item, rows_by_item)):
        created = found.withColumn(CREATED, declared_availability(table))
        key = schema.entity(table.role).name
        joined = join_as_of(joined, created.drop("day"), table, key=key, time="timestamp")
    names = [c.name for table in schema.tables[:3] for c in table.columns]
    names.remove("user_history_item_ids")  # a twin's items have other ids
    return {r["example_id"]: tuple(r[n] for n in names) for r in joined.collect()}


cases = st.lists(st.integers(0, 10**6), min_size=20, max_size=20, unique=True)
positive = st.sampled_from([MICROSECOND, 60_000_000 * MICROSECOND, HOUR])
any_delay = st.sampled_from([NONE, MICROSECOND, HOUR, 30 * HOUR])


@pytest.mark.spark
@given(cases, positive, any_delay, any_delay)
@settings(
    deadline=None,
    derandomize=True,
    max_examples=4,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_no_example_knows_a_label_before_its_time(spark, seeds, state_delay, daily_delay, label):
    """Another label changes nothing of any example up to the moment at which it is known."""
    schema = declared(state_delay, daily_delay, label)
    rows, pairs = twins(seeds, schema)
    found = examples_of(spark, schema, rows)
    assert len(pairs) == 10 * len(seeds)
    differ = {one for one, (twin, _) in pairs.items() if found[one] != found[twin]}
    for one in differ:
        known_at = pairs[one][1]
        next_day = datetime.datetime.combine(known_at.date(), datetime.time(), UTC) + 24 * HOUR
        assert rows[one][AT] >= min(known_at + state_delay, next_day + daily_delay), rows[one]
    assert differ


@pytest.mark.spark
def test_a_label_is_known_from_the_very_moment_on_and_not_a_microsecond_before(spark):
    """The rule of ties, and that the test above would see a leak: here one is planted."""
    schema = declared(MICROSECOND, HOUR, HOUR)
    visible = START + HOUR + MICROSECOND
    rows = [[who, 10 * who, START, who] for who in (0, 1)]
    rows += [
        [who, 10 * who + 1, at, 0] for who in (0, 1) for at in (visible - MICROSECOND, visible)
    ]
    found = examples_of(spark, schema, rows)
    assert found[2] == found[4]
    assert found[3] != found[5]
    too_early = dataclasses.replace(schema.tables[0], delay=NONE)
    object.__setattr__(schema, "tables", (too_early, *schema.tables[1:]))
    found = examples_of(spark, schema, rows)
    assert found[2] != found[3]


@pytest.mark.spark
def test_a_later_day_that_is_built_again_does_not_date_a_correction_back(spark, built, tmp_path):
    """The correction of a day is known to examples from its moment on, whatever is built again."""
    shutil.copytree(built.lake, tmp_path / "lake", symlinks=True, ignore=UNLEARNT)
    work = Workspace(spark, built.schema, Lake(tmp_path / "lake", built.schema.name))
    corrected, *later = built.days[-3:]
    before = examples_in(work, later)
    moment = datetime.datetime.combine(later[1], datetime.time(12), UTC)
    at = {corrected: moment}
    for table in (IMPRESSIONS_RAW, IMPRESSIONS):
        rows = work.impressions([corrected], table)
        turned = rows.withColumn("click", 1 - F.col("click"))
        work.replace(turned, table, [corrected], keys=["example_id"], corrected_at=at)
    for day in (corrected, *later):
        jobs.publish_features(work, jobs.build(work, built.landing, [day]), [day])
        jobs.examples(work, [day])
    after = examples_in(work, later)
    known = {number for number, (shown_at, _) in before.items() if shown_at >= moment}
    assert {n for n in before if n not in known and before[n] != after[n]} == set()
    assert sum(before[n] != after[n] for n in known) > 100


def examples_in(work, days) -> dict[int, tuple]:
    """Of each example of some days, its moment and all of its row."""
    found = work.lake.snapshot(EXAMPLES)
    files = [str(path) for day in days for path in found.files(day)]
    rows = work.spark.read.parquet(*files).collect()
    return {r["example_id"]: (r["timestamp"].replace(tzinfo=UTC), r) for r in rows}
