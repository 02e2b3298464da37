"""``make bench-features``: what a day's feature jobs cost, through the lake, as ratios of one run.

- ``growth_10x``: seconds of state, aggregates and as-of join, each with its write, at the largest
  size over those at the one before; a log of 28 days with users and items in proportion.
- ``memory_10x``: the peak memory of the same, at the largest size over that at the one before.
- ``duckdb_ratio``: the as-of join with its write over DuckDB's ASOF JOIN that writes Parquet, at
  the largest size, on the same files with as many threads.
- ``history_ratio``: ``build`` and ``examples`` of a day after 365 days of history over the same
  after 30 days; a row of state counts for a year.
- ``cores_ratio``: the same of one large day on one core over that on two.
- ``skew_ratio``: the same of a large day of which one item has a tenth over one without.
- ``ratio_to_feast``: Feast's range join over ours, without a write, at a size that it can finish.
"""

import contextlib
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import psutil
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from features.lake.lake import EXAMPLES, IMPRESSIONS_RAW
from features.online_store import feast_store
from features.options import from_flags, option, parse
from features.pipeline import jobs
from features.places import remove_folder
from features.schema import CREATED, EVENT_TIMESTAMP, EXAMPLE_ID
from infra.bench.feature_log import (
    FOLDER,
    FeatureLog,
    build,
    open_log,
    open_workspace,
    publish_impressions,
    with_history,
)
from infra.bench.places import against_s3

_LONG, _SHORT = 365, 30
"""Days of history that are compared."""
_ROUNDS = 3
"""How often a day's jobs are timed; the shortest counts."""
_KEYS = ("user_id", EVENT_TIMESTAMP, CREATED)


@from_flags
class BenchRequest:
    """Measure a day's feature jobs: growth, history, cores, skew, S3, against DuckDB and Feast."""

    rows: tuple[int, ...] = option(
        "sizes, smallest first", default=(100_000, 1_000_000, 10_000_000)
    )
    feast_rows: int = option("size at which Feast's join runs too", default=50_000)
    day_rows: int = option("impressions of the large day", default=1_000_000)
    history_rows: int = option("impressions of each day of the history", default=5_000)
    s3_rows: int = option("rows written to a disk and to S3, and read back", default=5_000_000)


def main() -> None:
    """Measure all; a line of each part goes to stderr, the figures to stdout as JSON."""
    request = parse(BenchRequest, prog="python -m infra.bench.features")
    remove_folder(FOLDER)
    found: dict[str, Any] = {"cores": os.cpu_count()}
    parts: list[Callable[[], dict[str, Any]]] = [
        # First: the tasks of all sessions have the environment in which the first one starts.
        lambda: against_s3(request.s3_rows, FOLDER / "places"),
        lambda: _growth(request.rows),
        lambda: _against_feast(request.feast_rows),
        lambda: _history(request.history_rows),
        lambda: _large_day(request.day_rows),
    ]
    for part in parts:
        started = time.perf_counter()
        measured = part()
        measured["bench_seconds"] = round(time.perf_counter() - started)
        sys.stderr.write(f"{json.dumps(measured)}\n")
        found |= {name: value for name, value in measured.items() if name != "bench_seconds"}
    sys.stdout.write(json.dumps(found | {"peak_memory_mb": _peak_memory_mb()}) + "\n")


def _growth(sizes: tuple[int, ...]) -> dict[str, Any]:
    """Seconds at each size, their growth, and the largest join over DuckDB's."""
    logs, seconds, peaks = [], [], []
    for rows in sizes:
        logs.append(log := open_log(rows, name=f"rows-{rows}"))
        _forget_peaks()
        seconds.append(_seconds(log))
        peaks.append(_peak_memory_mb())
    total = [sum(each.values()) for each in seconds]
    duckdb_seconds = _duckdb_join(logs[-1])
    return {
        "sizes": [
            {
                "rows": rows,
                "seconds": {name: round(value, 2) for name, value in each.items()},
                "rows_per_second": {name: round(rows / value) for name, value in each.items()},
                "peak_memory_mb": peak,
            }
            for rows, each, peak in zip(sizes, seconds, peaks, strict=True)
        ],
        "growth_10x": round(total[-1] / total[-2], 2) if len(total) > 1 else None,
        "memory_10x": round(peaks[-1] / peaks[-2], 2) if len(peaks) > 1 else None,
        "duckdb_join_seconds": round(duckdb_seconds, 2),
        "duckdb_ratio": round(seconds[-1]["join"] / duckdb_seconds, 2),
    }


def _seconds(log: FeatureLog) -> dict[str, float]:
    """Seconds of each part with its write into the lake."""
    work, days = log.work, log.days

    def state() -> None:
        work.replace(log.state_rows(), log.state.name, days, keys=_KEYS)

    def aggregates() -> None:
        keys = ("item_id", EVENT_TIMESTAMP, CREATED)
        work.replace(log.daily_rows(), log.daily.name, days, keys=keys)

    def join() -> None:
        work.replace(log.joined(), EXAMPLES, days, keys=("timestamp", EXAMPLE_ID))

    return {part.__name__: _timed(part) for part in (state, aggregates, join)}


