"""The paths of the DAGs, moved to an empty folder."""

import pytest


@pytest.fixture
def assets(tmp_path, monkeypatch):
    """The paths of the DAGs, moved to an empty folder."""
    import ranking_assets

    var = tmp_path / "var"
    monkeypatch.setattr(ranking_assets, "VAR", var)
    monkeypatch.setattr(ranking_assets, "LANDING", var / "landing")
    monkeypatch.setattr(ranking_assets, "LEASES", var / "airflow" / "leases")
    monkeypatch.setattr(ranking_assets, "ALERTS", var / "reports" / "movielens-100k" / "alerts")
    return ranking_assets
