"""A lake that a test may change."""

import shutil

import pytest

from features.lake.lake import Lake
from features.pipeline.workspace import Workspace


@pytest.fixture
def work(spark, built, tmp_path):
    """The built lake, copied."""
    shutil.copytree(built.lake, tmp_path / "lake", symlinks=True)
    return Workspace(spark, built.schema, Lake(tmp_path / "lake", built.schema.name))