def _duckdb_join(log: FeatureLog) -> float:
    """Seconds of DuckDB's join of the same files, written as Parquet."""
    work, state = log.work, log.state
    impressions = log.impressions().inputFiles()
    rows = work.features(state, log.days).inputFiles()
    columns = ", ".join(
        f"state.{name}" for name in (EVENT_TIMESTAMP, *(column.name for column in state.columns))
    )
    target = FOLDER / "duckdb.parquet"
    connection = duckdb.connect(config={"threads": work.spark.sparkContext.defaultParallelism})
    connection.execute(
        f"create view impressions as from read_parquet({impressions});"
        f"create view states as select *, greatest({EVENT_TIMESTAMP}, {CREATED}) as visible_at "
        f"from read_parquet({rows})"
    )
    join = (
        f"copy (select impressions.*, {columns} from impressions asof left join states as state "
        "on impressions.user_id = state.user_id and impressions.timestamp >= state.visible_at) "
        f"to '{target}' (format parquet)"
    )
    return _timed(lambda: connection.execute(join))


def _against_feast(rows: int) -> dict[str, Any]:
    """Seconds of our join and of Feast's on the same log, feature rows and impressions."""
    log = open_log(rows, name="feast")
    work = log.work
    work.replace(log.state_rows(), log.state.name, log.days, keys=_KEYS)
    ours = min(_timed(lambda: _discard(log.joined())) for _ in range(_ROUNDS))
    feast_store.apply(work.schema, FOLDER / "feast-store", FOLDER / "feast")
    feast = feast_store.open_store(work.schema, FOLDER / "feast-store")
    entities = log.impressions().select("user_id", F.col("timestamp").alias(EVENT_TIMESTAMP))
    refs = [f"{log.state.name}:{column.name}" for column in log.state.columns]

    def join() -> None:
        joined = feast.get_historical_features(
            entities.toPandas(), refs, filter_by_created_timestamp=True
        )
        _discard(joined.to_spark_df())

    theirs = _timed(join)
    return {
        "feast_rows": rows,
        "join_seconds": round(ours, 2),
        "feast_join_seconds": round(theirs, 2),
        "ratio_to_feast": round(theirs / ours, 1),
    }


def _history(day_rows: int) -> dict[str, Any]:
    """A day's jobs after a long and after a short history, in turns."""
    logs = [with_history(day_rows, days) for days in (_LONG, _SHORT)]
    seconds = [[_day_seconds(log) for log in logs] for _ in range(_ROUNDS)]
    long, short = (min(each) for each in zip(*seconds, strict=True))
    return {
        "history_seconds": {str(_LONG): round(long, 2), str(_SHORT): round(short, 2)},
        "history_ratio": round(long / short, 2),
    }


def _large_day(rows: int) -> dict[str, Any]:
    """A large day's jobs with an item that has a tenth of it and without, then on one core."""
    cores = os.cpu_count() or 1
    logs = {name: open_log(2 * rows, name=name, days=2) for name in ("even", "skewed")}
    skewed = logs["skewed"]
    is_popular = F.pmod(F.xxhash64(EXAMPLE_ID), F.lit(10)) == 0
    item = F.when(is_popular, F.lit(0)).otherwise(F.col("item_id")).cast("bigint")
    raw = skewed.work.impressions(skewed.days, IMPRESSIONS_RAW).withColumn("item_id", item)
    publish_impressions(skewed.work, raw, skewed.days)
    for log in logs.values():
        build(log, log.days[:1], is_first=True)
    seconds = [{name: _day_seconds(log) for name, log in logs.items()} for _ in range(_ROUNDS - 1)]
    even, skew = (min(each[name] for each in seconds) for name in logs)
    both = min(_on_cores(logs["even"], min(2, cores)) for _ in range(2))
    one = _on_cores(logs["even"], 1)
    return {
        "day_rows": rows,
        "day_seconds": {
            "even": round(even, 2),
            "skewed": round(skew, 2),
            "one core": round(one, 2),
        },
        "skew_ratio": round(skew / even, 2),
        "cores_ratio": round(one / both, 2),
    }


def _on_cores(log: FeatureLog, cores: int) -> float:
    """Seconds of a day's jobs in a session with so many task threads."""
    log.work.spark.stop()
    os.environ["SPARK_MASTER"] = f"local[{cores}]"
    try:
        work = open_workspace(log.work.lake)
        seconds = _day_seconds(dataclasses.replace(log, work=work))
        work.spark.stop()
    finally:
        del os.environ["SPARK_MASTER"]
    return seconds


def _day_seconds(log: FeatureLog) -> float:
    """Seconds of ``build`` and ``examples`` of the last day."""
    day = log.days[-1:]

    def jobs_of_a_day() -> None:
        build(log, day)
        jobs.examples(log.work, day)

    return _timed(jobs_of_a_day)


def _discard(frame: DataFrame) -> None:
    frame.write.format("noop").mode("overwrite").save()


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _processes() -> list[psutil.Process]:
    """This process and all that it started."""
    here = psutil.Process()
    return [here, *here.children(recursive=True)]


def _forget_peaks() -> None:
    """From here on peaks of memory are counted anew (``proc(5)``, ``clear_refs``)."""
    for process in _processes():
        with contextlib.suppress(FileNotFoundError):  # it has ended
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def _peak_memory_mb() -> int:
    """The most that this process and those that it started have held at once or not, summed."""
    peaks = []
    for process in _processes():
        status = Path(f"/proc/{process.pid}/status").read_text()
        peaks += [int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line]
    return round(sum(peaks) / 1024)


if __name__ == "__main__":
    main()
