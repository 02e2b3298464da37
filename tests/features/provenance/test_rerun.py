"""What becomes of a day that landed again: nothing, a rebuild, or a question to a person."""

import dataclasses

import pytest
from support.features.made_lake import DAYS, MadeLake

from features.datasets.catalog import schema_of
from features.lake.lake import EXAMPLES, IMPRESSIONS_RAW
from features.provenance.known import Made
from features.provenance.mending import mending_commands
from features.provenance.rerun import Rule, rerun_of
from features.provenance.staleness import following, stale_days

DAY = DAYS[3]
BEFORE, AFTER = Made("a"), Made("b")


@pytest.fixture
def lake():
    return MadeLake(schema_of("synthetic"))


def rule_of(lake, after=AFTER, *, learnt=None, built=DAYS):
    follows = following(lake.schema, lake.known, [(IMPRESSIONS_RAW, DAY)])
    of = {"follows": follows, "learnt": learnt or {}, "built": built}
    return rerun_of(IMPRESSIONS_RAW, DAY, before=BEFORE, after=after, **of)


def test_the_same_rows_lead_to_nothing_whoever_has_learnt_them(lake):
    found = rule_of(lake, dataclasses.replace(BEFORE), learnt=dict.fromkeys(DAYS, "r1"))
    assert (found.rule, found.reason) == (Rule.NO_OP, "the rows are what they were, a")


def test_other_rows_that_nobody_has_learnt_are_built_again(lake):
    found = rule_of(lake, learnt=dict.fromkeys(DAYS[:3], "r1"))
    assert (found.rule, found.reason) == (Rule.REBUILD, "rows a -> b; 5 days follow")


def test_other_rows_wait_for_a_person_where_a_ranker_has_learnt_what_follows(lake):
    found = rule_of(lake, learnt={DAYS[2]: "r1", DAYS[3]: "r1", DAYS[4]: "r2"})
    assert found.rule is Rule.HOLD
    assert found.reason == (
        f"rows a -> b; r2 has learnt examples of 2 days that follow, from {DAY} to {DAYS[4]}"
    )


def test_other_rows_of_the_same_file_are_built_again_whoever_has_learnt_the_old_ones(lake):
    """Nothing has landed again: another schema, or other code, makes other rows of it."""
    inputs = {"code": "1", "landed": "f00d"}
    follows = following(lake.schema, lake.known, [(IMPRESSIONS_RAW, DAY)])
    asked = {"follows": follows, "learnt": dict.fromkeys(DAYS, "r1"), "built": DAYS}
    before, after = Made("a", inputs=inputs), Made("b", inputs={**inputs, "code": "2"})
    found = rerun_of(IMPRESSIONS_RAW, DAY, before=before, after=after, **asked)
    assert (found.rule, "the file is the same" in found.reason) == (Rule.REBUILD, True)
    other = Made("b", inputs={**inputs, "landed": "beef"})
    found = rerun_of(IMPRESSIONS_RAW, DAY, before=before, after=other, **asked)
    assert found.rule is Rule.HOLD


def test_other_rows_of_days_whose_features_are_kept_no_longer_wait_too(lake):
    found = rule_of(lake, built=DAYS[4:])
    assert found.rule is Rule.HOLD
    assert f"features are kept from {DAYS[4]} on" in found.reason


def test_one_command_makes_all_that_is_stale_again(lake):
    lake.files[IMPRESSIONS_RAW, DAY] = "again"
    stale = stale_days(lake.schema, lake.known, landed=lake.landed)
    span = f"--dataset synthetic --date {DAY} --to {DAYS[-1]}"
    commands = mending_commands(lake.schema, lake.known, stale)
    assert commands == [f"python -m features {one} {span}" for one in ("history", "materialize")]
    only = [one for one in stale if one.table == EXAMPLES]
    assert mending_commands(lake.schema, lake.known, only) == [
        f"python -m features examples {span}"
    ]
    assert mending_commands(lake.schema, lake.known, []) == []


def test_after_a_change_of_the_schema_all_days_are_made_at_once(lake):
    schema = lake.schema.without_push()
    stale = stale_days(schema, lake.known)
    span = f"--dataset synthetic --date {DAYS[0]} --to {DAYS[-1]}"
    apply, history, _ = mending_commands(schema, lake.known, stale)
    assert apply == "python -m features apply --dataset synthetic"
    assert history == f"python -m features history --days-per-chunk 8 --first-day {span}"
