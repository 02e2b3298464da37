"""What every job works with: the Spark session, the schema and the lake."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence

from pyspark.sql import DataFrame, SparkSession

from features.pipeline.history import fingerprint_of, require_current
from features.schema import FeatureTable, Schema
from features.spark.lake import IMPRESSIONS, ONE_DAY, Lake, Partition
from features.spark.session import feature_struct, impressions_struct


@dataclasses.dataclass(frozen=True)
class Workspace:
    """What every job works with: the session, the schema and the lake."""

    spark: SparkSession
    schema: Schema
    lake: Lake

    def impressions(self, days: Sequence[datetime.date], table: str = IMPRESSIONS) -> DataFrame:
        """Impressions of some days, with ``day``; ValueError where they are of another schema."""
        require_current(self.lake, self.schema, table, days)
        return self.lake.read(self.spark, table, impressions_struct(self.schema), days)

    def features(self, table: FeatureTable, days: Sequence[datetime.date]) -> DataFrame:
        """Rows of a feature table of some days, with ``day``; as ``impressions``."""
        require_current(self.lake, self.schema, table.name, days)
        return self.lake.read(self.spark, table.name, feature_struct(self.schema, table), days)

    def replace(
        self,
        frame: DataFrame,
        table: str,
        days: Sequence[datetime.date],
        *,
        keys: Sequence[str],
        corrected_at: Mapping[datetime.date, datetime.datetime] | None = None,
    ) -> list[Partition]:
        """``Lake.replace``, stamped with this schema."""
        fingerprint = fingerprint_of(self.schema, table)
        return self.lake.replace(
            frame, table, days, keys=keys, fingerprint=fingerprint, corrected_at=corrected_at
        )


def visible_days(
    work: Workspace, table: FeatureTable, first: datetime.date, last: datetime.date
) -> list[datetime.date]:
    """Days whose partitions can hold a row that is usable between ``first`` and ``last``."""
    if table.ttl is None:
        return work.lake.days(table.name)
    # A daily row becomes true at the end of its day, so one more day can still matter.
    return work.lake.days_between(table.name, first - _whole_days(table.ttl) - ONE_DAY, last)


def carry_days(work: Workspace, table: FeatureTable, before: datetime.date) -> list[datetime.date]:
    """Days of a state table that the state of ``before`` builds on."""
    ttl = _whole_days(table.ttl or datetime.timedelta(0))
    return work.lake.days_between(table.name, before - ttl - ONE_DAY, before - ONE_DAY)


def _whole_days(span: datetime.timedelta) -> datetime.timedelta:
    return datetime.timedelta(days=-(-span // ONE_DAY))
