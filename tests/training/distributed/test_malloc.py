import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from training.distributed.process_group import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
net = torch.nn.Sequential(*[torch.nn.Linear(64, 64) for _ in range(6)])
rows = torch.ones(2**18, 64)
def step(): net(rows).sum().backward()
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    step()
before = faults()
for _ in range(4):
    step()
print(faults() - before)
"""


def faults(mode):
    command = [sys.executable, "-c", FAULTS, mode]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.process
def test_training_steps_reuse_the_memory_of_the_step_before():
    """Activations of 64 MB each: given back and faulted in again unless the process keeps them."""
    assert 10 * faults("keep") < faults("as it is")
