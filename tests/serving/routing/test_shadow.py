"""A challenger in the shadow: what it scores is compared and logged, and it delays no caller."""

import dataclasses
import threading
import time

import numpy as np
import prometheus_client
import pytest
from support.logs.answers import answered as answered_at_noon
from support.logs.answers import rows_of
from support.serving import stand_ins
from support.serving.running_server import metric, wait_until

from features.encoding.encode import encode
from features.prediction_log.replay import encoded_columns
from serving.observability import answered as answered_module
from serving.observability import metrics
from serving.observability.answered import Arm
from serving.observability.prediction_log import RequestLog
from serving.release.endpoint_client import Endpoint
from serving.routing import shadow
from serving.routing.serving_versions import Champion, WeightedModel
from serving.routing.shadow import Shadow, rank_correlation
from serving.routing.traffic_split import Share, clear_share, write_share
from serving.settings import Logging, Tls
from training.registry.aliases import CANARY, SHADOW

FIRST = "2025-06-01-first"
OF_MODEL = {"model": "stand-in"}
SCORES = np.array([0.1, 0.5, 0.3], dtype=np.float32)
"""Of the answer's three candidates."""


def count(outcome):
    labels = {**OF_MODEL, "outcome": outcome}
    name = "ranking_shadow_requests_total"
    return prometheus_client.REGISTRY.get_sample_value(name, labels)


@pytest.fixture
def answered(body):
    return answered_at_noon(body(), model_version=FIRST, scores=SCORES)


@pytest.fixture
def mirror():
    metrics.begin(stand_ins.SCHEMA.name)  # as a ranker does
    opened = Shadow(RequestLog(stand_ins.SCHEMA, Logging()))
    opened.start()
    yield opened
    opened.stop()


def challenger(score, *, percent=100):
    share = Share(version="challenger", percent=percent)
    return WeightedModel(model=Champion("challenger", score), share=share)


def test_a_challenger_that_hangs_leaves_the_queue_bounded_and_the_caller_alone(
    mirror, answered, monkeypatch
):
    monkeypatch.setattr(shadow, "MAX_WAITING_REQUESTS", 8)
    is_over, before = threading.Event(), count("dropped")
    stuck = challenger(lambda inputs: is_over.wait(20) and SCORES)
    assert mirror.offer(stuck, answered)
    wait_until(lambda: not mirror._waiting, seconds=30)
    started = time.monotonic()
    taken = [mirror.offer(stuck, answered) for _ in range(500)]
    assert time.monotonic() - started < 0.5
    assert (sum(taken), len(mirror._waiting)) == (8, 8)
    assert count("dropped") - before == 492
    mirror.forget()
    assert not mirror._waiting
    is_over.set()


def test_a_challenger_that_hangs_is_given_up_and_reported_and_the_next_one_scores(
    mirror, answered, monkeypatch, caplog
):
    hung, scored, is_over = count("hung"), count("scored"), threading.Event()
    stuck = challenger(lambda inputs: is_over.wait(20) and SCORES)
    mirror.offer(stuck, answered)
    wait_until(lambda: mirror._begun, seconds=30)
    abandoned = mirror._thread
    assert mirror.offer(stuck, answered), "it may still come back"
    monkeypatch.setattr(shadow, "HANG_SECONDS", 0.0)
    assert not mirror.offer(stuck, answered)
    monkeypatch.undo()
    assert (count("hung") - hung, len(mirror._waiting)) == (1, 0)
    assert prometheus_client.REGISTRY.get_sample_value("ranking_shadow_hung", OF_MODEL) == 1
    assert "challenger has not scored a request" in caplog.text
    assert not mirror.offer(stuck, answered)
    mirror.forget()
    mirror.offer(challenger(lambda inputs: SCORES), answered)
    wait_until(lambda: count("scored") == scored + 1, seconds=30)
    assert prometheus_client.REGISTRY.get_sample_value("ranking_shadow_hung", OF_MODEL) == 0
    is_over.set()
    abandoned.join(10)
    assert not abandoned.is_alive()
    assert count("scored") == scored + 1, "what comes too late counts for nothing"


