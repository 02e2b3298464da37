"""What counts against a version: every request that it did not answer, but for callers' errors.

The ranker itself, without a server: a transport calls it in just this way.
"""

import asyncio
import concurrent.futures
import datetime
import threading
import time

import numpy as np
import orjson
import prometheus_client
import pytest
from support.serving import stand_ins
from support.serving.good_requests import ranked

from serving.inference import ranker
from serving.inference.ranker import Ranker
from serving.inference.ranking import score_batch
from serving.observability.version_metrics import LoadedVersions
from serving.protocol.errors import RequestError
from serving.protocol.inference_request import from_rest
from serving.routing import shadow
from serving.routing.serving_versions import Champion, ServingVersions, WeightedModel
from serving.routing.traffic_split import Share
from serving.settings import Limits, Settings, Store

CANARY, CONTROL = "canary-version", "control-version"
OF_CANARY = {"model": "stand-in", "version": CANARY}


@pytest.fixture
def store():
    return stand_ins.StandInStore(stand_ins.SCHEMA, stand_ins.sample_rows())


@pytest.fixture
def call(body, monkeypatch):
    class Noon(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return stand_ins.NOON

    monkeypatch.setattr(ranker.datetime, "datetime", Noon)
    return lambda **changes: from_rest(orjson.dumps(body(**changes)), json_length=None)


@pytest.fixture
def ranker_of(store):
    """A ranker whose canary answers everything, and scores as is said."""

    def made(score, **settings):
        opened = Ranker(stand_ins.SCHEMA, online=store, settings=Settings(**settings))
        share = Share(version=CANARY, percent=100)
        canary = WeightedModel(model=Champion(CANARY, score), share=share)
        opened.follow(ServingVersions(champion=Champion(CONTROL, stand_ins.score), canary=canary))
        LoadedVersions(stand_ins.SCHEMA.name).set_roles(
            {"canary": (CANARY, 100), "champion": (CONTROL, 0)}
        )
        return opened

    return made


def counted(outcome, version=CANARY):
    labels = {"model": "stand-in", "version": version, "outcome": outcome}
    return prometheus_client.REGISTRY.get_sample_value("ranking_version_requests_total", labels)


def seconds_counted():
    name = "ranking_version_seconds_count"
    return prometheus_client.REGISTRY.get_sample_value(name, OF_CANARY)


def nan_scores(inputs):
    return np.full(len(inputs), np.nan, dtype=np.float32)


def raising(inputs):
    raise RuntimeError("out of luck")


def too_slow(inputs):
    time.sleep(0.3)
    return stand_ins.score(inputs)


@pytest.mark.parametrize("score", [nan_scores, raising, too_slow])
def test_whatever_a_version_does_not_answer_counts_against_it(ranker_of, call, score):
    ranker = ranker_of(score, limits=Limits(max_seconds=0.2))
    before, timed = counted("failed"), seconds_counted()
    with pytest.raises((RequestError, RuntimeError)):
        asyncio.run(ranked(ranker, call()))
    assert counted("failed") == before + 1
    assert seconds_counted() == timed + 1


def test_scores_that_are_not_finite_are_the_models_fault_and_not_the_callers(ranker_of, call):
    with pytest.raises(RequestError, match=f"a finite number from {CANARY}") as caught:
        asyncio.run(ranked(ranker_of(nan_scores), call()))
    assert caught.value.status == 500


def test_a_store_that_must_answer_and_does_not_counts_against_who_was_to_answer(
    ranker_of, call, store, monkeypatch
):
    monkeypatch.setattr(store, "read", lambda *_, **__: time.sleep(0.2))
    ranker = ranker_of(stand_ins.score, store=Store(max_seconds=0.02, is_strict=True))
    before = counted("failed")
    with pytest.raises(RequestError, match="store"):
        asyncio.run(ranked(ranker, call()))
    assert counted("failed") == before + 1


def test_a_caller_who_leaves_counts_too(ranker_of, call):
    async def left():
        task = asyncio.create_task(ranked(ranker, call()))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    ranker, before = ranker_of(too_slow), counted("failed")
    asyncio.run(left())
    assert counted("failed") == before + 1


def test_answers_are_counted_by_whether_anything_was_missing(ranker_of, call):
    ranker = ranker_of(stand_ins.score)
    before = counted("complete"), counted("degraded")
    asyncio.run(ranked(ranker, call()))
    asyncio.run(ranked(ranker, call(user_id={"data": [98]})))
    assert (counted("complete"), counted("degraded")) == (before[0] + 1, before[1] + 1)


@pytest.mark.parametrize("change", [{"price": {"data": ["x"]}}, {"item_id": None}])
def test_what_a_caller_got_wrong_counts_against_nobody(ranker_of, call, body, change):
    ranker = ranker_of(stand_ins.score)
    before = [counted(outcome) for outcome in ("complete", "degraded", "failed")]
    with pytest.raises(RequestError):
        asyncio.run(ranked(ranker, call(**change)))
    assert [counted(outcome) for outcome in ("complete", "degraded", "failed")] == before


def test_a_canarys_answers_are_scored_by_the_champion_too(ranker_of, call):
    """Its scores are the champion's, permuted among the candidates: same mean, other order."""

    def permuted(inputs):
        return np.roll(stand_ins.score(inputs), 1)

    ranker = ranker_of(permuted)
    ranker.offers.pairs.start()

    def sample(name):
        return prometheus_client.REGISTRY.get_sample_value(name, OF_CANARY)

    names = (
        "ranking_pair_score_ratio_sum",
        "ranking_pair_rank_distance_sum",
        "ranking_pair_rank_distance_count",
    )
    before = [sample(name) for name in names]
    # One in ten is scored twice, by chance.
    for _ in range(400):
        asyncio.run(ranked(ranker, call()))
        if sample(names[-1]) > before[-1]:
            break
    deadline = time.monotonic() + 10
    while not sample(names[-1]) > before[-1]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # No pair comes between the reads any more.
    ranker.offers.pairs.stop()
    ratio, distance, count = (sample(name) - old for name, old in zip(names, before, strict=True))
    assert ratio / count == pytest.approx(1, abs=1e-6)
    # Of three candidates in the order 1, 2, 3, turned by one place.
    assert distance / count == pytest.approx(1.5)


def test_pairs_are_so_many_of_all_requests_whatever_the_share():
    model = Champion(CANARY, stand_ins.score)
    champion = Champion(CONTROL, stand_ins.score)
    for percent, expected in ((5, 100), (25, 40), (50, 20), (100, 10)):
        canary = WeightedModel(model=model, share=Share(version=CANARY, percent=percent))
        versions = ServingVersions(champion=champion, canary=canary)
        assert versions.pair_of(CANARY).share.percent == expected
        assert versions.pair_of(CANARY).model is champion
        assert versions.pair_of(CONTROL) is None
    assert ServingVersions(champion=champion).pair_of(CANARY) is None


@pytest.mark.parametrize(
    ("scores", "control", "ratio", "distance"),
    [
        ([0.1, 0.2, 0.3], [0.2, 0.4, 0.6], 0.5, 0.0),
        ([0.3, 0.2, 0.1], [0.1, 0.2, 0.3], 1.0, 2.0),
        ([0.9, 0.9], [0.1, 0.2], 2.0, 1.0),
        ([0.1, 0.2], [0.1, 0.1], 1.5, None),
        ([0.1], [0.0], 2.0, None),
        ([0.0], [0.0], 2.0, None),
    ],
)
def test_a_pair_is_a_ratio_of_means_and_a_distance_of_ranks(scores, control, ratio, distance):
    one, other = (np.array(values, dtype=np.float32) for values in (scores, control))
    assert shadow.score_ratio(one, other) == pytest.approx(ratio)
    assert shadow.rank_distance(one, other) == (
        None if distance is None else pytest.approx(distance)
    )


def test_the_wait_for_a_thread_is_no_time_of_the_version(ranker_of, call):
    """Versions share it: with it, a slow canary would look much like its control."""
    ranker = ranker_of(stand_ins.score)
    name, labels = "ranking_version_seconds_sum", OF_CANARY
    before = prometheus_client.REGISTRY.get_sample_value(name, labels)

    def late(job, **_):
        done = concurrent.futures.Future()
        (answer,) = score_batch(ranker.transformer, [job])
        threading.Timer(0.2, done.set_result, [answer]).start()
        return done

    ranker._alone.submit = ranker._batches.submit = late
    asyncio.run(ranked(ranker, call()))
    assert prometheus_client.REGISTRY.get_sample_value(name, labels) - before < 0.2
