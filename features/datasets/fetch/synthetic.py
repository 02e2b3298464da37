"""Generator of impressions whose true click probabilities are known.

The log odds of a click are a sum of main effects (item quality, price, device), a second-order
interaction (segment with category, and the dot product of a user and an item vector), a third-order
interaction (segment, category and device) and a slow drift of the categories. Every random number
is a hash of the seed and the ids that it belongs to, so a row depends on its ids alone, whatever
the number of Spark partitions.
"""

import datetime
import math

import numpy as np
import pyarrow.compute as pc
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from features.places import Place
from features.schema import DAY, EXAMPLE_ID, Schema
from features.spark import landing as land
from features.spark.session import start_session

_SUFFIX = "parquet"
_SECONDS_PER_DAY = 86_400
_UNIFORM_STEPS = 1 << 53
_LATENT_DIMENSIONS = 4
_DRIFT_PERIOD_DAYS = 60
_BIAS = -1.1


def fetch(
    schema: Schema, landing: Place, *, rows: int, users: int, items: int, days: int, seed: int
) -> dict[str, int | float]:
    """Generate and land a log of ``rows`` impressions over ``days`` days, and its users and items.

    Returns:
        The numbers of rows and days, and the mean log loss of the true probabilities, which is the
        best that any model can expect.
    """
    for name, value in (("rows", rows), ("users", users), ("items", items), ("days", days)):
        if value < 1:
            raise ValueError(f"{name}: {value}; at least 1")
    spark = start_session("generate")
    log = _impressions(spark, schema, rows=rows, users=users, items=items, days=days, seed=seed)
    generated = log.toArrow()
    for offset in range(days):
        day = schema.first_day + datetime.timedelta(days=offset)
        of_day = generated.filter(pc.equal(generated.column(DAY), day)).drop_columns([DAY])
        land.write_table(land.impressions_file(landing, day, _SUFFIX), of_day)
    land.write_table(landing / "users.parquet", _users(spark, schema, users, seed).toArrow())
    land.write_table(landing / "items.parquet", _items(spark, schema, items, seed).toArrow())
    true = generated.column("true_probability").to_numpy()
    best = -(true * np.log(true) + (1 - true) * np.log1p(-true)).mean()
    return {"rows": rows, "days": days, "best_log_loss": float(best)}


def _impressions(
    spark: SparkSession,
    schema: Schema,
    *,
    rows: int,
    users: int,
    items: int,
    days: int,
    seed: int,
) -> DataFrame:
    """The log: who saw what, when, on which device, with which probability, and whether clicked."""
    start = int(
        datetime.datetime.combine(schema.first_day, datetime.time(), datetime.UTC).timestamp()
    )
    row = F.col(EXAMPLE_ID)
    # Squaring a uniform number makes some users and items much more frequent than others.
    drawn = spark.range(rows).select(
        F.col("id").alias(EXAMPLE_ID),
        F.floor(F.pow(_uniform(seed, "user", F.col("id")), 2) * users).alias("user_id"),
        F.floor(F.pow(_uniform(seed, "item", F.col("id")), 2) * items).alias("item_id"),
        F.floor(F.col("id") * (days * _SECONDS_PER_DAY / rows)).cast("bigint").alias("_second"),
        _choice(seed, "device", F.col("id"), _words(schema, "device")).alias("device"),
    )
    day_number = F.floor(F.col("_second") / _SECONDS_PER_DAY)
    scored = drawn.withColumn("_logit", _logit(schema, seed, day_number))
    clicked = scored.withColumn("true_probability", 1 / (1 + F.exp(-F.col("_logit"))))
    return clicked.select(
        EXAMPLE_ID,
        "user_id",
        "item_id",
        F.timestamp_seconds(F.lit(start) + F.col("_second")).alias("timestamp"),
        "device",
        (_uniform(seed, "click", row) < F.col("true_probability")).cast("bigint").alias("click"),
        "true_probability",
        F.date_add(F.lit(schema.first_day), day_number.cast("int")).alias(DAY),
    )


def _logit(schema: Schema, seed: int, day_number: SparkColumn) -> SparkColumn:
    user, item, device = F.col("user_id"), F.col("item_id"), F.col("device")
    segment = _choice(seed, "segment", user, _words(schema, "user_segment"))
    category = _choice(seed, "category", item, _words(schema, "item_category"))
    affinity = sum(
        (
            _normal(seed, f"user-vector-{n}", user) * _normal(seed, f"item-vector-{n}", item)
            for n in range(_LATENT_DIMENSIONS)
        ),
        F.lit(0.0),
    )
    phase = _uniform(seed, "phase", category) * (2 * math.pi)
    drift = F.sin(phase + day_number * (2 * math.pi / _DRIFT_PERIOD_DAYS))
    return (
        F.lit(_BIAS)
        + 0.6 * _normal(seed, "quality", item)
        + 0.3 * _normal(seed, "device-effect", device)
        - 0.3 * _price(seed, item)
        + 0.35 * affinity
        + 0.8 * _normal(seed, "pair", F.concat_ws("|", segment, category))
        + 0.8 * _normal(seed, "triple", F.concat_ws("|", segment, category, device))
        + 0.4 * drift
    )


def _users(spark: SparkSession, schema: Schema, users: int, seed: int) -> DataFrame:
    segment = _choice(seed, "segment", F.col("id"), _words(schema, "user_segment"))
    return spark.range(users).select(F.col("id").alias("user_id"), segment.alias("user_segment"))


def _items(spark: SparkSession, schema: Schema, items: int, seed: int) -> DataFrame:
    category = _choice(seed, "category", F.col("id"), _words(schema, "item_category"))
    return spark.range(items).select(
        F.col("id").alias("item_id"),
        category.alias("item_category"),
        _price(seed, F.col("id")).alias("item_price"),
    )


def _words(schema: Schema, name: str) -> tuple[str, ...]:
    """The vocabulary of a column."""
    return next(column.vocabulary for column in schema.columns() if column.name == name)


def _price(seed: int, item: SparkColumn) -> SparkColumn:
    return F.abs(_normal(seed, "price", item))


def _uniform(seed: int, purpose: str, key: SparkColumn) -> SparkColumn:
    """A number in [0, 1) that depends on the seed, the purpose and the key only."""
    mixed = F.xxhash64(F.lit(f"{seed}/{purpose}"), key.cast("string"))
    return F.pmod(mixed, F.lit(_UNIFORM_STEPS)) / float(_UNIFORM_STEPS)


def _normal(seed: int, purpose: str, key: SparkColumn) -> SparkColumn:
    """A standard normal number that depends on the key only, by Box and Muller."""
    radius = F.sqrt(-2 * F.log(1 - _uniform(seed, f"{purpose}/radius", key)))
    return radius * F.cos(_uniform(seed, f"{purpose}/angle", key) * (2 * math.pi))


def _choice(seed: int, purpose: str, key: SparkColumn, values: tuple[str, ...]) -> SparkColumn:
    index = F.floor(_uniform(seed, purpose, key) * len(values)).cast("int")
    return F.element_at(F.array(*map(F.lit, values)), index + 1)
