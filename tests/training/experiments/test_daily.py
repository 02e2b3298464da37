"""Policies of daily training: what each does, what they come to, and what age costs."""

import contextlib
import dataclasses
import json
import math
from xml.etree import ElementTree

import numpy as np
import pytest
from support.training.written_examples import days_of, written_examples

from features.places import place
from training.__main__ import main
from training.distributed import process_group as process_groups
from training.distributed.process_group import process_group
from training.evaluation.comparison import relative_change
from training.experiments.daily import results
from training.experiments.daily import rolled as rolling
from training.experiments.daily.policies import NEVER, POLICIES, USUAL, Policy
from training.experiments.daily.results import by_age
from training.experiments.daily.rolled import Rolled, recalibrated
from training.recipes import recipe_of

RECIPE = recipe_of("wukong-tiny")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return written_examples(tmp_path_factory.mktemp("daily"), num_rows=300, row_group=300, days=5)


@pytest.fixture(scope="module")
def roll(table, tmp_path_factory):
    with process_group():
        yield Rolled(table, RECIPE, days_of(table)[2:], place(tmp_path_factory.mktemp("first")))


@pytest.fixture(scope="module")
def usual(roll):
    return roll.scores(POLICIES[USUAL])


@pytest.mark.parametrize(
    ("policy", "field", "value"),
    [
        (Policy(rate=0.3), "final_learning_rate_share", 0.3),
        (Policy(passes=3), "warm_epochs", 3),
        (Policy(batch_size=64), "batch_size", 64),
    ],
)
def test_a_policy_changes_one_thing_of_the_recipe(policy, field, value):
    before, after = (dataclasses.asdict(one.training) for one in (RECIPE, policy.recipe(RECIPE)))
    assert {name for name in before if before[name] != after[name]} == {field}
    assert after[field] == value


def test_a_number_of_days_below_zero_is_refused():
    with pytest.raises(ValueError, match="replayed_days: -1; at least 0"):
        Policy(replayed_days=-1)


@pytest.mark.parametrize(
    "policy",
    [Policy(rate=1.0), Policy(passes=2), Policy(batch_size=64), Policy(replayed_days=2)],
    ids=str,
)
def test_a_day_is_predicted_before_it_is_learnt_in_the_policys_way(roll, usual, policy):
    found = roll.scores(policy)
    assert np.array_equal(found[0], usual[0])
    assert not np.array_equal(found[1], usual[1])


def test_replayed_days_are_those_before_the_new_one(roll, monkeypatch):
    learnt = []
    monkeypatch.setattr(rolling, "fit", lambda session, table, days, **_: learnt.append(days))
    roll.scores(Policy(replayed_days=2))
    # Nothing is predicted after the last day, so it is not learnt.
    days = days_of(roll.table)
    assert learnt == [days[:3], days[1:4]]


def test_one_that_is_never_retrained_is_the_oldest_of_each_day(roll, usual):
    aged, never = roll.scores_by_age(), roll.scores(POLICIES[NEVER])
    assert [sorted(one) for one in aged] == [[1], [1, 2], [1, 2, 3]]
    for number, one in enumerate(aged):
        assert np.array_equal(one[number + 1], never[number])
        assert np.array_equal(one[1], usual[number])


def test_from_scratch_is_a_ranker_that_began_with_the_days_so_far(roll, usual, tmp_path):
    later = Rolled(roll.table, RECIPE, roll.days[1:], place(tmp_path))
    daily = roll.scores(Policy(is_warm=False, cold_every=1))
    assert np.array_equal(daily[1], later.scores(Policy(is_warm=False))[0])
    every_second = roll.scores(Policy(cold_every=2))
    assert np.array_equal(every_second[1], usual[1])
    assert not np.array_equal(every_second[2], usual[2])


def test_days_need_something_to_begin_with(roll, tmp_path):
    with pytest.raises(ValueError, match="days: 0 to begin with, 5 to predict; at least 1 of each"):
        Rolled(roll.table, RECIPE, days_of(roll.table), place(tmp_path))


def scores_of(logits):
    return np.float32(1 / (1 + np.exp(-logits)))


def test_a_calibration_knows_the_days_before_alone():
    random = np.random.default_rng(0)
    true = [random.normal(0, 2, 20_000) for _ in range(3)]
    labels = [np.int64(random.random(20_000) < scores_of(one)) for one in true]
    off = [scores_of(0.5 * one + 1) for one in true]
    found = recalibrated(off, labels, newest=1)
    assert np.array_equal(found[0], off[0])
    assert np.abs(found[2] - scores_of(true[2])).max() < 0.03
    assert np.array_equal(recalibrated(off, [*labels[:2], 1 - labels[2]], newest=1)[2], found[2])
    assert np.array_equal(recalibrated(off, [1 - labels[0], *labels[1:]], newest=1)[2], found[2])


