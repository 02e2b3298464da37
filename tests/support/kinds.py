"""The kinds of tests, by the fixtures that they ask for; and which of them run one after the other.

``spark``, ``distributed``, ``process`` and ``object_store`` are what `make test-fast` leaves out. A
test that starts a process without any of them fails.
"""

import sys
from pathlib import Path

import pytest

SPARK = {"spark", "built"}
"""Fixtures that need a Spark session, or what one has made."""
PROCESS = {
    "server",
    "guarded",
    "start_server",
    "live",
    "workspace",
    "job_task",
    "compiled",
    "spark_remote",
}
"""Fixtures that start a process or a server."""
OBJECT_STORE = {"anywhere", "object_store"}
"""Fixtures of an S3 server."""
SLOW = ("spark", "distributed", "process", "gpu", "object_store")
_SESSION, _REPLAYS = "spark", "spark_replays"
"""Groups that have a Spark session each; whole days that are replayed take as long as all else."""
_REPLAYED = {
    *("test_bad_days.py", "test_parity.py", "test_parity_of_aggregates.py", "test_past_days.py"),
    *("test_later_labels.py", "test_push_of_later_labels.py"),
}
_TRAININGS = {
    "test_upscale.py": "trainings",
    "test_resume.py": "trainings",
    "test_training.py": "trainings",
    "test_pinned_examples.py": "trainings",
    "test_training_places.py": "trainings",
    "test_every_ranker.py": "ranks",
    "test_failures.py": "ranks",
    "test_hosts.py": "ranks",
    "test_parallel.py": "ranks",
    "test_mlflow_registry.py": "ranks",
    "test_reshard.py": "ranks",
    "test_checkpoint_places.py": "ranks",
    "test_run_study.py": "ranks",
}
"""They train on several ranks each: two of them at a time are enough for two cores."""
_ENDPOINTS = {"server", "guarded"}
"""Fixtures that start a server for a whole run; each worker would start its own."""
_FIRST = (
    *("test_whole_day.py", _SESSION, _REPLAYS, "trainings", "ranks", "endpoint", "live"),
    *("test_several_models_in_workers.py", "test_aoti.py", "test_schema_migration.py"),
    *("test_growth.py", "test_gpu_check.py", "test_sweep.py"),
)
"""Groups that take long: begun last, one would run alone at the end."""


def mark(items: list[pytest.Item]) -> None:
    """Mark tests by their fixtures, and say which must share a worker of pytest-xdist.

    The tests with a Spark session are two groups, so that there are two sessions, and so are those
    that train in processes; those with the endpoint are one, and so are those with live versions.
    Every other file is a group of its own: its tests share what the file has started.
    """
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if fixtures & SPARK:
            item.add_marker(pytest.mark.spark)
        if fixtures & PROCESS:
            item.add_marker(pytest.mark.process)
        if fixtures & OBJECT_STORE:
            item.add_marker(pytest.mark.object_store)
        group = _TRAININGS.get(item.path.name, item.path.name)
        if fixtures & _ENDPOINTS:
            group = "endpoint"
        if "live" in fixtures:
            group = "live"
        if "spark" in fixtures:
            group = _REPLAYS if group in _REPLAYED else _SESSION
        item.add_marker(pytest.mark.xdist_group(group))


def sort(items: list[pytest.Item]) -> None:
    """The longest groups first, in the order of the files otherwise."""
    order = {name: rank for rank, name in enumerate(_FIRST)}
    items.sort(key=lambda item: order.get(_group(item), len(order)))


def _group(item: pytest.Item) -> str:
    marker = item.get_closest_marker("xdist_group")
    return marker.args[0] if marker else ""


class Started:
    """Programs that were started since the last look."""

    def __init__(self) -> None:
        """Watch from now on, for ever: an audit hook cannot be taken back."""
        self._programs: list[str] = []
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[object, ...]) -> None:
        if event in {"subprocess.Popen", "os.fork", "os.posix_spawn"}:
            self._programs.append(str(arguments[0]) if arguments else "fork")

    def take(self) -> list[str]:
        """Their paths, oldest first."""
        found, self._programs = self._programs, []
        return found


def require_marker(item: pytest.Item, programs: list[str]) -> None:
    """Fail a test that started a program and does not say so."""
    ours = [name for name in programs if Path(name).name not in _OF_LIBRARIES]
    if ours and not any(item.get_closest_marker(name) for name in SLOW):
        pytest.fail(f"{item.nodeid} started {ours[0]}; mark it with pytest.mark.process")


_OF_LIBRARIES = {"git", "uname", "ldconfig", "gcc", "cc", "ld", "file"}
"""What libraries ask about the machine when they are imported."""
