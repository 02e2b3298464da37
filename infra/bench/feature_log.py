"""Generated logs in lakes of their own, and the parts of a day's jobs on them, for the bench."""

import dataclasses
import datetime
from collections.abc import Sequence

from pyspark.sql import DataFrame

from features.datasets.catalog import schema_of
from features.datasets.readers import reader_of
from features.lake.lake import IMPRESSIONS_RAW, ONE_DAY, Lake, day_range
from features.pipeline import jobs
from features.pipeline.availability import declared_availability
from features.pipeline.ingestion.ingest import ingest, stage_impressions
from features.pipeline.item_daily import item_daily
from features.pipeline.point_in_time import join_as_of
from features.pipeline.user_state import user_state
from features.pipeline.workspace import Workspace
from features.places import Place, place
from features.schema import CREATED, DAY, EXAMPLE_ID, FeatureTable, TableKind
from features.spark.session import feature_struct, impressions_struct, start_session
from infra.local.settings import REPOSITORY

FOLDER = place(REPOSITORY / "var" / "bench" / "features")
_DAYS = 28
_ROWS_PER_USER, _ROWS_PER_ITEM = 100, 1_000
_TTL = datetime.timedelta(days=365)
"""How long a row of state counts here: as long as the longest history."""


@dataclasses.dataclass(frozen=True)
class FeatureLog:
    """A log whose impressions are published, and the lake that they are in."""

    work: Workspace
    landing: Place
    days: list[datetime.date]

    @property
    def state(self) -> FeatureTable:
        """The table of state."""
        return self.work.schema.tables_of(TableKind.STATE)[0]

    @property
    def daily(self) -> FeatureTable:
        """The daily table."""
        return self.work.schema.tables_of(TableKind.DAILY)[0]

    def impressions(self) -> DataFrame:
        """All of them, with ``day``."""
        return self.work.impressions(self.days)

    def state_rows(self) -> DataFrame:
        """Rows of state of all days, without earlier ones."""
        first, last = self.days[0], self.days[-1]
        named = {"impressions": self.impressions(), "carry": self.work.features(self.state, [])}
        rows = user_state(self.work.schema, self.state, **named, first_day=first, last_day=last)
        return self._countable(self.state, rows)

    def daily_rows(self) -> DataFrame:
        """Aggregates of all days, without earlier ones."""
        named = {"impressions": self.impressions(), "carry": self.work.features(self.daily, [])}
        schema, days = self.work.schema, self.days
        rows = item_daily(schema, self.daily, **named, carry_day=None, days=days)
        return self._countable(self.daily, rows)

    def joined(self) -> DataFrame:
        """All impressions with the newest row of state in the lake."""
        rows = self.work.features(self.state, self.days).drop(DAY)
        return join_as_of(self.impressions(), rows, self.state, key="user_id", time="timestamp")

    def _countable(self, table: FeatureTable, rows: DataFrame) -> DataFrame:
        named = rows.withColumn(CREATED, declared_availability(table))
        return named.select(*feature_struct(self.work.schema, table).names, DAY)


def open_log(
    rows: int,
    *,
    name: str,
    days: int = _DAYS,
    kept: int | None = None,
    users: int | None = None,
) -> FeatureLog:
    """Generate a log of ``rows`` impressions; its last days ``kept`` are published in a lake."""
    work = open_workspace(Lake(FOLDER / name, schema_of("synthetic").name))
    first, landing = work.schema.first_day, FOLDER / f"landing-{rows}-{days}"
    if not landing.exists():
        items, users = max(100, rows // _ROWS_PER_ITEM), users or max(100, rows // _ROWS_PER_USER)
        folder = landing / work.schema.name
        sizes = {"rows": rows, "users": users, "items": items, "days": days, "seed": 0}
        reader_of(work.schema).fetch(folder, **sizes)
    all_days = day_range(first, first + (days - 1) * ONE_DAY)
    log = FeatureLog(work, landing, all_days[-(kept or days) :])
    ingest(work, landing, log.days)
    raw = work.impressions(log.days, IMPRESSIONS_RAW)
    publish_impressions(work, raw, log.days)
    return log


def publish_impressions(work: Workspace, rows: DataFrame, days: Sequence[datetime.date]) -> None:
    """Publish raw impressions without a check."""
    good = rows.select(*impressions_struct(work.schema).names, DAY)
    keys = ["timestamp", EXAMPLE_ID]
    work.lake.publish(stage_impressions(work, good, days, keys=keys))


def build(log: FeatureLog, days: Sequence[datetime.date], *, is_first: bool = False) -> None:
    """Build days and publish them without a check."""
    staged = jobs.build(log.work, log.landing, days, is_first=is_first)
    jobs.publish_features(log.work, staged, days)


def open_workspace(lake: Lake) -> Workspace:
    """A session, and a schema of which a row of state counts for a year."""
    spark = start_session("bench", spark_driver_memory="8g", spark_sql_shuffle_partitions="8")
    schema = schema_of("synthetic")
    tables = (
        dataclasses.replace(table, ttl=_TTL) if table.kind is TableKind.STATE else table
        for table in schema.tables
    )
    return Workspace(spark, dataclasses.replace(schema, tables=tuple(tables)), lake)


def with_history(day_rows: int, history: int) -> FeatureLog:
    """A lake in which all days but the last are built, the last of them each by itself."""
    num_days = _TTL.days + 1
    log = open_log(
        day_rows * num_days,
        name=f"history-{history}",
        days=num_days,
        kept=history + 1,
        users=max(100, day_rows // 5),  # few enough to be seen in the short history too
    )
    days = log.days[:-1]
    build(log, days[:-1], is_first=True)
    build(log, days[-1:])
    return log
