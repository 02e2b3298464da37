"""The gate promotes what is proven good, refuses what is proven bad, and holds the rest."""

import dataclasses

import numpy as np
import pytest
from support.training.gate_scores import (
    GROUP,
    HOLDOUT,
    LABEL,
    NEW_USERS,
    RANDOM,
    ROWS,
    TRUTH,
    WIDE,
    judged,
    rows_of,
    scores,
)

from training.evaluation.findings import GateConfig, Verdict
from training.evaluation.gate import BASE_RATE, CHAMPION, CONTROL, RECALIBRATE, decide
from training.metrics import log_losses
from training.registry.aliases import ANCHOR_DAYS


def test_an_equal_candidate_is_promoted_and_every_check_is_reported():
    decision = judged(scores(0.1), scores(0.1))
    assert decision.verdict is Verdict.PROMOTE
    checks = [reason.split(" against")[0].split(":")[0] for reason in decision.reasons]
    assert checks == ["log loss", "GAUC", "slice new users", "calibration"]


def test_a_worse_candidate_is_refused_with_the_loss():
    decision = judged(scores(1.5), scores(0.3))
    assert decision.verdict is Verdict.REFUSE
    assert decision.reasons[0].startswith("log loss against the champion: +")


def test_a_candidate_is_held_when_the_rows_cannot_tell():
    decision = judged(scores(0.1, seed=3)[:400], scores(0.1)[:400], rows_of(400))
    assert decision.verdict is Verdict.HOLD
    assert "it may be above +0.2%" in decision.reasons[0]


@pytest.mark.parametrize(("rows", "users"), [(200, 200), (4_000, 5)])
def test_too_few_rows_or_users_hold_even_a_better_candidate(rows, users):
    small = dataclasses.replace(rows_of(rows), group=GROUP[:rows] % users)
    decision = judged(scores(0.0)[:rows], scores(1.0)[:rows], small)
    assert decision.verdict is Verdict.HOLD
    assert "at least 300 rows of 20 users" in decision.reasons[0]


def test_labels_of_one_kind_cannot_tell():
    ones = dataclasses.replace(HOLDOUT, label=np.ones(ROWS, np.int64))
    decision = judged(scores(0.0), scores(1.0), ones)
    assert (decision.verdict, decision.reasons) == (
        Verdict.HOLD,
        ["holdout: all 4,000 labels are 1; both are needed"],
    )


# Slices, ranking, the base rate


def test_a_broken_slice_refuses_what_is_better_as_a_whole():
    candidate = np.where(NEW_USERS, 1 - scores(0.0), scores(0.0)).astype(np.float32)
    champion = np.where(NEW_USERS, scores(0.0), 1 - scores(0.0)).astype(np.float32)
    decision = judged(candidate, champion)
    assert decision.against[CHAMPION].log_loss.high < 0
    assert decision.verdict is Verdict.REFUSE
    assert decision.reasons[0].startswith("slice new users")


def test_a_slice_of_few_rows_refuses_when_broken_and_is_not_waited_for():
    part = np.arange(ROWS) < 150
    holdout = dataclasses.replace(HOLDOUT, slices={"few": part, "none": part & False})
    unknown = np.where(part, scores(0.5, seed=8), scores(0.1)).astype(np.float32)
    champion = np.where(part, scores(0.5, seed=9), scores(0.1)).astype(np.float32)
    limits = {"margin": 0.05, "gauc_margin": 0.05, "slice_margin": 0.01}
    decision = judged(unknown, champion, holdout, **limits)
    assert decision.verdict is Verdict.PROMOTE
    assert any(note.startswith("slice none: 0 rows of 0 users") for note in decision.notes)
    broken = np.where(part, 1 - scores(0.1), scores(0.0)).astype(np.float32)
    assert judged(broken, scores(0.5), holdout).reasons[0].startswith("slice few")


def test_a_candidate_with_the_same_loss_that_ranks_worse_is_refused_for_its_gauc():
    odds = np.log(TRUTH / (1 - TRUTH))
    # Each user's order is lost, the users' own rates are kept.
    rates = np.bincount(GROUP, TRUTH) / np.bincount(GROUP)
    flat = rates[GROUP].astype(np.float32)
    mixed = (1 / (1 + np.exp(-odds * 0.05))).astype(np.float32)
    decision = judged(flat, mixed, margin=0.05)
    assert decision.verdict is Verdict.REFUSE
    assert decision.reasons[0].startswith("GAUC against the champion: -")
    assert judged(flat, mixed, margin=0.05, gauc_margin=None).verdict is not Verdict.REFUSE


def test_users_with_one_label_are_left_out_of_the_gauc_and_counted():
    label = LABEL.copy()
    label[GROUP < 30] = 1
    decision = judged(scores(0.1), scores(0.1), dataclasses.replace(HOLDOUT, label=label))
    assert decision.notes == ["GAUC: 30 of 200 users are left out: their labels are equal"]
    assert decision.against[CHAMPION].num_gauc_users == 170


