"""What the drill's stack is told: its environment, its schema file, its recipes."""

import os
from collections.abc import Mapping
from pathlib import Path

import yaml

from features.datasets.schema_files import discovery
from infra.local.servers import free_ports
from infra.local.settings import DATASETS, PORT_VARIABLES

DATASET = "life"
RECIPE = "life-tiny"
NUM_WORKERS = 2
_OF_A_DEPLOYMENT = ("RANKING_", "AIRFLOW", "SPARK_", "OPENLINEAGE_", "MLFLOW_", "AWS_", "PET_")
RECIPES: Mapping[str, Mapping[str, object]] = {
    RECIPE: {"base": "wukong-tiny"},
    # Its weights leave float32 within a few steps.
    "life-diverging": {
        "base": "wukong-tiny",
        "training": {"dense_learning_rate": 1e30, "sparse_learning_rate": 1e30},
    },
    # It learns one day by heart.
    "life-overfitted": {
        "base": "wukong-tiny",
        "training": {
            "warm_epochs": 80,
            "cold_epochs": 80,
            "dense_learning_rate": 0.02,
            "sparse_learning_rate": 1.0,
        },
    },
    # Steps so long that its scores are anywhere.
    "life-uncalibrated": {
        "base": "wukong-tiny",
        "training": {"dense_learning_rate": 0.5, "sparse_learning_rate": 3.0},
    },
}
"""Recipes of the drill: the one that is trained, and those of bad candidates."""


def write_files(folder: Path) -> None:
    """Write schema and recipes below the drill's folder."""
    for name in ("schemas", "recipes"):
        (folder / name).mkdir(parents=True)
    declared = (discovery.BUILT_IN / "synthetic.yaml").read_text(encoding="utf-8")
    text = declared.replace("name: synthetic\n", f"name: {DATASET}\n")
    schema_file(folder).write_text(text, encoding="utf-8")
    for name, recipe in RECIPES.items():
        file = folder / "recipes" / f"{name}.yaml"
        file.write_text(yaml.safe_dump(dict(recipe)), encoding="utf-8")


def schema_file(folder: Path) -> Path:
    """The schema file that runs, which a person may change."""
    return folder / "schemas" / f"{DATASET}.yaml"


def set_environment(folder: Path, data: Path, *, online: str | None) -> None:
    """Have this process, and what it starts, know nothing of any deployment but the drill's.

    Args:
        folder: Of the drill.
        data: Where all data lie.
        online: Address of the online store; None: a file.
    """
    for name in [name for name in os.environ if name.startswith(_OF_A_DEPLOYMENT)]:
        del os.environ[name]
    variables = PORT_VARIABLES.values()
    os.environ |= dict(zip(variables, map(str, free_ports(len(variables))), strict=True))
    os.environ |= {
        "RANKING_VAR": str(folder / "var"),
        "RANKING_ROOT": str(data),
        DATASETS: DATASET,
        discovery.SCHEMAS: str(folder / "schemas"),
        "RANKING_RECIPES": str(folder / "recipes"),
        "RANKING_PUSH": "off",
        "RANKING_DAILY_START": "api",
        "RANKING_RETRY_SECONDS": "1",
        "RANKING_LANDING_TIMEOUT_SECONDS": "4",
        "RANKING_LANDING_POLL_SECONDS": "1",
        "RANKING_LEASE_TIMEOUT_SECONDS": "12",
        "RANKING_LEASE_POLL_SECONDS": "2",
        "RANKING_LOG_FOLDER": str(data / "log"),
        "RANKING_LOG_SHARE": "1",
        "RANKING_LOG_SECONDS": "2",
        "RANKING_LOG_KEEP_DAYS": "3650",  # its days are long past
        "RANKING_WORKERS": str(NUM_WORKERS),
        # What a scheduler that was killed leaves is looked for each ten seconds.
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
        **({"RANKING_ONLINE": online} if online else {}),
    }
