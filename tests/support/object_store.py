"""A place on a disk, or in an S3 server that the tests start: what a test of places runs on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from features.places import Place, place
from infra.local.servers import ObjectStore


@pytest.fixture(scope="session")
def stopped_object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """One S3 server for a worker's tests, not started; the environment has its address and keys.

    Spark takes it before its JVM starts, whose environment its tasks have.
    """
    with pytest.MonkeyPatch.context() as environment:
        store = ObjectStore(tmp_path_factory.mktemp("object-store"))
        for name, value in store.environment.items():
            environment.setenv(name, value)
        yield store


@pytest.fixture(scope="session")
def object_store(stopped_object_store: ObjectStore) -> Iterator[ObjectStore]:
    """The same, started."""
    with stopped_object_store as store:
        yield store


@pytest.fixture(params=["file", "s3"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty place on a disk, then one in an object store."""
    if request.param == "file":
        return place(tmp_path)
    store: ObjectStore = request.getfixturevalue("object_store")
    return place(f"{store.uri}/{tmp_path.name}")
