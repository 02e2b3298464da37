import pytest
from support import forks

FAULTS = """
import resource, sys, torch
from training.distributed.process_group import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
net = torch.nn.Sequential(*[torch.nn.Linear(8, 8) for _ in range(3)])
rows = torch.ones(5 * 2**18, 8)
def step(): net(rows).sum().backward()
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    step()
before = faults()
for _ in range(2):
    step()
print(faults() - before)
"""


@pytest.fixture
def faults(tmp_path):
    script = tmp_path / "faults.py"
    script.write_text(FAULTS)

    def of_mode(mode):
        done = forks.run([str(script), mode])
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    return of_mode


@pytest.mark.process
def test_training_steps_reuse_the_memory_of_the_step_before(faults):
    """Activations of 40 MB each: given back and faulted in again unless the process keeps them."""
    assert 10 * faults("keep") < faults("as it is")
