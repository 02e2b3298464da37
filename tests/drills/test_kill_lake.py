"""A short form of ``make drill-lake``."""

import pytest

from features.places import place
from infra.drills.kill_lake import drill


@pytest.mark.process
def test_a_writer_that_is_killed_leaves_whole_versions_and_nothing_behind(tmp_path):
    found = drill(place(tmp_path / "lake"), place(tmp_path / "undisturbed"), kills=3)
    assert found["reads"] > 3
    assert (found["torn_reads"], found["orphans"]) == (0, 0)
    assert found["hashes_equal"]
