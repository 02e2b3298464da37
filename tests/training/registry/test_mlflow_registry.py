"""The registry on a folder that several processes find empty."""

import pytest
from support import forks

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
