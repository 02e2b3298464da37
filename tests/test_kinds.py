"""Tests are of the kind that their marker says, so that the fast ones stay fast."""

import subprocess
import sys
from pathlib import Path

import pytest
from support import kinds


class Item:
    """What the suite looks at of a test."""

    nodeid = "test_it"

    def __init__(self, *fixtures: str, file: str = "test_file.py") -> None:
        self.fixturenames = fixtures
        self.path = Path(file)
        self.markers = []

    def add_marker(self, marker) -> None:
        self.markers.append(marker)

    def get_closest_marker(self, name):
        found = (getattr(marker, "mark", marker) for marker in self.markers)
        return next((mark for mark in found if mark.name == name), None)

    @property
    def names(self) -> set[str]:
        return {marker.mark.name for marker in self.markers} - {"xdist_group"}


@pytest.mark.parametrize(
    ("fixture", "markers"),
    [("built", {"spark"}), ("server", {"process"}), ("tmp_path", set()), ("spark", {"spark"})],
)
def test_a_test_has_the_markers_of_its_fixtures(fixture, markers) -> None:
    item = Item(fixture)
    kinds.mark([item])
    assert item.names == markers


def test_tests_with_the_session_share_a_worker_and_those_of_a_file_another() -> None:
    items = [Item(file="a.py"), Item("spark", file="a.py"), Item("spark"), Item("built")]
    kinds.mark(items)
    groups = [item.get_closest_marker("xdist_group").args[0] for item in items]
    assert groups == ["a.py", "spark", "spark", "test_file.py"]
    kinds.sort(items)
    assert [item.fixturenames for item in items] == [("spark",), ("spark",), (), ("built",)]


@pytest.mark.process
def test_a_test_that_starts_a_process_and_does_not_say_so_fails() -> None:
    started = kinds.Started()
    subprocess.run([sys.executable, "-c", ""], check=True)
    programs = started.take()
    with pytest.raises(pytest.fail.Exception, match=r"test_it started .*; mark it"):
        kinds.require_marker(Item(), programs)
    marked = Item()
    marked.add_marker(pytest.mark.process)
    kinds.require_marker(marked, programs)
    kinds.require_marker(Item(), ["/usr/bin/git"])
    assert started.take() == []


def test_pytest_xdist_takes_the_groups(request) -> None:
    """It reads them in the hook that gives them, and must do so afterwards."""
    if hasattr(request.config, "workerinput"):
        assert request.node.nodeid.endswith("@test_kinds.py")
