"""Answers are logged with a known probability, which no caller can change."""

import math
import time
import uuid

import numpy as np
import pytest

from serving.inference import ranking
from serving.inference.ranking import new_answer_id
from serving.observability.sampling import Inclusion, draw, inclusion


def test_an_answers_id_is_a_uuid_of_version_7_that_begins_with_its_time():
    before = time.time_ns() // 1_000_000
    ids = [new_answer_id() for _ in range(1_000)]
    after = time.time_ns() // 1_000_000
    parsed = [uuid.UUID(one) for one in ids]
    assert [str(one) for one in parsed] == ids
    assert {(one.version, one.variant) for one in parsed} == {(7, uuid.RFC_4122)}
    assert all(before <= one.int >> 80 <= after for one in parsed)
    assert len({one.int & (1 << 62) - 1 for one in parsed}) == len(ids)


@pytest.mark.parametrize(
    ("role", "is_degraded", "expected"),
    [
        ("canary", True, Inclusion("canary", 1.0)),
        ("canary", False, Inclusion("canary", 1.0)),
        ("champion", True, Inclusion("degraded", 1.0)),
    ],
)
def test_a_canarys_answers_and_degraded_ones_are_all_logged_where_any_is(
    role, is_degraded, expected
):
    how = {"role": role, "is_degraded": is_degraded, "mirrored": 0.0}
    ids = [new_answer_id() for _ in range(50)]
    assert {inclusion(one, share=1e-9, **how) for one in ids} == {expected}
    assert {inclusion(one, share=0.0, **how) for one in ids} == {None}


def test_what_a_shadow_scores_is_logged_too_and_the_probability_says_so():
    ids = [new_answer_id() for _ in range(500)]
    how = {"share": 0.1, "role": "champion", "is_degraded": False, "mirrored": 0.4}
    for one in ids:
        expected = Inclusion("sampled", 0.4) if draw(one) < 0.4 else None
        assert inclusion(one, **how) == expected


def test_a_draw_is_below_one_and_follows_from_the_id_alone():
    assert draw("0197a1b2-0000-7000-8000-000000000000") == draw(
        "0197a1b2-0000-7000-8000-000000000000"
    )
    draws = np.array([draw(f"answer-{number}") for number in range(20_000)])
    assert 0 <= draws.min() < draws.max() < 1
    # Of a uniform sample: mean 1/2, with a standard error of sqrt(1/12/n).
    assert abs(draws.mean() - 0.5) < 5 * math.sqrt(1 / 12 / len(draws))


def test_weighted_counts_of_the_log_are_those_of_all_answers(monkeypatch):
    """Of all answers and of each kind, within five standard deviations of the binomial's."""
    chance = np.random.default_rng(20250615)
    monkeypatch.setattr(ranking.os, "urandom", chance.bytes)
    share, size = 0.05, 40_000
    degraded = chance.random(size) < 0.1
    canary = chance.random(size) < 0.2
    positive = chance.random(size) < np.where(degraded, 0.6, 0.2)
    weights, kept = np.zeros(size), {}
    for place in range(size):
        found = inclusion(
            new_answer_id(),
            share=share,
            role="canary" if canary[place] else "champion",
            is_degraded=bool(degraded[place]),
            mirrored=0.0,
        )
        if found:
            weights[place] = 1 / found.probability
            kept[found.stratum] = kept.get(found.stratum, 0) + 1
    assert kept["canary"] == canary.sum()
    assert kept["degraded"] == (degraded & ~canary).sum()
    for of in (np.ones(size, dtype=bool), positive, degraded, ~degraded & ~canary & positive):
        drawn = (of & ~degraded & ~canary).sum()
        bound = 5 * math.sqrt(drawn * (1 - share) / share)
        assert abs(weights[of].sum() - of.sum()) <= bound
    # Without the weights the degraded would be far too many.
    assert degraded[weights > 0].mean() > 3 * degraded.mean()
