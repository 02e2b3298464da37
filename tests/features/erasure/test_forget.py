"""A user in every place is gone from all of them, and nobody else's rows are."""

import pytest
from support.erasure import planted
from support.erasure.erasing import UNTIL, erasure
from support.erasure.planted import DAYS, GONE, STAYS

from features.erasure import forget, lake_tables
from features.erasure.person import person_of
from features.erasure.proof import read_proof
from features.lake.candidate import candidates
from features.lake.commit import commit
from features.lake.compact import compact
from features.lake.erased import erased_users
from features.lake.lake import Lake
from features.lake.pins import pins
from features.lake.snapshot import snapshot
from features.places import place
from features.provenance.known import KnownLake
from features.provenance.learnt import (
    Learnt,
    Step,
    all_learnt,
    put_learnt,
    rows_of,
    unlearnt_days,
)


class KilledError(BaseException):
    """Stands for a signal: nothing is cleaned up."""


def contents(schema, var):
    """Rows of every day of every table, and their content hashes."""
    found = {}
    for name in lake_tables.in_order(place(var) / "lake" / schema.name):
        table = snapshot(place(var) / "lake" / schema.name / name)
        for day in table.days:
            found[name, day] = table.read(day).to_pylist(), table.partition(day).content_hash
    return found


def test_no_byte_of_the_user_is_left_and_other_rows_are_as_if_they_had_never_been(made, var):
    schema, _ = made
    assert len(planted.files_with(var, GONE)) == 24
    proof = erasure(schema, var).run(until=UNTIL)
    assert planted.files_with(var, GONE) == []
    expected = {
        (name, day): (table.to_pylist(), snapshot_hash(table))
        for day in DAYS
        for name, table in planted.rows_by_table(day, has_user=False).items()
    }
    assert contents(schema, var) == expected
    # Events have no user's id: those of superseded versions are counted.
    assert len(list((var / "lake").rglob("day=*/*.parquet"))) == len(expected)
    assert not any(proof["verification"]["tables"].values())
    assert proof["state"] == "done"


def snapshot_hash(table):
    """The content hash of a day that has these rows."""
    from features.lake.day_rows import FileDescription, WrittenFile, partition_of

    ((total, mixed),) = planted.sums_of([table])
    file = WrittenFile("", 0, DAYS[0], len(table), total, mixed)
    return partition_of("any", DAYS[0], [file], FileDescription()).content_hash


def test_untouched_days_keep_their_files_to_the_byte_and_the_proof_says_so(made, var):
    schema, _ = made
    root = place(var) / "lake" / schema.name
    names = lake_tables.in_order(root)
    before = {name: snapshot(root / name).files(DAYS[2]) for name in names}
    was = {path: place(path).read_bytes() for paths in before.values() for path in paths}
    proof = erasure(schema, var).run(until=UNTIL)
    assert {name: snapshot(root / name).files(DAYS[2]) for name in names} == before
    assert {path: place(path).read_bytes() for path in was} == was
    for name, table in proof["tables"].items():
        assert list(table["days"]) == [str(day) for day in DAYS[:2]], name
        assert list(table["untouched"]) == [str(DAYS[2])]
        assert table["untouched_unchanged"] is True
        for day in table["days"].values():
            assert (day["rows"], day["rows_naming"]) == ((0, 1) if name == "buyers" else (1, 0))
            assert day["hash_before"] != day["hash_after"]
    assert proof["tables"].keys() == set(names)
    assert proof["examples"] == {"erased": 2, "erased_before": 0, "left": 3, "version": 2}


def test_superseded_files_a_candidate_and_a_pin_that_has_become_useless_go(made, var):
    schema, _ = made
    root = place(var) / "lake" / schema.name
    rows = {
        day: rows_of(part) for day, part in snapshot(root / "examples").partitions(DAYS).items()
    }
    record = Learnt(checkpoint="a", at=UNTIL, steps=[Step(by="a", days=rows)])
    put_learnt(root, record)
    proof = erasure(schema, var).run(until=UNTIL)
    states, examples = proof["tables"]["user_state"], proof["tables"]["examples"]
    assert states["candidates_removed"] == [f"{DAYS[2]}_{DAYS[2]}"]
    assert candidates(root, "user_state") == []
    assert examples["pins_removed"] == ["old"]
    assert pins(root, "examples") == []
    # What was learnt of the pinned version was learnt, and the rest of its days are as they were.
    assert (all_learnt(root), unlearnt_days(root, DAYS)) == ([record], [])
    assert examples["old_files_removed"] == 3


def test_what_a_running_job_may_be_about_to_publish_stays_for_the_grace_time(made, var):
    schema, _ = made
    root = place(var) / "lake" / schema.name
    proof = erasure(schema, var, hours=1).run(until=UNTIL)
    assert candidates(root, "user_state") == [f"{DAYS[2]}_{DAYS[2]}"]
    assert proof["verification"]["old_files"] == {"user_state": 1}
    assert "1 files of user_state" in proof["left"][0]["what"]
    (left,) = planted.files_with(var, GONE)
    assert left.startswith(f"lake/visits/user_state/day={DAYS[2]}")


def test_a_second_run_finds_nothing(made, var):
    schema, _ = made
    erasure(schema, var).run(until=UNTIL)
    before = contents(schema, var)
    again = erasure(schema, var)
    assert again.plan() == ({}, {})
    proof = again.run(until=UNTIL)
    assert contents(schema, var) == before
    assert (proof["tables"], proof["online_store"]) == ({}, {})
    assert proof["prediction_log"]["rows"] == 0
    (entry,) = erased_users(place(var) / "lake" / schema.name)
    assert (entry.num_examples, entry.until) == (2, UNTIL)