def test_a_first_candidate_must_beat_the_base_rate_and_a_constant_never_does():
    assert judged(scores(0.3)).verdict is Verdict.PROMOTE
    assert judged(scores(3.0)).verdict is Verdict.REFUSE
    # Even the rate of the holdout itself, which the training days' rate can be far from.
    for constant in (0.5, LABEL.mean()):
        decision = judged(np.full(ROWS, constant, np.float32), base_rate=0.2)
        assert decision.verdict is Verdict.REFUSE
        assert "a constant ranks nothing" in decision.reasons[0]


def test_noise_around_the_right_rate_does_not_beat_a_wrong_base_rate():
    noise = (LABEL.mean() + RANDOM.normal(size=ROWS) * 1e-3).astype(np.float32)
    decision = judged(noise, base_rate=0.2)
    assert decision.against[BASE_RATE].log_loss.high < 0
    assert decision.verdict is not Verdict.PROMOTE
    assert decision.reasons[0].startswith("GAUC against the base rate")


def test_a_first_candidate_of_unknown_calibration_is_held_unless_it_is_let_through_as_the_first():
    few = rows_of(400)
    candidate = scores(0.0)[:400]
    asked = {"base_rate": float(few.label.mean())}
    assert judged(candidate, None, few, **asked).verdict is Verdict.HOLD
    decision = judged(candidate, None, few, **asked, accepts_unknown=True)
    assert decision.verdict is Verdict.PROMOTE
    assert [alert.name for alert in decision.alerts] == [RECALIBRATE]
    assert judged(candidate, scores(1.0)[:400], few, accepts_unknown=True).verdict is Verdict.HOLD


# Trials


@pytest.mark.parametrize(
    ("candidate", "baseline", "verdict"),
    [
        (scores(0.0), scores(1.0), Verdict.PROMOTE),
        (scores(0.1, seed=3), scores(0.1), Verdict.HOLD),
        (scores(0.1), scores(0.1), Verdict.HOLD),  # equal to the bit: not better
        (scores(0.6), scores(0.3), Verdict.REFUSE),
    ],
)
def test_in_a_trial_not_worse_is_not_enough(candidate, baseline, verdict):
    baselines = {CHAMPION: baseline, CONTROL: baseline}
    decision = decide(GateConfig(), HOLDOUT, candidate, baselines, base_rate=0.5)
    assert decision.verdict is verdict
    assert (decision.against[CONTROL].log_loss.high < 0) == (verdict is Verdict.PROMOTE)


def test_of_two_baselines_the_harder_verdict_counts():
    baselines = {CHAMPION: scores(1.0), CONTROL: scores(0.0)}
    decision = decide(GateConfig(), HOLDOUT, scores(0.0), baselines, base_rate=0.5)
    assert decision.verdict is Verdict.HOLD
    assert decision.reasons[0].startswith("log loss against the un-grown ranker")


# The anchor


LOSS_A_DAY, DAYS = 0.0015, 30


def after(days: int) -> np.ndarray:
    """Scores of a ranker that lost 0.15 % on each of so many days, on every row."""
    worse = (1 + LOSS_A_DAY) ** days
    chosen = np.float64(np.where(LABEL == 1, scores(0.3), 1 - scores(0.3))) ** worse
    return np.where(LABEL == 1, chosen, 1 - chosen).astype(np.float32)


def test_thirty_days_that_each_lose_a_little_do_not_add_up():
    """None loses more than the margin on its champion, so without an anchor each is promoted."""
    loss_alone = {"gauc_margin": None}
    alone = [judged(after(n), after(n - 1), **loss_alone).verdict for n in range(1, DAYS + 1)]
    assert alone == [Verdict.PROMOTE] * DAYS
    crossing = next(day for day in range(DAYS) if (1 + LOSS_A_DAY) ** day - 1 > 0.002)
    champions, promoted = [0], []
    for day in range(1, DAYS + 1):
        anchor = max(one for one in champions if one <= max(day - ANCHOR_DAYS, 0))
        decision = judged(after(day), after(champions[-1]), anchor=after(anchor), **loss_alone)
        if decision.verdict is Verdict.PROMOTE:
            champions.append(day)
            promoted.append(day)
    assert promoted
    assert max(promoted) < crossing + 3
    assert (
        log_losses(after(champions[-1]), LABEL).mean() < log_losses(after(0), LABEL).mean() * 1.002
    )


def test_the_margin_counts_from_the_better_of_champion_and_anchor():
    worse, better = scores(1.0), scores(0.0)
    for champion, anchor in ((worse, better), (better, worse)):
        decision = judged(worse, champion, anchor=anchor, **WIDE)
        assert decision.verdict is Verdict.REFUSE


# What it is called with


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"candidate": scores(0)[:9]}, "scores of candidate: 9; the holdout has 4000"),
        ({"champion": scores(0)[:9]}, "scores of champion: 9; the holdout has 4000"),
        ({"base_rate": float("nan")}, "base_rate: nan; from 0 to 1"),
        ({"candidate": scores(0)[:0], "holdout": rows_of(0)}, "rows of the holdout: 0; at least 1"),
    ],
)
def test_what_does_not_fit_is_named(asked, message):
    with pytest.raises(ValueError, match=message):
        judged(**{"candidate": scores(0), **asked})