def test_a_challenger_that_hung_before_it_was_replaced_is_not_reported_of_the_next_one(
    mirror, answered, monkeypatch
):
    hung, dropped, scored = (count(outcome) for outcome in ("hung", "dropped", "scored"))
    is_over = threading.Event()
    mirror.offer(challenger(lambda inputs: is_over.wait(20) and SCORES), answered)
    wait_until(lambda: mirror._begun, seconds=30)
    mirror.forget()
    following = challenger(lambda inputs: SCORES)
    assert mirror.offer(following, answered), "the thread may still come back"
    monkeypatch.setattr(shadow, "HANG_SECONDS", 0.0)
    assert mirror.offer(following, answered)
    monkeypatch.undo()
    wait_until(lambda: count("scored") == scored + 2, seconds=30)
    assert (count("hung") - hung, count("dropped") - dropped) == (1, 0)
    assert prometheus_client.REGISTRY.get_sample_value("ranking_shadow_hung", OF_MODEL) == 0
    is_over.set()


def test_many_candidates_fill_the_queue_too(mirror, answered, monkeypatch):
    monkeypatch.setattr(shadow, "MAX_WAITING_CANDIDATES", 7)
    is_over = threading.Event()
    stuck = challenger(lambda inputs: is_over.wait(20) and SCORES)
    mirror.offer(stuck, answered)
    wait_until(lambda: not mirror._waiting, seconds=30)
    assert [mirror.offer(stuck, answered) for _ in range(3)] == [True, True, False]
    is_over.set()


@pytest.mark.parametrize(
    "score",
    [
        lambda inputs: 1 / 0,
        lambda inputs: np.full(len(inputs), np.nan, dtype=np.float32),
        lambda inputs: np.zeros(1, dtype=np.float32),
        lambda inputs: None,
    ],
)
def test_a_challenger_that_fails_is_counted_and_the_next_one_scores(mirror, answered, score):
    failed, scored = count("failed"), count("scored")
    assert mirror.offer(challenger(score), answered)
    wait_until(lambda: count("failed") == failed + 1, seconds=30)
    assert mirror.offer(challenger(lambda inputs: SCORES), answered)
    wait_until(lambda: count("scored") == scored + 1, seconds=30)
    assert count("failed") == failed + 1, "the one that scores is no failure"


def test_the_answers_with_the_lowest_draws_are_mirrored(mirror, answered, monkeypatch):
    quarter = challenger(lambda inputs: SCORES, percent=25)
    monkeypatch.setattr(answered_module, "draw", float)
    offered = [dataclasses.replace(answered, answer_id=d) for d in ("0", ".249", ".25", ".9")]
    assert [mirror.offer(quarter, one) for one in offered] == [True, True, False, False]
    assert not mirror.offer(None, offered[0])


def test_a_shadows_scores_are_logged_with_its_share_as_their_probability(answered, monkeypatch):
    metrics.begin(stand_ins.SCHEMA.name)
    log, found = RequestLog(stand_ins.SCHEMA, Logging()), []
    monkeypatch.setattr(log, "offer", found.append)
    opened = Shadow(log)
    opened.start()
    monkeypatch.setattr(answered_module, "draw", float)
    share = Share(version="challenger", percent=25, salt="s")
    model = WeightedModel(model=Champion("challenger", lambda inputs: 1 - SCORES), share=share)
    assert opened.offer(model, dataclasses.replace(answered, answer_id="0.1"))
    wait_until(lambda: found, seconds=30)
    opened.stop()
    (one,) = found
    assert (one.answer_id, one.model_version, one.role) == ("0.1", "challenger", SHADOW)
    assert (one.arm, one.inclusion) == (Arm(SHADOW, 25, "s"), (SHADOW, 0.25))
    assert one.scores.tolist() == (1 - SCORES).tolist()


def test_differences_and_ranks_are_measured(mirror, answered):
    def sums():
        value = prometheus_client.REGISTRY.get_sample_value
        # Prometheus' histograms have no sum where a bound is negative.
        below = value("ranking_shadow_rank_correlation_bucket", {**OF_MODEL, "le": "-0.5"})
        return value("ranking_shadow_difference_sum", OF_MODEL), below

    before, scored = sums(), count("scored")
    mirror.offer(challenger(lambda inputs: 0.9 - SCORES), answered)
    wait_until(lambda: count("scored") == scored + 1, seconds=30)
    difference, num_reversed = np.array(sums()) - before
    expected = np.abs(0.9 - 2 * answered.scores).mean()
    assert difference == pytest.approx(expected, abs=1e-6)
    assert num_reversed == 1


