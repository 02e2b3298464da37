"""A user planted in every place, and the erasure of one."""

import shutil

import pytest
from support.erasure import planted

from features.erasure import rows


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    schema = planted.schema_in(folder)
    planted.make(folder / "var", schema)
    return schema, folder / "var"


@pytest.fixture
def var(made, tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "spark_hash_sums", lambda session, struct: planted.sums_of)
    return shutil.copytree(made[1], tmp_path / "var")
