"""People read features as they were usable at a moment, from a version that stays the same."""

import dataclasses
import datetime

import pandas as pd
import pytest
from pyspark.sql import functions as F

from features.datasets.catalog import schema_of
from features.historical_features import historical_features
from features.lake.lake import Lake
from features.places import place
from features.schema import CREATED, DAY, EVENT_TIMESTAMP
from features.spark.session import feature_struct

pytestmark = pytest.mark.spark
HOUR = datetime.timedelta(hours=1)
START = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
TABLE = dataclasses.replace(schema_of("synthetic").table("item_daily"), ttl=24 * HOUR)
SCHEMA = dataclasses.replace(schema_of("synthetic"), tables=(TABLE,))
FEATURE = TABLE.columns[0].name


def publish(spark, lake, *rows):
    """Replace the day by rows of item 1: event and creation in hours, and a value."""
    filled = [
        (1, START + event * HOUR, START + created * HOUR, value, *[None] * (len(TABLE.columns) - 1))
        for event, created, value in rows
    ]
    frame = spark.createDataFrame(filled, feature_struct(SCHEMA, TABLE))
    frame = frame.withColumn(DAY, F.to_date(EVENT_TIMESTAMP))
    tables = Lake(lake, SCHEMA.name)
    tables.replace(frame, TABLE.name, [START.date()], keys=["item_id", EVENT_TIMESTAMP, CREATED])
    return tables.snapshot(TABLE.name).version


def read(lake, hours, **how):
    """The feature at some hours."""
    asked = pd.DataFrame({"item_id": 1, "event_timestamp": [START + hour * HOUR for hour in hours]})
    found = historical_features(SCHEMA, asked, lake=place(lake), **how)
    return found.sort_values("event_timestamp")[FEATURE].astype("Int64").tolist()


def test_a_correction_is_not_seen_before_it_counts_and_a_version_stays_as_it_was(spark, tmp_path):
    before = publish(spark, tmp_path, (0, 0, 5), (0, 10, 6))
    assert read(tmp_path, [9, 10, 23]) == [5, 6, 6]
    publish(spark, tmp_path, (0, 0, 7))
    assert read(tmp_path, [9, 10]) == [7, 7]
    assert read(tmp_path, [9, 10], versions={TABLE.name: before}) == [5, 6]


def test_a_question_without_a_moment_or_an_id_is_refused(tmp_path):
    asked = pd.DataFrame({"item_id": [1, 2], "event_timestamp": [START, pd.NaT]})
    with pytest.raises(ValueError, match="1 of 2 rows have no event_timestamp; without one"):
        historical_features(SCHEMA, asked, lake=place(tmp_path))
    with pytest.raises(ValueError, match="no column event_timestamp"):
        historical_features(SCHEMA, asked[["item_id"]], lake=place(tmp_path))
    with pytest.raises(ValueError, match=r"no id; one of .*item_id"):
        historical_features(SCHEMA, asked[["event_timestamp"]][:1], lake=place(tmp_path))
