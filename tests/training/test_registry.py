"""The registry on a folder that several processes find empty."""

import subprocess
import sys

import pytest

OPEN = """
import sys, time
from pathlib import Path
from training.registry import Registry
folder = Path(sys.argv[1])
(folder / f"ready-{sys.argv[2]}").touch()
while len(list(folder.glob("ready-*"))) < 3:
    time.sleep(0.01)
print(Registry(folder / "mlflow", "synthetic").alias("champion"))
"""


@pytest.mark.process
def test_processes_that_open_a_new_database_at_once_all_get_it(tmp_path):
    running = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, str(tmp_path), str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    outcomes = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], outcomes
    assert {out.strip() for out, _ in outcomes} == {"None"}
