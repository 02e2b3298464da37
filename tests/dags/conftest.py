"""What Airflow and the local stack put on the path, and an Airflow home that is nobody's."""

import os
import sys
import tempfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
for folder in ("dags", "infra/local", "infra/airflow/plugins"):
    sys.path.append(str(REPOSITORY / folder))
# Before the first import of airflow, which reads its configuration then and writes a default one.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-home-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")


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
