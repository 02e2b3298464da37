"""The registry on a folder that several processes find empty."""

import os
import time

import pytest
from support import forks

from training.registry.mlflow_registry import Registry

OPEN = """
import os, sys, time
from pathlib import Path
from training.registry.mlflow_registry import Registry
folder = Path(sys.argv[1])
(folder / f"ready-{os.environ['RANK']}").touch()
while len(list(folder.glob("ready-*"))) < 3:
    time.sleep(0.01)
print(Registry(folder / "mlflow", "synthetic").alias("champion"))
"""


@pytest.mark.process
def test_processes_that_open_a_new_database_at_once_all_get_it(tmp_path):
    script = tmp_path / "open.py"
    script.write_text(OPEN)
    done = forks.run_ranks([str(script), str(tmp_path)], 3)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["None"] * 3


@pytest.mark.process
def test_a_process_that_is_killed_while_it_makes_the_database_leaves_none_behind(tmp_path):
    """Half of one could neither be opened nor finished."""
    script = tmp_path / "open.py"
    script.write_text(OPEN.replace("< 3", "< 1"))
    whole = Registry(tmp_path / "whole", "synthetic")
    assert whole.alias("champion") is None
    most_of_it = 0.9 * (tmp_path / "whole" / "mlflow.db").stat().st_size
    log = {name: tmp_path / name for name in ("stdout", "stderr")}
    made = forks.start([str(script), str(tmp_path)], {**os.environ, "RANK": "0"}, **log)
    while not any(
        path.exists() and path.stat().st_size > most_of_it
        for path in (tmp_path / "mlflow" / "mlflow.db", tmp_path / "mlflow" / "mlflow.part")
    ):
        assert made.is_alive(), log["stderr"].read_text()
        time.sleep(0.001)
    made.kill()
    made.join()
    assert Registry(tmp_path / "mlflow", "synthetic").alias("champion") is None
    assert [path.name for path in (tmp_path / "mlflow").glob("mlflow.*")] == ["mlflow.db"]
