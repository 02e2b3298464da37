"""Rows per second of the state, the aggregates and the as-of join on generated logs.

Each size is one log of 28 days with users and items in proportion; every result is written out, the
state as Parquet and the others by a Spark job that keeps nothing, so that no column can be left
uncomputed. At a size at which Feast's range join can finish, it runs on the same rows.
"""

import dataclasses
import datetime
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypedDict

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from features.datasets.catalog import schema_of
from features.datasets.synthetic import reader as synthetic
from features.online_store import feast_store
from features.pipeline.availability import declared_availability
from features.pipeline.item_daily import item_daily
from features.pipeline.point_in_time import join_as_of
from features.pipeline.user_state import user_state
from features.pipeline.workspace import Workspace
from features.schema import CREATED, DAY, FeatureTable, TableKind
from features.spark.lake import Lake, day_range
from features.spark.session import feature_struct, start_session

logger = logging.getLogger(__name__)

_DAYS = 28
_ROWS_PER_USER, _ROWS_PER_ITEM = 100, 1_000


@dataclasses.dataclass(frozen=True)
class _Log:
    work: Workspace
    impressions: DataFrame
    state: FeatureTable
    daily: FeatureTable
    days: list[datetime.date]
    rows: int


class _Speed(TypedDict):
    rows: int
    seconds: dict[str, float]
    rows_per_second: dict[str, int]


def run_bench(folder: Path, *, sizes: Sequence[int], feast_rows: int) -> dict[str, object]:
    """Measure every size; returns seconds and rows per second, the growth, and Feast's ratio."""
    measured = [_measure(folder, rows) for rows in sizes]
    total = [sum(one["seconds"].values()) for one in measured]
    ours, feast = _against_feast(folder, feast_rows)
    return {
        "sizes": measured,
        "growth_10x": round(total[-1] / total[-2], 2) if len(total) > 1 else None,
        "feast_rows": feast_rows,
        "join_seconds": round(ours, 2),
        "feast_join_seconds": round(feast, 2),
        "ratio_to_feast": round(feast / ours, 1),
    }


def _measure(folder: Path, rows: int) -> _Speed:
    log = _open(folder, rows)
    state, daily = _state(log), _daily(log)
    stored = folder / f"state-{rows}"
    started = time.perf_counter()
    state.write.mode("overwrite").parquet(str(stored))
    seconds = {"state": time.perf_counter() - started, "aggregates": _timed(daily)}
    read_back = log.work.spark.read.parquet(str(stored))
    seconds["join"] = _timed(_joined(log, read_back))
    speeds = {name: round(rows / value) for name, value in seconds.items()}
    logger.info("%d rows: %s rows/s", rows, speeds)
    rounded = {name: round(value, 2) for name, value in seconds.items()}
    return {"rows": rows, "seconds": rounded, "rows_per_second": speeds}


def _against_feast(folder: Path, rows: int) -> tuple[float, float]:
    """Seconds of our join and of Feast's on the same log, feature rows and impressions."""
    log = _open(folder, rows)
    lake = Lake(folder / "lake", log.work.schema.name)
    lake.replace(
        _state(log).withColumn(DAY, F.to_date("event_timestamp")),
        log.state.name,
        day_range(log.days[0], log.days[-1] + datetime.timedelta(days=1)),
        keys=["user_id"],
    )
    path = str(lake.path(log.state.name))
    rows_frame = log.work.spark.read.parquet(path).drop(DAY)
    ours = min(_timed(_joined(log, rows_frame)) for _ in range(2))
    feast_store.apply(log.work.schema, folder / "feast", folder / "lake")
    feast = feast_store.open_store(log.work.schema, folder / "feast", folder / "lake")
    entities = log.impressions.select("user_id", F.col("timestamp").alias("event_timestamp"))
    refs = [f"{log.state.name}:{column.name}" for column in log.state.columns]
    started = time.perf_counter()
    joined = feast.get_historical_features(
        entities.toPandas(), refs, filter_by_created_timestamp=True
    )
    joined.to_spark_df().write.format("noop").mode("overwrite").save()
    return ours, time.perf_counter() - started


def _open(folder: Path, rows: int) -> _Log:
    """Generate a log of ``rows`` impressions and open it."""
    schema = schema_of("synthetic")
    landing = folder / f"landing-{rows}"
    items = max(100, rows // _ROWS_PER_ITEM)
    users = max(100, rows // _ROWS_PER_USER)
    synthetic.fetch(landing, rows=rows, users=users, items=items, days=_DAYS, seed=0)
    spark = start_session("bench", spark_driver_memory="8g", spark_sql_shuffle_partitions="8")
    days = day_range(schema.first_day, schema.first_day + datetime.timedelta(days=_DAYS - 1))
    return _Log(
        work=Workspace(spark, schema, Lake(folder / "lake", schema.name)),
        impressions=synthetic.read_impressions(spark, landing, days),
        state=schema.tables_of(TableKind.STATE)[0],
        daily=schema.tables_of(TableKind.DAILY)[0],
        days=days,
        rows=rows,
    )


def _state(log: _Log) -> DataFrame:
    rows = user_state(
        log.work.schema,
        log.state,
        impressions=log.impressions,
        carry=_no_rows(log, log.state),
        first_day=log.days[0],
        last_day=log.days[-1],
    )
    return _countable(log, log.state, rows)


def _daily(log: _Log) -> DataFrame:
    rows = item_daily(
        log.work.schema,
        log.daily,
        impressions=log.impressions,
        carry=_no_rows(log, log.daily),
        carry_day=None,
        days=log.days,
    )
    return _countable(log, log.daily, rows)


def _countable(log: _Log, table: FeatureTable, rows: DataFrame) -> DataFrame:
    named = rows.withColumn(CREATED, declared_availability(table))
    return named.select(*feature_struct(log.work.schema, table).names)


def _joined(log: _Log, rows: DataFrame) -> DataFrame:
    return join_as_of(log.impressions, rows, log.state, key="user_id", time="timestamp")


def _no_rows(log: _Log, table: FeatureTable) -> DataFrame:
    return log.work.spark.createDataFrame([], feature_struct(log.work.schema, table))


def _timed(frame: DataFrame, clock: Callable[[], float] = time.perf_counter) -> float:
    started = clock()
    frame.write.format("noop").mode("overwrite").save()
    return clock() - started
