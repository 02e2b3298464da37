"""The comparison behind ``make bench-growth``, on a log that is too small to show anything."""

import dataclasses
import math

import pytest

from features.places import place
from training.data.dataset import ExampleTable
from training.distributed.process_group import process_group
from training.experiments.growth import compare as comparing
from training.experiments.growth.arms import Log
from training.experiments.growth.compare import compare, rising
from training.experiments.growth.ratios import (
    Arm,
    Point,
    Ratio,
    Runs,
    days_to_better,
    flops_at,
    ratios,
)
from training.experiments.journal import Journal
from training.experiments.one_pass import START, Rates
from training.model.grown_config import Operator
from training.recipes import recipe_of


@pytest.fixture(scope="module")
def log(built):
    with process_group():
        table = ExampleTable(built.lake, built.schema)
        recipes = (recipe_of("wukong-tiny"), recipe_of("wukong-tiny-w2"))
        yield Log(table, *recipes, batch_size=32, operator=Operator.EXACT)


@pytest.fixture(scope="module")
def journal(tmp_path_factory):
    return Journal(place(tmp_path_factory.mktemp("growth") / "runs.jsonl"))


@pytest.fixture(scope="module")
def found(log, journal):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparing, "SCRATCH_SHARES", (1.0,))
        patch.setattr(comparing, "COMPUTE_SHARES", (1.0,))
        yield compare(log, journal, share=0.6, seeds=1, trials=0)


def test_a_grown_run_costs_its_parents_part_and_its_own(found, log):
    small, large, steps = log.flops["small"], log.flops["large"], found["steps"]
    equal, last = found["arms"]["grown"][0], found["arms"]["grown"][-1]
    half = round(steps / 2)
    assert equal["steps"] == steps
    assert equal["compute"] == pytest.approx(
        (small * half + large * (steps - half)) / large / steps
    )
    assert last["compute"] == pytest.approx(1, abs=0.02), "its last budget is the large one's"
    assert found["arms"]["scratch"][-1]["compute"] == 1


def test_growing_keeps_the_function_and_the_small_ranker_is_shown_with_it(found):
    assert found["max_logit_difference"] < 1e-5
    assert set(found["arms"]) == {"small", "scratch", "grown"}
    assert all(
        0 < loss < 1 for arm in found["arms"].values() for one in arm for loss in one["log_loss"]
    )
    assert {"value", "low", "high", "by_seed"} == set(found["compute_to_scratch_loss"])
    days = found["log_loss_by_day"][0]
    assert days["grown"]
    assert days["control"]


def test_a_run_that_the_journal_has_is_not_run_again(found, log, journal, monkeypatch):
    run, sizes = log.run, []
    monkeypatch.setattr(
        log, "run", lambda size, *a, **k: (sizes.append(size), run(size, *a, **k))[1]
    )
    kept = Journal(journal.path)
    assert compare(log, kept, share=0.6, seeds=1, trials=0) == found
    assert sizes == []
    kept.runs.popitem()
    compare(log, kept, share=0.6, seeds=1, trials=0)
    assert sizes == ["small"]
    monkeypatch.setattr(log, "operator", Operator.FRESH_HEAD)
    monkeypatch.setattr(log, "run", lambda *a, **k: pytest.fail("another setting is another run"))
    with pytest.raises(pytest.fail.Exception):
        compare(log, kept, share=0.6, seeds=1, trials=0)


