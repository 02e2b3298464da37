"""A lake that a test may change, and builds of its days."""

import dataclasses
import functools
import shutil

import pytest
from pyspark.sql import functions as F
from support.lake_rows import UNLEARNT

from features.lake.lake import Lake
from features.pipeline import jobs
from features.pipeline.workspace import Workspace
from features.schema import CREATED, EVENT_TIMESTAMP, TableKind


@pytest.fixture
def work(spark, built, tmp_path):
    """The built lake, copied."""
    shutil.copytree(built.lake, tmp_path / "lake", symlinks=True, ignore=UNLEARNT)
    return Workspace(spark, built.schema, Lake(tmp_path / "lake", built.schema.name))


@pytest.fixture(scope="session")
def waiting_lake(spark, built, tmp_path_factory):
    """The built lake, in which another build of the last day waits for its check."""
    lake = tmp_path_factory.mktemp("waiting") / "lake"
    shutil.copytree(built.lake, lake, symlinks=True, ignore=UNLEARNT)
    work = Workspace(spark, built.schema, Lake(lake, built.schema.name))
    jobs.build(work, built.landing, built.days[-1:])
    return lake


@pytest.fixture
def waiting(spark, built, waiting_lake, tmp_path):
    """A copy of it."""
    shutil.copytree(waiting_lake, tmp_path / "waiting", symlinks=True)
    return Workspace(spark, built.schema, Lake(tmp_path / "waiting", built.schema.name))


@pytest.fixture
def spoil(waiting):
    """Gives one row of the items' aggregates of the build another value in a column."""
    return functools.partial(_spoil, waiting)


def _spoil(work, day, column: str, value: int | None) -> None:
    table = work.schema.table("item_daily")
    staged = work.lake.candidate(table.name, [day])
    with work.lake.preview(staged):
        rows = work.features(table, [day])
    spoilt = F.when(F.col("item_id") == 3, F.lit(value)).otherwise(F.col(column))
    frame = rows.withColumn(column, spoilt.cast(rows.schema[column].dataType))
    keys = ["item_id", EVENT_TIMESTAMP, CREATED]
    work.lake.put(work.lake.restage(staged, frame, keys=keys), [day])


@pytest.fixture
def build_alone(monkeypatch):
    """Has builds make the tables of one kind; the others stay as they are, unchanged."""

    def alone(kind: TableKind) -> None:
        make = jobs._stage_table

        def stage(work, landing, table, *more):
            return make(work, landing, table, *more) if table.kind is kind else None

        monkeypatch.setattr(jobs, "_stage_table", stage)

    return alone


@dataclasses.dataclass(frozen=True)
class Builds:
    """Builds of the lake's days."""

    work: Workspace
    built: object

    def publish(self, *days, **options) -> None:
        """Build days and publish what is staged, without a judgement."""
        staged = jobs.build(self.work, self.built.landing, days, **options)
        jobs.publish_features(self.work, staged, days)


@pytest.fixture
def builds(work, built) -> Builds:
    return Builds(work, built)
