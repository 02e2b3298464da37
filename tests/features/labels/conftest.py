"""The shop of the tests, before its first day and after its last."""

import shutil

import pytest
from support.labels.orders_log import DAYS, FILE, Shop


@pytest.fixture(scope="module")
def finished_root(spark, tmp_path_factory):
    """All that the jobs of all days have made."""
    root = tmp_path_factory.mktemp("orders")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RANKING_SCHEMAS", str(FILE))
        shop = Shop(spark, root)
        shop.land(DAYS)
        shop.run(DAYS)
    return root


@pytest.fixture
def finished(spark, finished_root, tmp_path, monkeypatch) -> Shop:
    """A copy of it, which a test may change."""
    monkeypatch.setenv("RANKING_SCHEMAS", str(FILE))
    shutil.copytree(finished_root, tmp_path / "finished")
    return Shop(spark, tmp_path / "finished")


@pytest.fixture
def shop(spark, tmp_path, monkeypatch) -> Shop:
    """A shop of which nothing has landed."""
    monkeypatch.setenv("RANKING_SCHEMAS", str(FILE))
    return Shop(spark, tmp_path)
