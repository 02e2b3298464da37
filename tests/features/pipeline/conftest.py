"""A lake that a test may change, and builds of its days."""

import dataclasses
import shutil

import pytest
from pyspark.sql import functions as F

from features.lake.lake import Lake
from features.pipeline import jobs
from features.pipeline.workspace import Workspace
from features.schema import CREATED, EVENT_TIMESTAMP


@pytest.fixture
def work(spark, built, tmp_path):
    """The built lake, copied."""
    shutil.copytree(built.lake, tmp_path / "lake", symlinks=True)
    return Workspace(spark, built.schema, Lake(tmp_path / "lake", built.schema.name))


@dataclasses.dataclass(frozen=True)
class Builds:
    """Builds of the lake's days."""

    work: Workspace
    built: object

    def publish(self, *days, **options) -> None:
        """Build days and publish what is staged, without a judgement."""
        staged = jobs.build(self.work, self.built.landing, days, **options)
        jobs.publish_features(self.work, staged, days)

    def spoil(self, day, column: str, value: int | None) -> None:
        """Build a day; in one row of the items' aggregates a column has another value."""
        work, table = self.work, self.work.schema.table("item_daily")
        staged = {one.table: one for one in jobs.build(work, self.built.landing, [day])}
        with work.lake.preview(staged[table.name]):
            rows = work.features(table, [day])
        spoilt = F.when(F.col("item_id") == 3, F.lit(value)).otherwise(F.col(column))
        frame = rows.withColumn(column, spoilt.cast(rows.schema[column].dataType))
        keys = ["item_id", EVENT_TIMESTAMP, CREATED]
        work.lake.put(work.lake.restage(staged[table.name], frame, keys=keys), [day])


@pytest.fixture
def builds(work, built) -> Builds:
    return Builds(work, built)
