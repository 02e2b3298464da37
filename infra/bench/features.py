"""``make bench-features``: rows per second of state, aggregates and as-of join.

Each size is one log of 28 days with users and items in proportion; every result is written out, the
state as Parquet and the others by a Spark job that keeps nothing, so that no column can be left
uncomputed. At a size at which Feast's range join can finish, it runs on the same rows.
"""

import dataclasses
import datetime
import json
import sys
import time
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from features.datasets.catalog import schema_of
from features.datasets.synthetic import reader as synthetic
from features.online_store import feast_store
from features.options import from_flags, option, parse
from features.pipeline.availability import declared_availability
from features.pipeline.item_daily import item_daily
from features.pipeline.point_in_time import join_as_of
from features.pipeline.user_state import user_state
from features.pipeline.workspace import Workspace
from features.places import place
from features.schema import CREATED, DAY, FeatureTable, TableKind
from features.spark.lake import Lake, day_range
from features.spark.landing import impressions_file
from features.spark.session import feature_struct, start_session
from infra.local.settings import REPOSITORY

FOLDER = REPOSITORY / "var" / "bench"
_DAYS = 28
_ROWS_PER_USER, _ROWS_PER_ITEM = 100, 1_000


@from_flags
class BenchRequest:
    """Measure rows per second of state, aggregates and join."""

    rows: tuple[int, ...] = option(
        "sizes, smallest first", default=(100_000, 1_000_000, 10_000_000)
    )
    feast_rows: int = option("size at which Feast's join runs too", default=50_000)


@dataclasses.dataclass(frozen=True)
class _Log:
    work: Workspace
    impressions: DataFrame
    state: FeatureTable
    daily: FeatureTable
    days: list[datetime.date]


def main() -> None:
    """Measure every size; print seconds and rows per second, the growth, and Feast's ratio."""
    request = parse(BenchRequest, prog="python -m infra.bench.features")
    measured = [_measure(rows) for rows in request.rows]
    total = [sum(one["seconds"].values()) for one in measured]
    ours, feast = _against_feast(request.feast_rows)
    found = {
        "sizes": measured,
        "growth_10x": round(total[-1] / total[-2], 2) if len(total) > 1 else None,
        "feast_rows": request.feast_rows,
        "join_seconds": round(ours, 2),
        "feast_join_seconds": round(feast, 2),
        "ratio_to_feast": round(feast / ours, 1),
    }
    sys.stdout.write(json.dumps(found) + "\n")


def _measure(rows: int) -> dict[str, Any]:
    log = _open(rows)
    state, daily = _state(log), _daily(log)
    stored = FOLDER / f"state-{rows}"
    started = time.perf_counter()
    state.write.mode("overwrite").parquet(str(stored))
    seconds = {"state": time.perf_counter() - started, "aggregates": _timed(daily)}
    read_back = log.work.spark.read.parquet(str(stored))
    seconds["join"] = _timed(_joined(log, read_back))
    speeds = {name: round(rows / value) for name, value in seconds.items()}
    sys.stderr.write(f"{rows:,} rows: {speeds} rows/s\n")
    rounded = {name: round(value, 2) for name, value in seconds.items()}
    return {"rows": rows, "seconds": rounded, "rows_per_second": speeds}


def _against_feast(rows: int) -> tuple[float, float]:
    """Seconds of our join and of Feast's on the same log, feature rows and impressions."""
    log = _open(rows)
    lake = log.work.lake
    lake.replace(
        _state(log).withColumn(DAY, F.to_date("event_timestamp")),
        log.state.name,
        day_range(log.days[0], log.days[-1] + datetime.timedelta(days=1)),
        keys=["user_id"],
    )
    path = str(lake.path(log.state.name))
    rows_frame = log.work.spark.read.parquet(path).drop(DAY)
    ours = min(_timed(_joined(log, rows_frame)) for _ in range(2))
    feast_store.apply(log.work.schema, place(FOLDER / "feast"), place(FOLDER / "lake"))
    feast = feast_store.open_store(log.work.schema, place(FOLDER / "feast"))
    entities = log.impressions.select("user_id", F.col("timestamp").alias("event_timestamp"))
    refs = [f"{log.state.name}:{column.name}" for column in log.state.columns]
    started = time.perf_counter()
    joined = feast.get_historical_features(
        entities.toPandas(), refs, filter_by_created_timestamp=True
    )
    joined.to_spark_df().write.format("noop").mode("overwrite").save()
    return ours, time.perf_counter() - started


def _open(rows: int) -> _Log:
    """Generate a log of ``rows`` impressions and open it."""
    schema = schema_of("synthetic")
    landing = place(FOLDER / f"landing-{rows}")
    items = max(100, rows // _ROWS_PER_ITEM)
    users = max(100, rows // _ROWS_PER_USER)
    synthetic.fetch(landing, rows=rows, users=users, items=items, days=_DAYS, seed=0)
    spark = start_session("bench", spark_driver_memory="8g", spark_sql_shuffle_partitions="8")
    days = day_range(schema.first_day, schema.first_day + datetime.timedelta(days=_DAYS - 1))
    landed = [impressions_file(landing, day, synthetic.SUFFIX) for day in days]
    return _Log(
        work=Workspace(spark, schema, Lake(FOLDER / "lake", schema.name)),
        impressions=synthetic.read_files(spark, landed),
        state=schema.tables_of(TableKind.STATE)[0],
        daily=schema.tables_of(TableKind.DAILY)[0],
        days=days,
    )


def _state(log: _Log) -> DataFrame:
    first, last = log.days[0], log.days[-1]
    named = {"impressions": log.impressions, "carry": _no_rows(log, log.state)}
    rows = user_state(log.work.schema, log.state, **named, first_day=first, last_day=last)
    return _countable(log, log.state, rows)


def _daily(log: _Log) -> DataFrame:
    named = {"impressions": log.impressions, "carry": _no_rows(log, log.daily)}
    rows = item_daily(log.work.schema, log.daily, **named, carry_day=None, days=log.days)
    return _countable(log, log.daily, rows)


def _countable(log: _Log, table: FeatureTable, rows: DataFrame) -> DataFrame:
    named = rows.withColumn(CREATED, declared_availability(table))
    return named.select(*feature_struct(log.work.schema, table).names)


def _joined(log: _Log, rows: DataFrame) -> DataFrame:
    return join_as_of(log.impressions, rows, log.state, key="user_id", time="timestamp")


def _no_rows(log: _Log, table: FeatureTable) -> DataFrame:
    return log.work.spark.createDataFrame([], feature_struct(log.work.schema, table))


def _timed(frame: DataFrame) -> float:
    started = time.perf_counter()
    frame.write.format("noop").mode("overwrite").save()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
