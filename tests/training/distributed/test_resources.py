"""Cores and memory of a container, by made-up trees of control groups of both versions."""

import os

import pytest

from serving.settings import Scoring
from training import resources
from training.artifact import aoti_runtime
from training.resources import memory_bytes, num_cores, quota_cores

V2 = "30 25 0:26 {inside} /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "31 25 0:27 {inside} /sys/fs/cgroup/{name} rw shared:5 - cgroup cgroup rw,{name}"
OTHER = "29 25 0:25 / /proc rw,relatime shared:3 - proc proc rw"


def tree(root, *, own, mounts, files):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("\n".join(own) + "\n")
    (root / "proc/self/mountinfo").write_text("\n".join([OTHER, *mounts]) + "\n")
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def v2(root, path, files, inside="/"):
    return tree(root, own=[f"0::{path}"], mounts=[V2.format(inside=inside)], files=files)


def v1(root, path, files, inside="/"):
    mounts = [V1.format(name=name, inside=inside) for name in ("cpu", "memory")]
    return tree(root, own=[f"5:cpu:{path}", f"4:memory:{path}"], mounts=mounts, files=files)


@pytest.fixture(autouse=True)
def large(monkeypatch):
    """A machine of sixty-four cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 64),
        ({"pods/a/cpu.max": "max 100000"}, 64),
        ({"pods/a/cpu.max": "200000 100000"}, 2),
        ({"pods/a/cpu.max": "250000 100000"}, 2),
        ({"pods/a/cpu.max": "20000 100000"}, 1),
        ({"pods/a/cpu.max": "800000 100000", "pods/cpu.max": "300000 100000"}, 3),
        ({"pods/a/cpu.max": "100000 50000", "pods/cpu.max": "max 100000"}, 2),
        ({"cpu.max": "9000000 100000", "pods/a/cpu.max": "max 100000"}, 64),
    ],
)
def test_cores_are_those_of_the_tightest_group_of_version_2(tmp_path, files, expected):
    assert num_cores(v2(tmp_path, "/pods/a", files)) == expected


@pytest.mark.parametrize(
    ("quota", "above", "expected"), [(-1, -1, 64), (150_000, -1, 1), (400_000, 300_000, 3)]
)
def test_cores_are_those_of_the_tightest_group_of_version_1(tmp_path, quota, above, expected):
    files = {
        "cpu/pods/a/cpu.cfs_quota_us": quota,
        "cpu/pods/a/cpu.cfs_period_us": 100_000,
        "cpu/pods/cpu.cfs_quota_us": above,
        "cpu/pods/cpu.cfs_period_us": 100_000,
    }
    assert num_cores(v1(tmp_path, "/pods/a", files)) == expected


@pytest.mark.parametrize("inside", ["/", "/kubepods/pod1"])
def test_a_container_that_sees_the_hosts_path_finds_its_own_group(tmp_path, inside):
    """Its mount shows its own group as the root, whatever the path says."""
    files = {"cpu/cpu.cfs_quota_us": 200_000, "cpu/cpu.cfs_period_us": 100_000}
    assert num_cores(v1(tmp_path, "/kubepods/pod1", files, inside)) == 2


def test_cores_that_the_process_is_bound_to_count_too(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 5})
    assert num_cores(v2(tmp_path, "/a", {"a/cpu.max": "800000 100000"})) == 2
    assert num_cores(tmp_path / "no-linux") == 2


def test_cores_that_a_process_is_bound_to_are_no_quota(tmp_path):
    assert quota_cores(v2(tmp_path / "1", "/a", {"a/cpu.max": "max 100000"})) is None
    assert quota_cores(v2(tmp_path / "2", "/b", {"b/cpu.max": "6450000 100000"})) == 64
    assert quota_cores(tmp_path / "no-linux") is None


def test_memory_is_the_tightest_limit_and_never_more_than_the_machines(tmp_path):
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    nested = {"pods/a/memory.max": "max", "pods/memory.max": 3 << 30}
    assert memory_bytes(v2(tmp_path / "2", "/pods/a", nested)) == min(machine, 3 << 30)
    own = {"memory/a/memory.limit_in_bytes": 1 << 30}
    assert memory_bytes(v1(tmp_path / "1", "/a", own)) == 1 << 30
    unlimited = {"memory/a/memory.limit_in_bytes": 9223372036854771712}
    assert memory_bytes(v1(tmp_path / "0", "/a", unlimited)) == machine


def test_the_server_sizes_itself_by_it(tmp_path, monkeypatch):
    root = v2(tmp_path, "/a", {"a/cpu.max": "300000 100000"})
    monkeypatch.setattr(resources.num_cores, "__defaults__", (root,))
    assert (Scoring().num_workers, Scoring().num_threads) == (3, 3)
    assert aoti_runtime.num_runners() == 5
