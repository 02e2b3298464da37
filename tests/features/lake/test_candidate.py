"""A candidate is found again as it was put, and published once however often one tries."""

import datetime

import pytest
from support.lake_rows import MONDAY, replaced, rows_of, struct_of, written

from features.lake.candidate import Candidate, candidate, joined, manifest
from features.lake.commit import ConflictError
from features.lake.compact import compact
from features.lake.day_rows import FileDescription
from features.lake.snapshot import snapshot
from features.lineage.observed import observing

pytestmark = pytest.mark.process

TUESDAY, WEDNESDAY = (MONDAY + datetime.timedelta(days=n) for n in (1, 2))


def staged(lake, *days, who="new", **more) -> Candidate:
    root = lake / "table"
    return Candidate(
        "table",
        snapshot(root).numbers(days),
        [written(root, day, 3, who) for day in days],
        struct_of(),
        FileDescription("print", {days[0]: datetime.datetime(2025, 2, 1, tzinfo=datetime.UTC)}),
        {"job": "build"},
        **more,
    )


def test_a_candidate_is_read_back_as_it_was_put_and_gives_way_to_the_next(anywhere):
    replaced(anywhere / "table", MONDAY, who="old")
    first = staged(anywhere, MONDAY, made_of={MONDAY: {"code": "1"}})
    file = first.put(anywhere, [MONDAY, TUESDAY])
    assert candidate(anywhere, "table", [MONDAY, TUESDAY]) == first
    assert candidate(anywhere, "table", [MONDAY]) is None
    assert file == manifest(anywhere, "table", [MONDAY, TUESDAY])
    assert rows_of(snapshot(anywhere / "table"), MONDAY) == [("old", 2)]
    second = staged(anywhere, MONDAY)
    second.put(anywhere, [MONDAY, TUESDAY])
    assert candidate(anywhere, "table", [MONDAY, TUESDAY]) == second


def test_a_candidate_that_is_published_twice_is_one_commit(tmp_path):
    one = staged(tmp_path, MONDAY)
    assert [one.publish(tmp_path), one.publish(tmp_path)] == [0, 0]
    assert rows_of(snapshot(tmp_path / "table"), MONDAY) == [("new", 3)]


def test_a_candidate_of_a_day_that_was_replaced_meanwhile_is_a_conflict(tmp_path):
    one = staged(tmp_path, MONDAY)
    replaced(tmp_path / "table", MONDAY, who="other", run="night")
    with pytest.raises(ConflictError, match=f"{MONDAY} replaced by job other of run night"):
        one.publish(tmp_path)


def test_a_preview_shows_the_candidates_days_and_keeps_the_numbers_of_its_base(tmp_path):
    root = tmp_path / "table"
    replaced(root, MONDAY, TUESDAY, who="old")
    both = joined([staged(tmp_path, TUESDAY), staged(tmp_path, WEDNESDAY)])
    replaced(root, TUESDAY, who="other")
    inputs = {WEDNESDAY: {"code": "2"}}
    seen = snapshot(root).previewed(both.base, both.files, both.partitions(), inputs)
    assert (seen.made_of(TUESDAY), seen.made_of(WEDNESDAY)) == (None, {"code": "2"})
    assert rows_of(seen, MONDAY, TUESDAY, WEDNESDAY) == [("old", 2), ("new", 3), ("new", 3)]
    assert seen.partition(WEDNESDAY) == both.partitions()[1]
    assert seen.numbers([MONDAY, TUESDAY, WEDNESDAY]) == {MONDAY: 1, TUESDAY: 1, WEDNESDAY: 0}
    assert rows_of(snapshot(root), TUESDAY) == [("other", 2)]
    assert snapshot(root).days == [MONDAY, TUESDAY]


def test_what_is_read_of_a_first_candidate_is_known_before_its_table_is(tmp_path):
    """It has no version and no columns yet."""
    first = staged(tmp_path, MONDAY)
    seen = snapshot(tmp_path / "table").previewed(first.base, first.files, first.partitions(), {})
    with observing() as noted:
        assert rows_of(seen, MONDAY) == [("new", 3)]
    (found,) = noted.inputs
    assert (found.version, found.struct, list(found.days)) == ("", "", [MONDAY])


def test_a_day_says_what_its_rows_were_made_of_until_others_take_their_place(tmp_path):
    root, inputs = tmp_path / "table", {"code": "1", f"other {MONDAY}": "a"}
    both = joined([staged(tmp_path, MONDAY), staged(tmp_path, TUESDAY, made_of={TUESDAY: inputs})])
    both.publish(tmp_path)
    assert (snapshot(root).made_of(MONDAY), snapshot(root).made_of(TUESDAY)) == (None, inputs)
    compact(root, [TUESDAY], metadata={})
    assert snapshot(root).made_of(TUESDAY) == inputs
    replaced(root, TUESDAY, rows=5)  # by a job that records nothing
    assert snapshot(root).made_of(TUESDAY) is None