def test_rank_correlation_has_mean_ranks_for_ties_and_none_where_nothing_is_ranked():
    def of(*pair):
        return rank_correlation(*(np.array(scores, dtype=np.float32) for scores in pair))

    assert of([0.1, 0.2, 0.2, 0.4], [1, 2, 2, 4]) == pytest.approx(1)
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5).
    assert of([0.1, 0.2, 0.2, 0.4], [1, 2, 3, 4]) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
    assert of([0.5], [0.5]) is None
    assert of([0.5, 0.5], [0.1, 0.2]) is None


@pytest.fixture
def registry(server):
    yield server.registry
    clear_share(server.registry, SHADOW)
    Endpoint(server.url, "stand-in").follow()


@pytest.mark.parametrize("version", ["2025-06-09-slow", "2025-06-09-raising"])
def test_a_slow_or_failing_challenger_never_touches_answers(server, body, registry, version):
    expected = server.infer(body()).json()["outputs"]
    write_share(registry, SHADOW, Share(version=version, percent=100))
    Endpoint(server.url, "stand-in").follow()
    answers_of_first = f'ranking_answers_total{{model="stand-in",version="{FIRST}"}}'
    dropped = 'ranking_shadow_requests_total{model="stand-in",outcome="dropped"}'
    failed = 'ranking_shadow_requests_total{model="stand-in",outcome="failed"}'
    before = {name: metric(server, name) for name in (answers_of_first, dropped, failed)}
    answers = [server.infer(body()) for _ in range(90)]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["model_version"] for answer in answers} == {FIRST}
    # On a busy machine a read of the store may come too late; that is no work of the shadow's.
    whole = [a.json()["outputs"] for a in answers if not a.json()["parameters"]["degraded"]]
    assert len(whole) > 45
    assert all(outputs == expected for outputs in whole)
    assert metric(server, answers_of_first) - before[answers_of_first] == 90
    assert metric(server, "ranking_shadow_waiting") <= shadow.MAX_WAITING_REQUESTS
    if version.endswith("-slow"):
        assert metric(server, dropped) - before[dropped] >= 10
    else:
        # A thread of low priority may fall behind on a busy machine; then it drops.
        wait_until(
            lambda: sum(metric(server, n) - before[n] for n in (failed, dropped)) == 90, seconds=30
        )
        assert metric(server, failed) > before[failed]


def test_canary_and_shadow_are_logged_with_the_columns_that_each_of_them_scored(guarded, body):
    files, registry = guarded.certificates.folder, guarded.server.registry
    tls = Tls(
        certificate=files / "client.crt",
        key=files / "client.key",
        authority=guarded.certificates.authority,
    )
    endpoint = Endpoint(guarded.server.url, "stand-in", token=guarded.token, tls=tls)
    write_share(registry, CANARY, Share(version="2025-06-03-canary", percent=100))
    write_share(registry, SHADOW, Share(version="2025-06-09-shadow", percent=100))
    endpoint.follow()
    content = body(item_id={"data": ["a", "d", "nobody"]}, device=None)
    answer = guarded.infer({**content, "id": "mirrored"}).json()
    # A shadow that is withdrawn before it has scored a request logs nothing of it.
    found = {role: rows_of(guarded.records, "mirrored", role=role) for role in (CANARY, SHADOW)}
    clear_share(registry, CANARY)
    clear_share(registry, SHADOW)
    endpoint.follow()
    for role, day in ((CANARY, 3), (SHADOW, 9)):
        table = found[role]
        columns = encoded_columns(stand_ins.SCHEMA, table)
        again = stand_ins.score(encode(stand_ins.SCHEMA, columns), offset=day)
        assert table["score"].to_pylist() == again.tolist()
        assert set(table["model_version"].to_pylist()) == {f"2025-06-0{day}-{role}"}
        assert table["item_daily__status"].to_pylist() == ["usable", "expired", "unknown"]
        if role == CANARY:
            assert answer["outputs"][0]["data"] == table["score"].to_pylist()
