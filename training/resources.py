"""The cores and the memory that this process may use: the machine's, or its container's if fewer.

A container's limits are those of its control group (cgroup) and of every one above it. Neither
``os.cpu_count`` nor ``os.sched_getaffinity`` knows them: a container of two cores on a machine of
sixty-four would start sixty-four threads, which the kernel then stops for most of each period.
See https://docs.kernel.org/admin-guide/cgroup-v2.html and .../cgroup-v1/.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")


def num_cores(root: Path = _ROOT) -> int:
    """Cores that this process can keep busy, at least 1.

    A quota of two cores and a half counts as two: threads of a third would make the others wait.

    Args:
        root: Where ``proc`` and what is mounted lie, for tests.
    """
    bound = len(os.sched_getaffinity(0))
    quota = quota_cores(root)
    return bound if quota is None else min(bound, quota)


def quota_cores(root: Path = _ROOT) -> int | None:
    """Whole cores of this process's quota, at least 1; None where it has none.

    Args:
        root: As ``num_cores`` has it.
    """
    quota = min((_quota(group) for group in _groups(root, "cpu")), default=math.inf)
    return None if quota == math.inf else max(1, int(quota))


def memory_bytes(root: Path = _ROOT) -> int:
    """Memory that this process and those in its container may use together.

    Args:
        root: As ``num_cores`` has it.
    """
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [_memory_limit(group) for group in _groups(root, "memory")]
    return int(min([machine, *limits]))


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's control groups, each with all that it lies in, of both versions."""
    try:
        own = (root / "proc/self/cgroup").read_text().splitlines()
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
    except OSError:  # no Linux
        return
    paths = {}
    for line in own:
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), path))
    for line in mounts:
        mount, _, described = line.partition(" - ")
        kind, _, options = described.split(" ", 2)
        inside, point = mount.split(" ")[3:5]
        if kind == "cgroup2":
            yield from _upwards(root / point[1:], paths.get("", "/"), inside)
        elif kind == "cgroup" and controller in options.split(","):
            yield from _upwards(root / point[1:], paths.get(controller, "/"), inside)


def _upwards(point: Path, path: str, inside: str) -> Iterator[Path]:
    """From a group to where it is mounted.

    A container may see the path of its group on the host, of which its mount shows the end
    only, or another one: what is not there is passed over.
    """
    relative = path[len(inside) :] if inside != "/" and path.startswith(inside) else path
    group = point / relative.strip("/")
    while True:
        if group.is_dir():
            yield group
        if group == point or ".." in relative:
            return
        group = group.parent


def _quota(group: Path) -> float:
    """Cores; infinite where there is no limit."""
    quota, period = [*_words(group / "cpu.max"), "max", "max"][:2]
    if quota == "max":
        quota, period = (
            (_words(group / f"cpu.cfs_{name}_us") or ["-1"])[0] for name in ("quota", "period")
        )
    return int(quota) / int(period) if int(quota) > 0 and int(period) > 0 else math.inf


def _memory_limit(group: Path) -> float:
    """Bytes; infinite where there is no limit."""
    (limit, *_) = [*_words(group / "memory.max"), *_words(group / "memory.limit_in_bytes"), "max"]
    return math.inf if limit == "max" else int(limit)


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
