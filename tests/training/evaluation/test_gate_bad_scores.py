"""Scores and labels that are no numbers promote no candidate."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.training.gate_scores import (
    GROUP,
    HOLDOUT,
    IDS,
    LABEL,
    ROWS,
    WIDE,
    judged,
    scores,
    with_bad,
)

from training.evaluation.comparison import Holdout
from training.evaluation.findings import GateConfig, Verdict, below_zero, kept
from training.evaluation.gate import ANCHOR, BASE_RATE, CHAMPION, CONTROL, RECALIBRATE, decide


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -0.1, 1.1])
@pytest.mark.parametrize("is_trial", [False, True])
def test_one_score_that_is_no_probability_refuses_with_its_count_and_example(bad, is_trial):
    candidate = with_bad(scores(0.0), [17, 90], bad)
    baselines = {CHAMPION: scores(1.0)} | ({CONTROL: scores(1.0)} if is_trial else {})
    decision = decide(GateConfig(), HOLDOUT, candidate, baselines, base_rate=0.5)
    assert (decision.verdict, decision.reasons) == (
        Verdict.REFUSE,
        ["scores of the candidate: 2 of 4,000 are no probabilities; the first is example_id 1017"],
    )


@pytest.mark.parametrize("low", [np.nan, -np.inf, -1.0])
@pytest.mark.parametrize("high", [np.nan, np.inf, -0.5])
def test_an_interval_with_an_end_that_is_not_finite_shows_nothing(low, high):
    is_known = np.isfinite([low, high]).all()
    expected = Verdict.PROMOTE if is_known else Verdict.HOLD
    assert kept(low, high, at_most=0.0) is expected
    assert below_zero(low, high) is expected


def test_a_label_that_is_missing_refuses_with_its_example():
    missing = dataclasses.replace(HOLDOUT, label=with_bad(LABEL.astype(float), [3]))
    decision = judged(scores(0.0), scores(1.0), missing)
    assert decision.verdict is Verdict.REFUSE
    assert decision.reasons == ["labels: 1 of 4,000 are not 0 or 1; the first is example_id 1003"]


def test_a_broken_champion_does_not_block_a_good_candidate_and_raises_an_alert():
    decision = judged(scores(0.1), with_bad(scores(0.3), slice(5)))
    assert decision.verdict is Verdict.PROMOTE
    assert set(decision.against) == {CHAMPION, BASE_RATE}
    assert decision.against[CHAMPION].log_loss.rows == ROWS - 5
    assert [alert.name for alert in decision.alerts] == ["gate-refused-or-hold"]
    assert "scores of the champion: 5 of 4,000 are no probabilities" in decision.alerts[0].text


def test_a_champion_that_answers_nothing_leaves_the_base_rate_to_beat():
    nothing = np.full(ROWS, np.nan, np.float32)
    assert judged(scores(0.1), nothing).verdict is Verdict.PROMOTE
    decision = judged(scores(4.0), nothing)
    assert decision.verdict is Verdict.REFUSE
    assert decision.reasons[0].startswith("log loss against the base rate: +")


def test_a_broken_champion_does_not_let_a_worse_candidate_through():
    assert judged(scores(1.0), with_bad(scores(0.1), [9])).verdict is Verdict.REFUSE


def test_an_un_grown_ranker_that_answers_nothing_cannot_be_shown_to_be_beaten():
    nothing = np.full(ROWS, np.inf, np.float32)
    baselines = {CHAMPION: scores(1.0), CONTROL: nothing}
    decision = decide(GateConfig(), HOLDOUT, scores(0.0), baselines, base_rate=0.5)
    assert decision.verdict is Verdict.HOLD
    assert "not shown to be better than it" in decision.reasons[0]


KINDS = ("good", "low", "inverse", "constant", "nan", "some nan", "inf", "minus inf")


def patterned(kind: str, noise: float, seed: int, size: int) -> np.ndarray:
    """Scores that are right but for their noise, or wrong in one way."""
    values = scores(noise, seed)[:size]
    some = np.random.default_rng(seed).random(size) < 0.1
    some[seed % size] = True
    return {
        "good": values,
        "low": values * np.float32(0.85 - noise / 20),
        "inverse": 1 - values,
        "constant": np.full(size, noise / 4, np.float32),
        "nan": np.full(size, np.nan, np.float32),
        "some nan": with_bad(values, some),
        "inf": with_bad(values, some, np.inf),
        "minus inf": with_bad(values, some, -np.inf),
    }[kind]


def rankers(noise: float, *, good: int) -> st.SearchStrategy:
    kinds = st.sampled_from([*KINDS, *("good", "low") * good])
    return st.tuples(kinds, st.floats(0, noise), st.integers(0, 99))


@settings(max_examples=250, deadline=None, derandomize=True)
@given(
    candidate=rankers(0.2, good=8),
    champion=st.none() | rankers(2, good=4),
    anchor=st.none() | rankers(2, good=4),
    control=st.none() | rankers(2, good=4),
    label=st.sampled_from(["good"] * 8 + ["all 0", "all 1", "one nan", "one 2"]),
    size=st.sampled_from([40, 400, 2_000, 4_000]),
    slices=st.lists(st.floats(0, 1), max_size=3),
    has_users=st.booleans(),
    accepts_unknown=st.booleans(),
)
def test_promoted_is_only_what_is_finite_and_within_its_limits(
    candidate, champion, anchor, control, label, size, slices, has_users, accepts_unknown
):
    labels = {
        "good": LABEL[:size],
        "all 0": np.zeros(size, np.int64),
        "all 1": np.ones(size, np.int64),
        "one nan": with_bad(LABEL[:size].astype(float), [7]),
        "one 2": with_bad(LABEL[:size], [7], 2),
    }
    random = np.random.default_rng(size)
    holdout = Holdout(
        label=labels[label],
        group=GROUP[:size] if has_users else np.arange(size),
        example_id=IDS[:size],
        slices={str(n): random.random(size) < share for n, share in enumerate(slices)},
        has_users=has_users,
    )
    asked = {CHAMPION: champion, ANCHOR: anchor, CONTROL: control}
    baselines = {key: patterned(*one, size) for key, one in asked.items() if one}
    config = GateConfig(draws=200, accepts_unknown=accepts_unknown, **WIDE)
    decision = decide(config, holdout, patterned(*candidate, size), baselines, base_rate=0.5)
    assert decision.reasons
    if decision.verdict is not Verdict.PROMOTE:
        return
    assert label == "good"
    assert size > 40
    assert candidate[0] in {"good", "low"}
    is_whole = all(np.isfinite(found).all() for found in baselines.values())
    assert (BASE_RATE in decision.against) == (CHAMPION not in baselines or not is_whole)
    assert decision.against
    must_beat = {BASE_RATE} | ({CHAMPION, CONTROL} if control else set())
    for key, found in decision.against.items():
        assert found.log_loss.is_finite
        limit = -1e-12 if key in must_beat else config.margin
        assert found.log_loss.high <= limit
        if has_users:
            assert found.gauc.is_finite
            assert found.gauc.low >= (1e-12 if key == BASE_RATE else -config.gauc_margin)
        is_first = accepts_unknown and CHAMPION not in baselines
        for part in found.slices.values():
            assert part.is_finite
            assert (part.low if is_first or part.rows < 300 else part.high) <= config.slice_margin
    calibration = decision.calibration
    assert calibration.is_finite
    low, high = config.calibration
    if not low <= calibration.low <= calibration.high <= high:
        assert [alert.name for alert in decision.alerts].count(RECALIBRATE) == 1
        keys = [CHAMPION] if CHAMPION in decision.baselines else [CHAMPION, BASE_RATE]
        against = [decision.against[key] for key in keys if key in decision.against]
        is_nearer = all(found.miscalibration.high < 0 for found in against)
        is_unknown = calibration.high >= low and calibration.low <= high
        assert is_nearer or (is_first and is_unknown)
