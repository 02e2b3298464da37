"""One commit replaces whole days, by rules that hold for any number of writers, on any place."""

import datetime
import multiprocessing

import pyarrow as pa
import pytest
from support.lake_rows import MONDAY, replaced, rows_of, struct_of, written

from features.lake import commit as commits
from features.lake.commit import ConflictError, commit, remove, vacuum
from features.lake.snapshot import snapshot

TUESDAY, WEDNESDAY = (MONDAY + datetime.timedelta(days=n) for n in (1, 2))


pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def two_writers(object_store):
    """Processes that commit at the same moment; they see the store's address."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(2, _begin, [context.Barrier(2)]) as pool:
        yield pool


def _begin(barrier):
    """In a process of the pool."""
    global both
    both = barrier


def writer(root, day, who, is_alone=False):
    """In a process of its own: write, wait for the other, commit; returns why it lost."""
    base = snapshot(root).numbers([day])
    files = [written(root, day, 3, who)]
    if not is_alone:
        both.wait(60)
    try:
        commit(root, files, base, struct=struct_of(), metadata={"job": who, "run": f"run of {who}"})
    except ConflictError as error:
        return str(error)
    return None


@pytest.mark.parametrize("before", [(), (MONDAY,), (MONDAY, TUESDAY, WEDNESDAY)])
def test_of_two_writers_of_one_day_one_wins_and_the_other_learns_of_it(
    anywhere, two_writers, before
):
    """delta-rs alone lets both win where the day is new, and the day has the rows of both."""
    root = anywhere / "table"
    if before:
        replaced(root, *before)
    jobs = [(root, TUESDAY, who) for who in ("a", "b")]
    reasons = two_writers.starmap(writer, jobs)
    assert sum(reason is None for reason in reasons) == 1
    winner = "ab"[reasons.index(None)]
    lost = next(reason for reason in reasons if reason)
    assert lost == (
        f"table: {TUESDAY} replaced by job {winner} of run run of {winner} since this job began; "
        "run it again"
    )
    assert rows_of(snapshot(root), TUESDAY) == [(winner, 3)]
    loser = "ba"["ab".index(winner)]
    assert writer(root, TUESDAY, loser, is_alone=True) is None
    assert rows_of(snapshot(root), TUESDAY) == [(loser, 3)]


@pytest.mark.parametrize("before", [(), (MONDAY,), (MONDAY, TUESDAY, WEDNESDAY)])
def test_of_two_writers_of_different_days_both_win(anywhere, two_writers, before):
    """delta-rs alone fails one of them where the days exist."""
    root = anywhere / "table"
    if before:
        replaced(root, *before)
    jobs = [(root, TUESDAY, "a"), (root, WEDNESDAY, "b")]
    assert two_writers.starmap(writer, jobs) == [None, None]
    assert rows_of(snapshot(root), TUESDAY, WEDNESDAY) == [("a", 3), ("b", 3)]


def test_a_reader_of_the_version_before_is_undisturbed(anywhere):
    root = anywhere / "table"
    replaced(root, MONDAY, TUESDAY, who="before")
    before = snapshot(root)
    replaced(root, MONDAY, who="after", rows=5)
    assert rows_of(before, MONDAY, TUESDAY) == [("before", 2), ("before", 2)]
    assert rows_of(snapshot(root), MONDAY, TUESDAY) == [("after", 5), ("before", 2)]


def test_a_commit_without_days_does_not_replace_the_table(tmp_path):
    """As delta-rs takes an empty filter."""
    replaced(tmp_path, MONDAY)
    with pytest.raises(ValueError, match="no day to replace; at least one"):
        commit(tmp_path, [], {}, struct=struct_of(), metadata={})
    assert snapshot(tmp_path).days == [MONDAY]


def test_a_file_of_a_day_that_is_not_replaced_is_refused(tmp_path):
    """delta-rs would add it to what the day has."""
    replaced(tmp_path, MONDAY, TUESDAY)
    file = written(tmp_path, TUESDAY, 1)
    with pytest.raises(ValueError, match="rows of 2025-01-07 are outside the days to replace"):
        commit(tmp_path, [file], {MONDAY: 1}, struct=struct_of(), metadata={})
    assert rows_of(snapshot(tmp_path), TUESDAY) == [("", 2)]


def test_other_columns_are_taken_only_where_no_day_keeps_the_old_ones(tmp_path):
    """delta-rs would change the columns of all days."""
    replaced(tmp_path, MONDAY, TUESDAY)
    other = struct_of(pa.schema([("id", pa.string())]))
    numbers = snapshot(tmp_path).numbers([MONDAY, TUESDAY])
    with pytest.raises(ValueError, match="other columns than 1 days from 2025-01-07"):
        commit(tmp_path, [], {MONDAY: numbers[MONDAY]}, struct=other, metadata={})
    commit(tmp_path, [], numbers, struct=other, metadata={})
    assert "who" not in snapshot(tmp_path).schema_json


def test_a_commit_whose_answer_was_lost_is_not_a_conflict(tmp_path, monkeypatch):
    write = commits._write

    def write_and_lose_the_answer(*arguments):
        write(*arguments)
        raise OSError("connection reset")

    monkeypatch.setattr(commits, "_write", write_and_lose_the_answer)
    assert replaced(tmp_path, MONDAY, who="a") == 0
    assert replaced(tmp_path, MONDAY, who="b") == 1
    assert rows_of(snapshot(tmp_path), MONDAY) == [("b", 2)]


def test_a_place_that_does_not_answer_is_named(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no answer")

    monkeypatch.setattr(commits, "_write", fail)
    monkeypatch.setattr(commits, "_TRIES", 2)
    with pytest.raises(OSError, match=r"not committed in 2 tries, the last: no answer"):
        replaced(tmp_path, MONDAY)


def test_a_vacuum_keeps_pinned_versions_and_removes_what_no_version_names(anywhere):
    root = anywhere / "table"
    for number in range(4):
        replaced(root, MONDAY, TUESDAY, who=str(number))
    orphan = written(root, WEDNESDAY, 9)
    assert WEDNESDAY not in snapshot(root).days
    pinned = snapshot(root, 1)
    assert vacuum(root, hours=48) == (0, 0)
    assert vacuum(root, hours=0, keep_versions=[1]).num_files == 5
    assert not (root / orphan.path).exists()
    assert rows_of(pinned, MONDAY, TUESDAY) == [("1", 2), ("1", 2)]
    assert rows_of(snapshot(root), MONDAY, TUESDAY) == [("3", 2), ("3", 2)]
    assert vacuum(root, hours=0).num_files == 2


def test_days_are_removed_in_one_version(tmp_path):
    replaced(tmp_path, MONDAY, TUESDAY, WEDNESDAY)
    remove(tmp_path, [MONDAY, WEDNESDAY], metadata={"job": "prune"})
    assert snapshot(tmp_path).days == [TUESDAY]
    assert snapshot(tmp_path, 0).days == [MONDAY, TUESDAY, WEDNESDAY]