def test_every_arm_has_rates_of_its_own_and_what_grew_begins_where_its_tables_were(
    log, tmp_path, monkeypatch
):
    """The loss is a function of the rates here, with another best for each arm."""
    best = {"small": (2, 1), "large": (-1, -2), "grown": (1, 0)}
    asked = {arm: [] for arm in best}

    def run(size, ends, *, part="test", grow_at=None, **_):
        arm = "grown" if grow_at else size
        off = [
            abs(math.log2(getattr(log.rates[arm], field) / getattr(START, field)) - wanted)
            for field, wanted in zip(("tables", "dense"), best[arm], strict=True)
        ]
        if part == "valid":
            asked[arm].append(log.rates[arm])
        return Arm([Point(end, float(end), 1 + sum(off)) for end in ends], [0.5] * 9, 0.0)

    monkeypatch.setattr(log, "run", run)
    found = compare(log, Journal(place(tmp_path / "j.jsonl")), share=0.6, seeds=1, trials=6)
    for arm, (tables, dense) in best.items():
        chosen = START.times("tables", tables).times("dense", dense)
        assert found["learning_rates"][arm] == dataclasses.asdict(chosen)
    assert asked["grown"][0] == START.times("tables", 2).times("dense", -2)
    assert all(len(set(rates)) == len(rates) for rates in asked.values())


def test_a_decay_leaves_the_stable_phase_as_it_was(log):
    """Two budgets in one run are what each is alone: the second does not learn twice."""
    log.rates = {"small": Rates(dense=3e-3, tables=0.1)}
    both = log.run("small", [60, 90], seed=3).points
    log_loss = [log.run("small", [60, 90][n:][:1], seed=3).points[0].log_loss for n in (0, 1)]
    # Alone the second one warms up over a few steps more.
    assert both[0].log_loss == log_loss[0]
    assert both[1].log_loss == pytest.approx(log_loss[1], rel=2e-2)
    assert both[1].log_loss != both[0].log_loss


def runs(**changes) -> Runs:
    values = {
        "scratch": [Point(5, 5.0, 0.6), Point(10, 10.0, 0.5)],
        "grown": [Point(10, 4.0, 0.7), Point(12, 6.0, 0.5), Point(14, 8.0, 0.4)],
        "scratch_days": [0.9, 0.8, 0.7, 0.6, 0.5, 0.4],
        "grown_days": [0.7, 0.54, 0.5],
    } | changes
    arms = (Arm(values[arm], values[f"{arm}_days"], 0.0) for arm in ("scratch", "grown"))
    return Runs(*arms, Arm([], [0.6, 0.55, 0.53], 0.0), parent_flops=1.0)


def test_the_ratios_are_the_compute_at_which_scratchs_loss_is_reached_and_the_days():
    one = ratios([runs()])
    assert one["compute_to_scratch_loss"].value == pytest.approx(0.6)
    assert one["compute_after_growth"].value == pytest.approx(0.5)
    # Better from the second day on; from scratch the fifth day is the first below 0.55.
    assert days_to_better(runs()) == (2, 5)
    assert one["days_to_better"].value == pytest.approx(2 / 5)


def test_what_is_not_reached_is_none_and_one_seed_of_it_is_none_of_all():
    never = runs(grown=[Point(10, 4.0, 0.7), Point(12, 6.0, 0.6)])
    assert flops_at(never.grown.points, 0.5) is None
    found = ratios([runs(), never])["compute_to_scratch_loss"]
    assert found.value is None
    assert found.by_seed == (pytest.approx(0.6), None)
    assert days_to_better(runs(grown_days=[0.7, 0.6, 0.6])) == (None, None)
    assert days_to_better(runs(scratch_days=[0.9])) == (2, None)


def test_an_interval_is_students_over_the_seeds():
    found = Ratio.of([0.8, 0.9, 1.0])
    assert found.value == pytest.approx(0.9)
    assert (found.low, found.high) == (
        pytest.approx(0.9 - 0.2484, abs=1e-3),
        pytest.approx(1.1484, abs=1e-3),
    )
    assert Ratio.of([0.8]) == Ratio(0.8, by_seed=(0.8,))


def test_budgets_rise_and_stay_within_the_log():
    assert rising([100, 90, 110, 500], 200) == [100, 110]


def test_a_share_that_leaves_too_few_steps_is_refused(log, tmp_path):
    with pytest.raises(ValueError, match=r"share: 0.0001 of \d+ steps; above 0"):
        compare(log, Journal(place(tmp_path / "none")), share=0.0001, seeds=1, trials=0)
