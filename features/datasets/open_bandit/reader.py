"""Reader of the small Open Bandit data set, as the Open Bandit Pipeline's wheel carries it."""

import csv
import datetime
import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from operator import itemgetter

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from features.datasets.open_bandit.schema import SCHEMA
from features.places import Place
from features.schema import DAY, EXAMPLE_ID, SOURCE, FeatureTable
from features.spark import landing as land
from features.spark import read_landed

SUFFIX = "tsv"
_WHEEL = "obp==0.4.1"
_SHA256 = "87dec9caf4283c25ab13036532e0a24566f1c7bdcad1653a8ded43b2f5ef8208"
_POLICIES = ("bts", "random")
_CAMPAIGNS = ("all", "men", "women")
_USER_FEATURES = tuple(f"user_feature_{n}" for n in range(4))
_ITEM_FEATURES = tuple(f"item_feature_{n}" for n in range(4))
_HEADER = ("example_id", "item_id", "timestamp", "position", "click", "propensity", "policy")


def fetch(landing: Place, **_: int) -> dict[str, int]:
    """Land the log: one file a day with both policies and all campaigns, and the items."""
    wheel = land.download_wheel(_WHEEL, _SHA256)
    by_day: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    number = 0
    for policy in _POLICIES:
        for campaign in _CAMPAIGNS:
            for row in _rows(wheel, f"obp/dataset/obd/{policy}/{campaign}/{campaign}.csv"):
                by_day[row["timestamp"][:10]].append(_landed(row, number, policy, campaign))
                number += 1
    for day, rows in by_day.items():
        path = land.impressions_file(landing, datetime.date.fromisoformat(day), SUFFIX)
        land.write_rows(path, (*_HEADER, *_USER_FEATURES), sorted(rows, key=itemgetter(2)))
    items = [
        (f"{campaign}-{row['item_id']}", *(row[name] for name in _ITEM_FEATURES))
        for campaign in _CAMPAIGNS
        for row in _rows(wheel, f"obp/dataset/obd/random/{campaign}/item_context.csv")
    ]
    land.write_rows(landing / "items.tsv", ("item_id", *_ITEM_FEATURES), items)
    return {"rows": number, "days_with_rows": len(by_day)}


def _rows(wheel: Place, member: str) -> Iterator[dict[str, str]]:
    return csv.DictReader(io.StringIO(land.member_text(wheel, member)))


def _landed(row: dict[str, str], number: int, policy: str, campaign: str) -> tuple[str, ...]:
    return (
        str(number),
        f"{campaign}-{row['item_id']}",
        row["timestamp"],
        row["position"],
        row["click"],
        row["propensity_score"],
        policy,
        *(row[name] for name in _USER_FEATURES),
    )


def read_files(spark: SparkSession, paths: Sequence[Place]) -> DataFrame:
    """Impressions of some landed files, typed, with ``day`` and where each landed."""
    raw = read_landed.delimited(spark, paths)
    columns = {column.name: F.col(column.name) for column in SCHEMA.impression_columns()}
    return raw.select(
        F.col(EXAMPLE_ID).try_cast("long").alias(EXAMPLE_ID),
        *read_landed.typed(SCHEMA, columns),
        *SOURCE,
        DAY,
    )


def read_attributes(spark: SparkSession, landing: Place, table: FeatureTable) -> DataFrame:
    """The shop's description of the garments."""
    raw = read_landed.delimited(spark, [landing / "items.tsv"])
    names = ("item_id", *(column.name for column in table.columns))
    return raw.select(*read_landed.typed(SCHEMA, {name: F.col(name) for name in names}))
