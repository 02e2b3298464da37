"""A place on a disk, or in an S3 server that the tests start: what a test of places runs on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from features.places import Place, place
from infra.local.servers import ObjectStore


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """One S3 server for a worker's tests; its address and keys are in the environment meanwhile."""
    with (
        ObjectStore(tmp_path_factory.mktemp("object-store")) as store,
        pytest.MonkeyPatch.context() as environment,
    ):
        for name, value in store.environment.items():
            environment.setenv(name, value)
        yield store


@pytest.fixture(params=["file", "s3"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty place on a disk, then one in an object store."""
    if request.param == "file":
        return place(tmp_path)
    store: ObjectStore = request.getfixturevalue("object_store")
    return place(f"{store.uri}/{tmp_path.name}")
