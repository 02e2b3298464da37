"""Registries for tests of training."""

import shutil

import pytest

from training.registry.mlflow_registry import Registry


@pytest.fixture(scope="session")
def open_registry(tmp_path_factory):
    """Opens a new one; its tables are copied, because MLflow takes a second to make them."""
    made = tmp_path_factory.mktemp("registry")
    Registry(made, "made")

    def opened(folder, dataset: str) -> Registry:
        folder.mkdir(parents=True)
        shutil.copy(made / "mlflow.db", folder)
        return Registry(folder, dataset)

    return opened
