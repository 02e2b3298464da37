"""The gate promotes what is proven good, refuses what is proven bad, and holds the rest."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluation.comparison import Holdout
from training.evaluation.findings import GateConfig, Verdict, below_zero, kept
from training.evaluation.gate import ANCHOR, BASE_RATE, CHAMPION, CONTROL, RECALIBRATE, decide
from training.metrics import log_losses
from training.registry.aliases import ANCHOR_DAYS

ROWS, USERS = 4_000, 200
RANDOM = np.random.default_rng(1)
TRUTH = RANDOM.beta(2, 2, ROWS)
LABEL = (RANDOM.random(ROWS) < TRUTH).astype(np.int64)
GROUP = RANDOM.integers(0, USERS, ROWS)
IDS = np.arange(ROWS) + 1_000
NEW_USERS = np.arange(ROWS) < 600
HOLDOUT = Holdout(label=LABEL, group=GROUP, example_id=IDS, slices={"new users": NEW_USERS})
WIDE = {"margin": 0.02, "gauc_margin": 0.02, "slice_margin": 0.2}
"""Limits that 4,000 rows can tell apart."""


def scores(noise: float, seed: int = 2, truth=TRUTH) -> np.ndarray:
    odds = np.log(truth / (1 - truth)) + np.random.default_rng(seed).normal(size=len(truth)) * noise
    return (1 / (1 + np.exp(-odds))).astype(np.float32)


def judged(candidate, champion=None, holdout=HOLDOUT, *, base_rate=0.5, anchor=None, **limits):
    rivals = {CHAMPION: champion, ANCHOR: anchor}
    given_ = {key: found for key, found in rivals.items() if found is not None}
    return decide(GateConfig(**limits), holdout, candidate, given_, base_rate=base_rate)


def rows_of(count: int) -> Holdout:
    return HOLDOUT.take(np.arange(ROWS) < count)


def with_bad(values, places, bad=np.nan):
    values = values.copy()
    values[places] = bad
    return values


def test_an_equal_candidate_is_promoted_and_every_check_is_told():
    decision = judged(scores(0.1), scores(0.1))
    assert decision.verdict is Verdict.PROMOTE
    told = [reason.split(" against")[0].split(":")[0] for reason in decision.reasons]
    assert told == ["log loss", "GAUC", "slice new users", "calibration"]


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


# What is not a number


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -0.1, 1.1])
@pytest.mark.parametrize("is_trial", [False, True])
def test_one_score_that_is_no_probability_refuses_with_its_count_and_example(bad, is_trial):
    candidate = with_bad(scores(0.0), [17, 90], bad)
    rivals = {CHAMPION: scores(1.0)} | ({CONTROL: scores(1.0)} if is_trial else {})
    decision = decide(GateConfig(), HOLDOUT, candidate, rivals, base_rate=0.5)
    assert (decision.verdict, decision.reasons) == (
        Verdict.REFUSE,
        ["scores of the candidate: 2 of 4,000 are no probabilities; the first is example_id 1017"],
    )


@pytest.mark.parametrize("low", [np.nan, -np.inf, -1.0])
@pytest.mark.parametrize("high", [np.nan, np.inf, -0.5])
def test_an_interval_with_an_end_that_is_not_finite_tells_nothing(low, high):
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
    rivals = {CHAMPION: scores(1.0), CONTROL: nothing}
    decision = decide(GateConfig(), HOLDOUT, scores(0.0), rivals, base_rate=0.5)
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
    rivals = {key: patterned(*one, size) for key, one in asked.items() if one}
    config = GateConfig(draws=200, accepts_unknown=accepts_unknown, **WIDE)
    decision = decide(config, holdout, patterned(*candidate, size), rivals, base_rate=0.5)
    assert decision.reasons
    if decision.verdict is not Verdict.PROMOTE:
        return
    assert label == "good"
    assert size > 40
    assert candidate[0] in {"good", "low"}
    is_whole = all(np.isfinite(found).all() for found in rivals.values())
    assert (BASE_RATE in decision.against) == (CHAMPION not in rivals or not is_whole)
    assert decision.against
    must_beat = {BASE_RATE} | ({CHAMPION, CONTROL} if control else set())
    for key, found in decision.against.items():
        assert found.log_loss.is_finite
        limit = -1e-12 if key in must_beat else config.margin
        assert found.log_loss.high <= limit
        if has_users:
            assert found.gauc.is_finite
            assert found.gauc.low >= (1e-12 if key == BASE_RATE else -config.gauc_margin)
        is_first = accepts_unknown and CHAMPION not in rivals
        for part in found.slices.values():
            assert part.is_finite
            assert (part.low if is_first or part.rows < 300 else part.high) <= config.slice_margin
    calibration = decision.calibration
    assert calibration.is_finite
    low, high = config.calibration
    if not low <= calibration.low <= calibration.high <= high:
        assert [alert.name for alert in decision.alerts].count(RECALIBRATE) == 1
        keys = [CHAMPION] if CHAMPION in decision.rivals else [CHAMPION, BASE_RATE]
        against = [decision.against[key] for key in keys if key in decision.against]
        is_nearer = all(found.miscalibration.high < 0 for found in against)
        is_unknown = calibration.high >= low and calibration.low <= high
        assert is_nearer or (is_first and is_unknown)


# Calibration


def shrunk(share: float) -> np.ndarray:
    return (scores(0.0) * share).astype(np.float32)


def test_a_candidate_that_overpredicts_is_refused_for_its_calibration():
    inflated = np.clip(scores(0.1) * 1.35, 0, 0.999).astype(np.float32)
    decision = judged(inflated, inflated)
    assert decision.verdict is Verdict.REFUSE
    assert decision.reasons[0].startswith("calibration: 1.")


def test_one_nearer_to_1_than_the_champion_may_replace_it_and_asks_to_be_recalibrated():
    decision = judged(shrunk(0.82), shrunk(0.80), **WIDE)
    assert decision.verdict is Verdict.PROMOTE
    assert [alert.name for alert in decision.alerts] == [RECALIBRATE]
    assert "outside 0.9 to 1.1; shown to be nearer to 1 than the champion" in decision.reasons[-1]


def test_one_farther_from_1_than_the_champion_may_not():
    decision = judged(shrunk(0.80), shrunk(0.82), **WIDE)
    assert (decision.verdict, decision.alerts) == (Verdict.REFUSE, [])


def test_a_broken_champion_lets_no_calibration_through_on_the_rows_that_it_answers():
    """Nearer to 1 there, and far from it where the champion has no answer."""
    answers = np.arange(ROWS) < ROWS // 3
    champion = np.where(answers, shrunk(0.7), np.nan).astype(np.float32)
    truth = scores(0.0)
    candidate = np.where(answers, truth, np.minimum(truth * 1.3, 0.95)).astype(np.float32)
    decision = judged(candidate, champion, **WIDE, base_rate=float(LABEL.mean()))
    assert decision.verdict is Verdict.REFUSE
    assert decision.against[CHAMPION].miscalibration.high < 0
    assert decision.against[BASE_RATE].log_loss.high < 0
    assert [reason.split(":")[0] for reason in decision.reasons] == ["calibration"]
    near = judged(candidate, champion, **WIDE, base_rate=0.2)
    assert near.verdict is Verdict.PROMOTE
    assert "nearer to 1 than the champion and the base rate: let through" in near.reasons[-1]


def test_a_calibration_without_an_interval_is_not_let_through_as_the_first():
    """Of six positives, some draw has none."""
    label = np.zeros(ROWS, np.int64)
    label[:6] = 1
    few = Holdout(label=label, group=np.arange(ROWS), example_id=IDS, has_users=False)
    known = np.where(label, 0.5, 1e-3).astype(np.float32)
    decision = judged(known, None, few, base_rate=6 / ROWS, accepts_unknown=True)
    assert decision.verdict is Verdict.HOLD
    assert decision.against[BASE_RATE].log_loss.high < 0
    assert not decision.calibration.is_finite


def test_a_calibration_that_is_outside_as_far_as_can_be_told_is_not_let_through_as_the_first():
    rare = (np.random.default_rng(5).random(ROWS) < 0.01).astype(np.int64)
    few = Holdout(label=rare, group=np.arange(ROWS), example_id=IDS, has_users=False)
    twice = np.where(rare, 0.5, 0.015).astype(np.float32)
    decision = judged(twice, None, few, base_rate=float(rare.mean()), accepts_unknown=True)
    assert decision.verdict is Verdict.HOLD
    assert decision.against[BASE_RATE].log_loss.high < 0
    assert decision.calibration.low > 1.1


def test_what_is_held_for_another_reason_asks_nobody_to_recalibrate():
    decision = judged(shrunk(0.82), shrunk(0.80), **WIDE, anchor=scores(0.0))
    assert (decision.verdict, decision.alerts) == (Verdict.HOLD, [])


def test_few_positives_hold_with_the_number_that_it_would_take():
    rare = (np.random.default_rng(5).random(ROWS) < 0.01).astype(np.int64)
    few = Holdout(label=rare, group=np.arange(ROWS), example_id=IDS, has_users=False)
    # Nearly twice too high, shown at the 95 % level, but on some 40 positives.
    high = (np.full(ROWS, 0.01) * 1.9 + RANDOM.normal(size=ROWS) * 1e-4).astype(np.float32)
    decision = judged(high, high, few)
    assert decision.verdict is Verdict.HOLD
    assert f"{rare.sum()} positives, about 381 would tell" in decision.reasons[0]


def test_the_positives_that_it_would_take_do_tell():
    random = np.random.default_rng(6)
    rate, needed = 0.2, 0
    for rows in (1_000, 10_000):
        label = (random.random(rows) < rate).astype(np.int64)
        predicted = np.full(rows, rate * 0.96) + random.normal(size=rows) * 1e-4
        ids = np.arange(rows)
        holdout = Holdout(label=label, group=ids, example_id=ids, has_users=False)
        found = judged(predicted.astype(np.float32), predicted.astype(np.float32), holdout)
        text = found.findings[-1].text
        if rows == 1_000:
            assert found.verdict is Verdict.HOLD
            needed = int(text.split("about ")[1].split(" would")[0].replace(",", ""))
        else:
            assert label.sum() > needed
            assert found.verdict is Verdict.PROMOTE


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
    ("candidate", "rival", "verdict"),
    [
        (scores(0.0), scores(1.0), Verdict.PROMOTE),
        (scores(0.1, seed=3), scores(0.1), Verdict.HOLD),
        (scores(0.1), scores(0.1), Verdict.HOLD),  # equal to the bit: not better
        (scores(0.6), scores(0.3), Verdict.REFUSE),
    ],
)
def test_in_a_trial_not_worse_is_not_enough(candidate, rival, verdict):
    rivals = {CHAMPION: rival, CONTROL: rival}
    decision = decide(GateConfig(), HOLDOUT, candidate, rivals, base_rate=0.5)
    assert decision.verdict is verdict
    assert (decision.against[CONTROL].log_loss.high < 0) == (verdict is Verdict.PROMOTE)


def test_of_two_rivals_the_harder_verdict_counts():
    rivals = {CHAMPION: scores(1.0), CONTROL: scores(0.0)}
    decision = decide(GateConfig(), HOLDOUT, scores(0.0), rivals, base_rate=0.5)
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
