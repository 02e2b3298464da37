"""The soak in its short form, and how it judges what it saw."""

import json

import numpy as np
import pytest
from support import forks

from infra.bench.serving.load_client import Answer
from infra.drills import soak


@pytest.mark.process
def test_under_load_swaps_and_store_restarts_lose_no_request():
    """Nine seconds of what `make soak` does for ten minutes."""
    brief = ["--seconds=9", "--swap-seconds=2", "--capacity-seconds=2", "--share=0.5"]
    done = forks.run(["-m", "infra.drills.soak", *brief])
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["lost"], summary["failures"], summary["store_restarts"]) == (0, [], 2)
    assert summary["requests"] >= 30
    assert summary["swaps"] >= 2
    assert {"degraded", "rss_mb_start", "rss_mb_end", "p99_ms"} <= summary.keys()


@pytest.fixture
def run():
    return soak.Soak(None, world=None, store=None)


def answer(version, *scores, statuses=b"ok"):
    return Answer(
        body=0, version=version, scores=np.array(scores), is_degraded=False, statuses=statuses
    )


def test_an_answer_must_be_its_versions_own_and_no_others(run):
    assert run.wrong(answer("a", 0.1, 0.2)) == ""
    assert run.wrong(answer("b", 0.3, 0.4)) == ""
    assert run.wrong(answer("a", 0.1, 0.200001)) == ""
    assert run.wrong(answer("a", 0.3, 0.4)) == "a: another answer than its own for body 0"
    assert run.wrong(answer("a", 0.1)) == "a: another answer than its own for body 0"
    assert run.wrong(answer("c", 0.3, 0.4)) == "scores of body 0 are those of ['b', 'c']"
    # With other features it has another answer, which is learnt too.
    assert run.wrong(answer("a", 0.5, 0.6, statuses=b"unknown")) == ""


def test_memory_that_grows_by_more_than_its_bound_fails_the_run():
    def summary(growth_per_second):
        samples = [(second, 500 + growth_per_second * second) for second in range(100)]
        memory = soak.memory_of([(0.0, 100.0), *samples])
        return {"lost": 0, "failures": [], "swaps": 1, "store_restarts": 2, **memory}

    assert not soak.has_failed(summary(0.1))
    assert summary(0.1)["rss_mb_per_minute"] == 6
    assert soak.has_failed(summary(1))


@pytest.mark.parametrize(
    "change", [{"lost": 1}, {"failures": ["x"]}, {"swaps": 0}, {"store_restarts": 1}]
)
def test_a_lost_request_or_a_change_that_did_not_happen_fails_the_run(change):
    memory = soak.memory_of([(0.0, 500.0), (1.0, 500.0), (2.0, 500.0)])
    good = {"lost": 0, "failures": [], "swaps": 1, "store_restarts": 2, **memory}
    assert not soak.has_failed(good)
    assert soak.has_failed({**good, **change})
