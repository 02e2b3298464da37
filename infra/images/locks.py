"""Cuts a lock for each image out of the whole lock, with hashes: the last step of ``make lock``.

The images are for Debian 12 on x86-64. A line names a package, its version, and the hash of each
file that pip may take there. MLflow's server does not install beside Airflow, so its lock is cut
out of none.
"""

import dataclasses
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

from infra.local.network import JsonObject
from infra.local.settings import REPOSITORY

REQUIREMENTS = REPOSITORY / "infra" / "requirements"
IMAGES = REQUIREMENTS / "images"
CPU, CUDA = "requirements.txt", "requirements-cuda.txt"
_OF_CUDA = re.compile(r"^((?:nvidia-|cuda-)[a-z0-9-]+|triton)==", re.M)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lock:
    """How one lock comes about.

    Args:
        name: Of its file, without the suffix.
        sources: Files of direct dependencies.
        whole: The lock that it is cut out of; empty for none.
    """

    name: str
    sources: tuple[str, ...]
    whole: str = CPU


LOCKS = (
    Lock(name="airflow", sources=("images/airflow.in",)),
    Lock(name="spark", sources=("images/spark.in",)),
    Lock(name="train-cpu", sources=("images/train.in", "cpu.in")),
    Lock(name="train-cuda", sources=("images/train.in", "cuda.in"), whole=CUDA),
    Lock(name="serve", sources=("images/serve.in", "cpu.in")),
    Lock(name="mlflow", sources=("images/mlflow.in",), whole=""),
)


def main() -> None:
    """Write all locks; subprocess.CalledProcessError where one has no solution."""
    (torch_cpu,) = re.findall("^torch==.*", (IMAGES / "torch-cpu.txt").read_text(), re.M)
    for lock in LOCKS:
        lines = [_line(package) for package in _solution(lock)]
        if "cpu.in" in lock.sources:  # the index has a build for CUDA alone
            lines = [torch_cpu if line.startswith("torch==") else line for line in lines]
        (IMAGES / f"{lock.name}.txt").write_text("\n".join(lines) + "\n")


def _solution(lock: Lock) -> list[JsonObject]:
    """The packages of a lock as PEP 751 has them, with the files for the images' platform."""
    with tempfile.TemporaryDirectory() as folder:
        solution = Path(folder) / "pylock.toml"
        command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet"]
        command += [str(REQUIREMENTS / source) for source in lock.sources]
        command += ["--python-version=3.11", "--python-platform=x86_64-manylinux_2_28"]
        command += [f"--overrides={REQUIREMENTS / 'overrides.txt'}", f"--output-file={solution}"]
        command += _held_to(lock.whole, Path(folder) / "of-cuda.txt")
        environment = {**os.environ, "UV_FIND_LINKS": ""}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
        packages: list[JsonObject] = tomllib.loads(solution.read_text())["packages"]
        return packages


def _held_to(whole: str, of_cuda: Path) -> Sequence[str]:
    """Options that hold a lock to a whole one; writes the names that a CPU has no use for."""
    if not whole:
        return []
    constraint = [f"--constraint={REQUIREMENTS / whole}"]
    if whole == CUDA:
        return constraint
    of_cuda.write_text("\n".join(_OF_CUDA.findall((REQUIREMENTS / CUDA).read_text())))
    excludes = (REQUIREMENTS / "excludes-cpu.txt", of_cuda)
    return constraint + [f"--excludes={path}" for path in excludes]


def _line(package: JsonObject) -> str:
    files = package.get("wheels") or [package["sdist"]]
    hashes = sorted(f"--hash=sha256:{file['hashes']['sha256']}" for file in files)
    return " ".join([f"{package['name']}=={package['version']}", *hashes])


if __name__ == "__main__":
    main()
