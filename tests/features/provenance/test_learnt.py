"""What was learnt is what trainings that are done have written, whatever else is pinned or gone."""

import datetime

import pytest
from support.features.made_lake import DAYS
from support.lake_rows import replaced

from features.erasure.rows import without_rows
from features.lake.commit import is_rewrite, remove
from features.lake.compact import compact
from features.lake.pins import pins, put_pin, remove_pin
from features.lake.snapshot import snapshot
from features.provenance.learnt import (
    EXAMPLES,
    FOLDER,
    Learnt,
    Step,
    all_learnt,
    find_learnt,
    learnt_days,
    learnt_otherwise,
    mended_first,
    newest_learnt,
    put_learnt,
    rows_of,
    unlearnt_days,
)

NOON = datetime.datetime(2025, 1, 20, 12, tzinfo=datetime.UTC)


@pytest.fixture
def lake(tmp_path):
    """Three days of examples, of two rows each."""
    replaced(tmp_path / EXAMPLES, *DAYS[:3])
    return tmp_path


def rows_now(lake, days):
    return {day: rows_of(part) for day, part in snapshot(lake / EXAMPLES).partitions(days).items()}


def trained(
    lake, name, days, *, judged=(), before=(), parent=None, hours=0, role="", fingerprint="print"
):
    """The record of a training that has learnt some days as they are, after earlier ones."""
    version, rows = snapshot(lake / EXAMPLES).version, rows_now(lake, days)
    own = Step(by=name, parent=parent, version=version, fingerprint=fingerprint, days=rows)
    steps = [*before, own]
    at = NOON + datetime.timedelta(hours=hours)
    judged = rows_now(lake, judged)
    one = Learnt(checkpoint=name, role=role, at=at, steps=steps, judged=judged)
    put_learnt(lake, one)
    return one


def test_a_record_is_read_as_it_was_written(lake):
    one = trained(lake, "2025-01-08", DAYS[:2], judged=DAYS[2:3])
    assert find_learnt(lake, one.checkpoint) == one
    assert all_learnt(lake) == [one]
    assert find_learnt(lake, "2025-01-09") is None


def test_a_training_that_only_began_has_learnt_nothing(lake):
    """It has pinned what it reads, and was killed."""
    put_pin(lake, snapshot(lake / EXAMPLES), "2025-01-08-v0", who="training")
    assert learnt_days(lake) == {}
    assert unlearnt_days(lake, DAYS) == DAYS[:3]


def test_what_was_learnt_or_judged_is_so_when_no_pin_is_left(lake):
    put_pin(lake, snapshot(lake / EXAMPLES), "2025-01-08-v0", who="training")
    trained(lake, "2025-01-08", DAYS[:2], judged=DAYS[2:3])
    for pin in pins(lake, EXAMPLES):
        remove_pin(lake, pin)
    assert learnt_days(lake) == dict.fromkeys(DAYS[:3], "2025-01-08")
    assert unlearnt_days(lake, DAYS) == []


def test_to_be_learnt_is_what_the_newest_training_has_read_otherwise(lake):
    trained(lake, "2025-01-08", DAYS[:3])
    replaced(lake / EXAMPLES, DAYS[1], rows=5)
    replaced(lake / EXAMPLES, DAYS[2], DAYS[3])
    assert unlearnt_days(lake, DAYS) == [DAYS[1], DAYS[3]]


def test_a_training_that_went_on_from_old_rows_has_not_learnt_the_new_ones(lake):
    """Though it has read a version of the table that has them."""
    before = trained(lake, "2025-01-08", DAYS[:2])
    replaced(lake / EXAMPLES, DAYS[1], rows=5)
    trained(lake, "2025-01-09", DAYS[2:3], before=before.steps)
    assert unlearnt_days(lake, DAYS) == [DAYS[1]]


def test_after_the_training_on_days_made_again_the_next_goes_on_from_it(lake):
    """Not from a later one that has learnt the old rows, also of days it has not come to yet."""
    old = trained(lake, "2025-01-06", DAYS[:1])
    first = trained(lake, "2025-01-07", DAYS[1:2], before=old.steps)
    second = trained(lake, "2025-01-08", DAYS[2:3], before=first.steps)
    for day in DAYS[1:3]:
        replaced(lake / EXAMPLES, day, rows=5)
    newest = snapshot(lake / EXAMPLES)
    # Nobody has learnt the new rows: the one before the change is no substitute.
    assert mended_first([second, first, old], newest) == [second, first, old]
    assert learnt_otherwise(second, newest) == DAYS[1:3]
    again = trained(lake, "2025-01-07", DAYS[1:2], judged=DAYS[2:3], before=old.steps, hours=9)
    assert mended_first([second, again, old], newest) == [again, second, old]
    assert newest_learnt(lake) == again
    assert unlearnt_days(lake, DAYS) == []


