"""The gate says yes, no and hold, each for the reason that it gives."""

import numpy as np
import pytest

from training.gate import GateConfig, Holdout, Verdict, decide, joined

ROWS, USERS = 4_000, 200
RANDOM = np.random.default_rng(1)
TRUTH = RANDOM.beta(2, 2, ROWS)
LABEL = (RANDOM.random(ROWS) < TRUTH).astype(np.int64)
GROUP = RANDOM.integers(0, USERS, ROWS)
NEW_USERS = np.arange(ROWS) < 600
HOLDOUT = Holdout(LABEL, GROUP, {"new users": NEW_USERS})


def scores(noise: float, seed: int = 2) -> np.ndarray:
    odds = np.log(TRUTH / (1 - TRUTH)) + np.random.default_rng(seed).normal(size=ROWS) * noise
    return (1 / (1 + np.exp(-odds))).astype(np.float32)


def judged(candidate, champion, holdout=HOLDOUT, **limits):
    return decide(GateConfig(**limits), holdout, candidate, champion, base_rate=0.5)


def test_an_equal_candidate_is_promoted():
    assert judged(scores(0.1, seed=3), scores(0.1)).verdict is Verdict.PROMOTE


def test_a_worse_candidate_is_refused_with_the_loss():
    decision = judged(scores(1.5), scores(0.3))
    assert decision.verdict is Verdict.REFUSE
    assert decision.reasons[0].startswith("log loss against the champion: +")


def test_a_candidate_is_held_when_the_rows_cannot_tell():
    few = Holdout(LABEL[:400], GROUP[:400], {})
    decision = judged(scores(0.1, seed=3)[:400], scores(0.1)[:400], few, margin=0.001)
    assert decision.verdict is Verdict.HOLD
    assert "may be above" in decision.reasons[0]


@pytest.mark.parametrize(("rows", "users"), [(200, 200), (4_000, 5)])
def test_too_few_rows_or_users_hold_even_a_better_candidate(rows, users):
    small = Holdout(LABEL[:rows], GROUP[:rows] % users, {})
    decision = judged(scores(0.0)[:rows], scores(1.0)[:rows], small)
    assert decision.verdict is Verdict.HOLD
    assert "at least 300 rows of 20 users" in decision.reasons[0]


def test_a_candidate_that_overpredicts_is_refused_for_its_calibration():
    inflated = np.clip(scores(0.1) * 1.35, 0, 0.999).astype(np.float32)
    decision = judged(inflated, inflated)
    assert decision.verdict is Verdict.REFUSE
    assert decision.reasons[0].startswith("calibration: 1.")


def test_a_broken_slice_refuses_what_is_better_as_a_whole():
    candidate = np.where(NEW_USERS, 1 - scores(0.0), scores(0.0)).astype(np.float32)
    champion = np.where(NEW_USERS, scores(0.0), 1 - scores(0.0)).astype(np.float32)
    decision = judged(candidate, champion)
    assert decision.overall.high < 0
    assert decision.verdict is Verdict.REFUSE
    assert decision.reasons[0].startswith("slice new users")


def test_a_first_candidate_must_beat_the_base_rate():
    assert judged(scores(0.3), None).verdict is Verdict.PROMOTE
    flat = np.full(ROWS, 0.5, np.float32)
    assert judged(flat, None).verdict is Verdict.PROMOTE  # equal to the base rate: not worse
    assert judged(scores(3.0), None).verdict is Verdict.REFUSE


@pytest.mark.parametrize(
    ("candidate", "rival", "verdict"),
    [
        (scores(0.0), scores(1.0), Verdict.PROMOTE),
        (scores(0.1, seed=3), scores(0.1), Verdict.HOLD),
        (scores(0.1), scores(0.1), Verdict.HOLD),  # equal to the bit: not better
        (scores(0.6), scores(0.3), Verdict.REFUSE),
    ],
)
def test_where_better_is_asked_for_not_worse_is_not_enough(candidate, rival, verdict):
    decision = judged(candidate, rival, must_be_better=True)
    assert decision.verdict is verdict
    assert (decision.overall.high < 0) == (verdict is Verdict.PROMOTE)


def test_a_candidate_within_the_margin_is_refused_once_it_must_be_better():
    slightly_worse = scores(0.25), scores(0.0)
    assert judged(*slightly_worse, margin=0.05).verdict is Verdict.PROMOTE
    assert judged(*slightly_worse, margin=0.05, must_be_better=True).verdict is Verdict.REFUSE


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_rivals_the_harder_verdict_counts_and_both_are_told(order):
    rivals = {"the champion": scores(1.0), "the control": scores(0.0)}
    config = GateConfig(must_be_better=True)
    first, second = [
        decide(config, HOLDOUT, scores(0.0), answers, base_rate=0.5, rival=name)
        for name, answers in rivals.items()
    ][::order]
    decision = joined(first, second)
    assert {first.verdict, second.verdict} == {Verdict.PROMOTE, Verdict.HOLD}
    assert decision.verdict is Verdict.HOLD
    assert [name for name in rivals if name in " ".join(decision.reasons)] == list(rivals)
