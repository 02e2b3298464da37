"""What to grow next, on axes whose laws are known."""

import json

import numpy as np
import pytest
from support.made_points import runs

from training.experiments.scaling.advice import Current, Regime, compute_factor, study
from training.experiments.scaling.curve import Curve

LADDER = 1e6 * np.array([0.25, 0.5, 1.0, 2.1, 4.5, 9.0])
ROWS = 1e3 * 2.0 ** np.arange(6)
RECIPES = {LADDER[2]: "wukong-small", LADDER[3]: "wukong-small-x2", LADDER[5]: "wukong-small-x4"}


def ladder(x):
    return 0.03 * (x / 1e6) ** -0.4 + 0.82


def points():
    return [
        *runs(ladder, LADDER, axis="compute", unit="FLOPs", recipes=RECIPES, seed=1),
        *runs(lambda x: 0.85, ROWS, axis="rows", unit="rows", flops=lambda x: 1e12, seed=2),
    ]


def production(**changed):
    values = {"name": "p", "model": "wukong", "x": {"compute": 1e6, "rows": 8e3}, "ne": 0.851}
    return Current(**{**values, **changed})


@pytest.fixture(scope="module")
def advice():
    return study(points(), production()).advice


def test_the_step_that_buys_most_goes_to_the_rung_that_was_run(advice):
    step = advice.next
    assert (step.axis, step.recipe, advice.target) == (
        "compute",
        "wukong-small-x2",
        "wukong-small-x2",
    )
    assert (step.factor, step.compute_factor) == (pytest.approx(2.1), pytest.approx(2.1))
    truth = ladder(2.1e6) / ladder(1e6) - 1
    assert step.ne_change.low < truth < step.ne_change.high < 0
    assert step.share_best == 1
    assert not step.is_extrapolated
    assert step.distance_to_floor.estimate == pytest.approx(0.03 / 0.85, rel=0.3)
    assert step.compute_doubling == pytest.approx(step.doubling.estimate)


def test_a_resource_without_effect_is_saturated_and_costs_no_compute(advice):
    rows = advice.steps[-1]
    assert (rows.axis, rows.regime) == ("rows", Regime.SATURATED)
    assert (rows.compute_factor, rows.compute_doubling) == (pytest.approx(1), None)
    assert advice.sentences[0].startswith("Next: climb Wukong's ladder to 2.1× the compute")
    assert "to wukong-small-x2: expected NE −0." in advice.sentences[0]
    assert advice.sentences[1].startswith("Rows per table: saturated; a doubling takes at most")


def test_what_machines_read_is_plain_json_and_says_the_same(advice):
    values = json.loads(json.dumps(advice.to_dict()))
    assert values["target"] == "wukong-small-x2"
    assert values["next"]["factor"] == pytest.approx(2.1)
    assert values["next"]["ne_change"]["estimate"] == advice.next.ne_change.estimate
    assert [step["regime"] for step in values["steps"]] == ["growing", "saturated"]


def test_intervals_of_a_gain_cover_the_truth_about_as_often_as_they_say():
    truth, covered = ladder(18e6) / ladder(9e6) - 1, []
    for trial in range(60):
        curve = Curve.of(runs(ladder, LADDER, axis="compute", seed=trial))
        low, high = np.quantile(curve.change(9e6, 18e6)[1], [0.05, 0.95])
        covered.append(low <= truth <= high)
    assert 0.8 <= np.mean(covered) <= 0.98


def test_without_a_production_model_steps_start_from_the_largest_runs():
    step = study(points()).advice.next
    assert (step.x, step.to, step.recipe, step.is_extrapolated) == (9e6, 18e6, None, True)


@pytest.mark.parametrize("noise", [0.001, 0.1])
def test_noise_alone_is_seldom_taken_for_a_gain(noise):
    found = [
        study(runs(lambda x: 0.85, ROWS, axis="rows", unit="rows", noise=noise, seed=trial)).advice
        for trial in range(30)
    ]
    assert np.mean([advice.next is not None for advice in found]) <= 0.1
    silent = next(advice for advice in found if advice.next is None)
    assert silent.sentences[0].startswith("No resource is shown to take 0.02 % off the NE")
    assert silent.target is None


def test_a_resource_that_makes_it_worse_is_never_grown():
    worse = runs(lambda x: 0.8 * (x / 1e3) ** 0.02, ROWS, axis="rows", unit="rows")
    found = study(worse).advice
    assert (found.steps[0].regime, found.next) == (Regime.WORSE, None)


def test_without_a_production_model_the_family_with_the_least_ne_is_advised():
    worse = runs(lambda x: ladder(x) + 0.01, LADDER, axis="compute", model="dlrm", unit="FLOPs")
    better = runs(ladder, LADDER, axis="compute", unit="FLOPs")
    found = study([*worse, *better]).advice
    assert found.model == "wukong"
    assert {step.model for step in found.steps} == {"wukong"}


def test_training_flops_are_read_off_the_runs_and_go_on_as_they_ended():
    def flops(x):
        return 1e12 * (1 + x / 1e6)

    curve = Curve.of(runs(ladder, LADDER, flops=flops, axis="compute"))
    assert compute_factor(curve, 1e6, 4.5e6) == pytest.approx(5.5 / 2)
    assert compute_factor(curve, 1e6, 3e6) == pytest.approx(flops(3e6) / flops(1e6), rel=0.03)
    last = np.log2(flops(9e6) / flops(4.5e6))
    assert compute_factor(curve, 9e6, 18e6) == pytest.approx(2**last)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": "dlrm"}, r"model: 'dlrm'; one of \['wukong'\]"),
        ({"x": {"height": 2}}, "x: 'height'; an axis is one of"),
        ({"x": {"rows": "8k"}}, "x of rows: '8k'; a finite number above 0"),
        ({"ne": 0}, "ne: 0; a finite number above 0"),
    ],
)
def test_a_production_model_that_cannot_be_is_refused_by_name(changed, message):
    with pytest.raises(ValueError, match=message):
        study(points(), production(**changed))


def test_no_axis_with_enough_points_is_refused_with_the_reasons():
    with pytest.raises(ValueError, match="axis data, model wukong, points: 2; at least 5"):
        study(runs(ladder, [1e6, 2e6]))
    with pytest.raises(ValueError, match="points: 0"):
        study([])