def test_before_the_first_day_that_is_known_of_a_line_nothing_is_to_be_learnt(lake):
    """Its older checkpoints went before there were records."""
    trained(lake, "2025-01-08", DAYS[1:2], judged=DAYS[2:3], parent="2025-01-07")
    replaced(lake / EXAMPLES, DAYS[3])
    assert unlearnt_days(lake, DAYS) == [DAYS[3]]
    replaced(lake / EXAMPLES, DAYS[1], rows=5)
    assert unlearnt_days(lake, DAYS) == [DAYS[1], DAYS[3]]
    assert unlearnt_days(lake, []) == []


def test_a_change_that_was_taken_back_is_learnt_again_only_after_that(lake):
    """Who has learnt the same rows before the change is no better than who has not."""
    first = trained(lake, "2025-01-06", DAYS[:2])
    replaced(lake / EXAMPLES, DAYS[1], rows=5)
    second = trained(lake, "2025-01-07", DAYS[:2], judged=DAYS[2:3])
    replaced(lake / EXAMPLES, DAYS[1])
    replaced(lake / EXAMPLES, DAYS[3])
    newest = snapshot(lake / EXAMPLES)
    assert learnt_otherwise(second, newest) == [DAYS[1]]
    assert mended_first([second, first], newest) == [second, first]
    third = trained(lake, "2025-01-08", DAYS[:2])
    # Neither files that are joined, nor a user who is erased, nor the same rows are a change.
    compact(lake / EXAMPLES, [DAYS[1]], metadata={})
    erase(lake, DAYS[1], 0)
    # Also by a version that was opened before them.
    assert mended_first([second, third, first], newest) == [third, second, first]
    assert mended_first([second, third], snapshot(lake / EXAMPLES)) == [third, second]


def test_a_trial_does_not_count_as_the_newest_training(lake):
    own = trained(lake, "2025-01-08", DAYS[:3])
    trained(lake, "2025-01-08-control-x", DAYS[:1], hours=1, role="control")
    assert newest_learnt(lake) == own


def test_days_that_are_gone_or_of_another_schema_are_not_learnt_otherwise(lake):
    one = trained(lake, "2025-01-08", DAYS[:3])
    other = trained(lake, "2025-01-09", DAYS[:3], fingerprint="of another schema")
    remove(lake / EXAMPLES, [DAYS[0]], metadata={})
    replaced(lake / EXAMPLES, DAYS[1], rows=5)
    newest = snapshot(lake / EXAMPLES)
    assert learnt_otherwise(one, newest) == [DAYS[1]]
    assert learnt_otherwise(other, newest) == []


class OfUser:
    """Rows of one id are the user's."""

    def __init__(self, number):
        self.number = number

    def columns(self, names):
        return ["id"]

    def mask(self, rows):
        return rows.column("id").to_numpy() == self.number

    def named_in(self, rows):
        return {}


def erase(lake, day, number):
    """Write a day without a row, as an erasure does."""
    found = snapshot(lake / EXAMPLES)
    sums = {"hash_sums_of": lambda tables: [(len(rows), 0) for rows in tables]}
    without_rows(found, [day], OfUser(number), metadata={"job": "forget"}, **sums)


def test_a_day_from_which_users_were_erased_is_as_it_was_learnt(lake):
    """Before the training or after it, once or again; and nothing has to be learnt anew."""
    replaced(lake / EXAMPLES, DAYS[0], rows=4)
    before = trained(lake, "2025-01-08", DAYS[:3])
    erase(lake, DAYS[0], 0)
    between = trained(lake, "2025-01-09", DAYS[:3])
    erase(lake, DAYS[0], 1)
    newest = snapshot(lake / EXAMPLES)
    assert newest.partition(DAYS[0]).rows == 2
    assert [learnt_otherwise(one, newest) for one in (before, between)] == [[], []]
    assert unlearnt_days(lake, DAYS) == []
    replaced(lake / EXAMPLES, DAYS[0], rows=3)
    assert unlearnt_days(lake, DAYS) == [DAYS[0]]


def test_a_record_that_cannot_be_read_is_named(lake):
    trained(lake, "2025-01-08", DAYS[:3])
    (lake / FOLDER / "2025-01-08.json").write_text('{"steps": [{"by": 1}]}')
    with pytest.raises(ValueError, match=r"learnt .*2025-01-08.json: cannot be read"):
        learnt_days(lake)


@pytest.mark.parametrize(
    ("said", "expected"),
    [({"job": "build"}, False), ({"job": "prune", "rewrites": "files joined"}, True),
     ({"job": "forget"}, True)],
)  # fmt: skip
def test_an_erasure_of_an_earlier_version_has_made_no_rows_either(said, expected):
    assert is_rewrite(said) is expected