def test_too_few_rows_or_one_label_leave_scores_as_they_are():
    scores = [np.full(99, 0.2, np.float32), np.full(200, 0.2, np.float32)] * 2
    labels = [np.arange(99) % 2, np.ones(200, np.int64), np.arange(99) % 2, np.arange(200) % 2]
    for one, before in zip(recalibrated(scores, labels, newest=1), scores, strict=True):
        assert np.array_equal(one, before)


def test_a_change_is_relative_and_days_are_drawn():
    day = np.repeat(np.arange(40), 50)
    loss = np.random.default_rng(1).uniform(0.2, 1, len(day))
    same = relative_change(loss, loss, day)
    assert (same.change, same.low, same.high) == (0, 0, 0)
    # Each day moves as a whole: by rows it would look certain.
    moved = loss * np.where(day % 2, 1.2, 0.8)
    found = relative_change(moved, loss, day)
    assert found.change == pytest.approx((moved.sum() - loss.sum()) / loss.sum())
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.2 / math.sqrt(40), rel=0.2)


def test_ages_are_compared_with_the_newest_on_the_same_rows():
    label, day = np.ones(4, np.int64), np.array([0, 0, 1, 1])
    half, quarter = np.full(2, 0.5, np.float32), np.full(2, 0.25, np.float32)
    found = by_age(label, day, [[{1: quarter}, {1: half, 2: quarter}]])
    assert [(one["age"], one["days"]) for one in found] == [(1, 2), (2, 1)]
    # The first day, on which there is no older one, does not count: ln 4 over ln 2.
    assert [one["change"] for one in found] == [0, pytest.approx(1)]


def test_a_newest_ranker_that_is_old_itself_says_nothing_of_its_age():
    label, day = np.ones(6, np.int64), np.repeat([0, 1, 2], 2)
    half, quarter = np.full(2, 0.5, np.float32), np.full(2, 0.25, np.float32)
    # Before the last day two have no rows.
    found = by_age(label, day, [[{1: half}, {1: half, 3: quarter}, {3: half, 4: quarter}]])
    assert [(one["age"], one["days"]) for one in found] == [(1, 2), (3, 1), (4, 1)]
    assert [one["change"] for one in found] == [0, pytest.approx(1), pytest.approx(1)]


class Known:
    """In place of the rankers: half for all who are never retrained, and by seed for others."""

    def __init__(self, table, recipe, days, folder):
        self.days, self.rate = days, (0.5, 0.25)[recipe.training.seed]

    def scores(self, policy):
        rate = self.rate if policy.is_warm else 0.5
        return [np.full(300, rate, np.float32) for _ in self.days]

    def scores_by_age(self):
        return [dict(enumerate([scores, scores], start=1)) for scores in self.scores(Policy())]


def test_the_command_has_means_of_seeds_and_writes_the_page(table, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "Rolled", Known)
    monkeypatch.setattr(process_groups, "process_group", contextlib.nullcontext)
    days = days_of(table)
    asked = {"dataset": "synthetic", "lake": table.root.parent.parent, "reports": tmp_path}
    asked |= {"date": days[-1], "days": 3, "seeds": 2, "policies": NEVER, "recipe": RECIPE.name}
    main(["daily", *(f"--{name}={value}" for name, value in asked.items())])
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    label = table.read(days[2:]).label
    rate, usual, never = label.mean(), *(summary["policies"][name] for name in (USUAL, NEVER))
    loss = (math.log(2) - rate * math.log(0.25) - (1 - rate) * math.log(0.75)) / 2
    assert (summary["rows"], summary["days"]) == (900, [str(day) for day in days[2:]])
    assert usual["log_loss"] == pytest.approx(loss)
    assert usual["calibration"] == pytest.approx(0.375 / rate)
    assert usual["by_day"][0]["calibration"] == pytest.approx(0.375 / label[:300].mean())
    assert usual["log_loss_change"]["change"] == 0
    assert never["log_loss_change"]["change"] == pytest.approx(math.log(2) / loss - 1)
    page = tmp_path / summary["report"]
    assert json.loads(page.with_name("daily.json").read_text())["by_age"] == summary["by_age"]
    svgs = [ElementTree.fromstring(part + "</svg>") for part in _svgs(page.read_text())]
    # One line of ages; calibration of the recipe and of one that is never retrained.
    assert [len(svg.findall(".//*[@id='mark']")) for svg in svgs] == [1, 2]


def _svgs(text):
    return [part[part.index("<svg") :] for part in text.split("</svg>")[:-1]]


def test_the_command_refuses_a_policy_that_it_does_not_know(capsys):
    asked = ["--dataset=synthetic", "--date=2025-01-05", "--policies=rate 1,never"]
    with pytest.raises(SystemExit):
        main(["daily", *asked])
    assert "['never']: policies are [" in capsys.readouterr().err
