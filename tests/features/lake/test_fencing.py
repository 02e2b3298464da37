"""A job that outlived its run's lease writes nothing once the next holder has."""

import pytest
from support.lake_rows import MONDAY, replaced, rows_of

from features.lake.commit import LeaseOverError
from features.lake.snapshot import snapshot


def test_a_lower_lease_is_refused_once_a_higher_one_has_written(anywhere, monkeypatch):
    """The same job under its own number goes on; by hand there is no number, and no refusal."""
    root = anywhere / "table"
    monkeypatch.setenv("RANKING_LEASE", "7")
    replaced(root, MONDAY, who="first")
    replaced(root, MONDAY, who="first again")
    monkeypatch.setenv("RANKING_LEASE", "8")
    replaced(root, MONDAY, who="next")
    monkeypatch.setenv("RANKING_LEASE", "7")
    with pytest.raises(LeaseOverError, match="table: lease 7 is over: a run with lease 8 has writ"):
        replaced(root, MONDAY, who="outlived")
    assert rows_of(snapshot(root), MONDAY) == [("next", 2)]
    monkeypatch.delenv("RANKING_LEASE")
    replaced(root, MONDAY, who="by hand")
    assert (rows_of(snapshot(root), MONDAY), snapshot(root).lease) == ([("by hand", 2)], 8)
