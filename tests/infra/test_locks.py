"""The two locks: one for a CPU, one for CUDA, and nothing else between them."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "infra" / "requirements"


def pins(name: str) -> dict[str, list[str]]:
    """The lines of a lock by package; a package may have a line for each Python."""
    found: dict[str, list[str]] = {}
    for line in (REQUIREMENTS / name).read_text().splitlines():
        package, version = re.fullmatch(r"([a-z0-9.-]+)(==\S+.*)", line).groups()
        found.setdefault(package, []).append(version)
    return found


CPU = pins("requirements.txt")
CUDA = pins("requirements-cuda.txt")


def of_cuda(package: str) -> bool:
    return package == "triton" or package.startswith(("nvidia-", "cuda-"))


def test_what_both_locks_pin_has_one_version():
    common = CPU.keys() & CUDA.keys()
    assert {name: CPU[name] for name in common} == {name: CUDA[name] for name in common}


def test_the_locks_differ_in_fbgemm_and_the_libraries_of_cuda_alone():
    assert CPU.keys() - CUDA.keys() == {"fbgemm-gpu-cpu"}
    assert {name for name in CUDA.keys() - CPU.keys() if not of_cuda(name)} == {"fbgemm-gpu"}
    assert CPU["fbgemm-gpu-cpu"] == CUDA["fbgemm-gpu"]


def test_the_cpu_lock_has_nothing_of_cuda_and_no_local_build():
    assert not [name for name in CPU if of_cuda(name)]
    assert not [name for name, versions in {**CPU, **CUDA}.items() if "+" in "".join(versions)]


def test_every_requirement_is_pinned_in_the_lock_it_is_for():
    for source, lock in [("requirements.in", CPU), ("cpu.in", CPU), ("cuda.in", CUDA)]:
        for line in (REQUIREMENTS / source).read_text().splitlines():
            if line and not line.startswith("#"):
                name, exact = re.fullmatch(r"([A-Za-z0-9-]+)(?:\[.*\])?(==\S+)?.*", line).groups()
                assert name.lower() in lock, f"{source}: {name}: run make lock"
                assert exact is None or lock[name.lower()] == [exact], f"{source}: {line}"


@pytest.mark.process
@pytest.mark.parametrize("accelerator", ["tpu", "CPU", "cpu cuda"])
def test_an_accelerator_that_is_none_is_refused_before_anything_happens(accelerator):
    done = subprocess.run(
        ["bash", "infra/local/install.sh"],
        cwd=ROOT,
        env={"ACCELERATOR": accelerator, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = f"error: ACCELERATOR is '{accelerator}'; it must be cpu or cuda\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)