def test_what_an_erasure_has_removed_is_of_its_version_also_after_later_ones(made, var):
    """A training from scratch between two runs has not learnt what the first has removed."""
    schema, _ = made
    root = place(var) / "lake" / schema.name
    erasure(schema, var).run(until=UNTIL)
    first = snapshot(root / "examples").version

    def noted(*, has_user):
        rows = planted.rows_by_table(DAYS[2], has_user=has_user)
        planted.committed(root / "examples", {DAYS[2]: rows["examples"]})
        erasure(schema, var).run(until=UNTIL)
        (entry,) = erased_users(root)
        return [(one.rows, one.version) for one in entry.examples]

    assert noted(has_user=False) == [(2, first)]
    again = noted(has_user=True)
    assert again == [(2, first), (1, snapshot(root / "examples").version)]
    assert again[1][1] > first
    assert noted(has_user=False) == again


def killed_at(monkeypatch, where):
    """Let a run be killed at a moment."""
    module, name, at = {
        "after the first commit": (lake_tables.old_files, "clear", 1),
        "between two tables": (lake_tables.old_files, "clear", 6),
        "before the impressions are done": (lake_tables.old_files, "clear", 10),
        "before the store": (forget, "erase_rows", 1),
        "before the log": (forget, "erase_log", 1),
        "before the proof is closed": (forget, "what_is_left", 1),
    }[where]
    original, calls = getattr(module, name), []

    def killed(*arguments, **named):
        calls.append(name)
        if len(calls) == at:
            raise KilledError
        return original(*arguments, **named)

    monkeypatch.setattr(module, name, killed)


@pytest.mark.parametrize(
    "where",
    [
        "after the first commit",
        "between two tables",
        "before the impressions are done",
        "before the store",
        "before the log",
        "before the proof is closed",
    ],
)
def test_a_killed_run_is_finished_by_the_next_with_the_same_end(made, var, monkeypatch, where):
    schema, _ = made
    with monkeypatch.context() as patched:
        killed_at(patched, where)
        with pytest.raises(KilledError):
            erasure(schema, var).run(until=UNTIL)
    proof = erasure(schema, var).run(until=UNTIL)
    assert planted.files_with(var, GONE) == []
    assert len(list((var / "proofs").iterdir())) == 1
    removed = {
        name: [day["rows"] + day["rows_naming"] for day in table["days"].values()]
        for name, table in proof["tables"].items()
    }
    assert removed == {name: [1, 1] for name in planted.rows_by_table(DAYS[0])}
    assert all(table["untouched_unchanged"] for table in proof["tables"].values())
    (entry,) = erased_users(place(var) / "lake" / schema.name)
    assert [one.rows for one in entry.examples] == [2]


def test_a_dry_run_counts_and_changes_nothing(made, var):
    schema, _ = made
    before = {file: file.read_bytes() for file in var.rglob("*") if file.is_file()}
    asked = erasure(schema, var)
    plan = asked.plan()
    assert plan.days.keys() == planted.rows_by_table(DAYS[0]).keys()
    assert all([*days] == DAYS[:2] for days in plan.days.values())
    assert len(plan.old["examples"]) == 1
    assert asked.stored(dry_run=True) == {
        **dict.fromkeys(("user_state", "taste", "buyers"), 1),
        # Of the user, of the pair; an item's own entry stays.
        "ranking_changes": 2,
    }
    log, unknown = asked.logged(dry_run=True)
    assert (log["rows"], len(unknown)) == (2, 1)
    assert {file: file.read_bytes() for file in var.rglob("*") if file.is_file()} == before


def test_what_was_made_of_a_rewritten_day_is_not_stale(made, var):
    """The day says which rows it had, and what it was made of, although they are others now."""
    schema, _ = made
    root = place(var) / "lake" / schema.name / "impressions"
    day, inputs = DAYS[1], {"impressions_raw 2025-01-02": "0123", "code": "1"}
    found = snapshot(root)
    before = found.partition(day)
    said = {"content_hashes": {str(day): before.content_hash}, "made_of": {str(day): inputs}}
    commit(
        root,
        [planted.written(root, day, planted.rows_by_table(day)["impressions"])],
        found.numbers([day]),
        struct=found.schema_json,
        metadata=said,
    )
    known = KnownLake(Lake(place(var) / "lake", schema.name)).made("impressions", day)
    assert (known.content, known.inputs) == (before.content_hash, inputs)
    for user in (GONE, STAYS):
        erasure(schema, var, user=user).run(until=UNTIL)
        after = snapshot(root).partition(day)
        assert after.content_hash != before.content_hash
        assert KnownLake(Lake(place(var) / "lake", schema.name)).made("impressions", day) == known
    compact(root, [day], metadata={})
    assert snapshot(root).partition(day).stands_for == before.content_hash


def test_the_proof_has_no_id_and_is_that_of_this_user_alone(made, var):
    schema, _ = made
    erasure(schema, var).run(until=UNTIL)
    erasure(schema, var, user=STAYS).run(until=UNTIL)
    mine, other = sorted((var / "proofs").iterdir(), key=lambda file: file.stat().st_mtime)
    hashes = {read_proof(place(file))["user_hash"] for file in (mine, other)}
    assert len(hashes) == 2
    assert planted.files_with(var, GONE) == planted.files_with(var, STAYS) == []


def test_an_id_that_cannot_be_one_is_refused():
    from features.datasets.catalog import schema_of

    with pytest.raises(ValueError, match="user_id is of type int64"):
        person_of(schema_of("synthetic"), "seven")
    with pytest.raises(ValueError, match="users have no id"):
        person_of(schema_of("open-bandit"), "7")
