"""A store that is killed, hangs, or comes back: degraded answers in time, never an error."""

import asyncio
import dataclasses
import threading
import time

import orjson
import pytest
from support.redis_server import running_redis
from support.serving import stand_ins
from support.serving.good_requests import flags, ranked

from serving.inference.ranker import Ranker
from serving.lookup.store_breaker import FAILURES
from serving.protocol.errors import RequestError
from serving.protocol.inference_request import from_rest
from serving.routing.serving_versions import Champion
from serving.settings import Scoring, Settings, Store

BUDGET, SLACK = 0.15, 0.5
"""Seconds; the second for a machine that does other things too."""


class DeadStore(stand_ins.StandInStore):
    def read(self, role, ids, *, since=None):
        raise ConnectionError("gone")


def call_of(body):
    return from_rest(orjson.dumps(body), json_length=None)


def answer(ranker, body):
    return asyncio.run(ranked(ranker, call_of(body)))


@pytest.fixture(params=[1, 2], ids=["read-and-scored-by-one-thread", "by-two-threads"])
def ranker_of(request):
    """Makes a ranker; a lone request is scored by so many threads, and read for by another then."""

    def made(settings, store=stand_ins.StandInStore):
        scoring = settings.scoring.model_copy(update={"torch_threads": request.param})
        rows = store(stand_ins.SCHEMA, stand_ins.sample_rows())
        settings = dataclasses.replace(settings, scoring=scoring)
        ranker = Ranker(stand_ins.SCHEMA, online=rows, settings=settings)
        ranker.swap(Champion("v", stand_ins.score))
        return ranker

    return made


def test_without_the_store_all_are_unknown_and_the_answer_says_why(body, ranker_of):
    found = answer(ranker_of(Settings(), DeadStore), body())
    assert found.parameters["store_unavailable"] is found.parameters["degraded"] is True
    assert [list(output.data) for output in found.outputs][1:] == [["unknown"] * 3, ["unknown"]]


def test_a_strict_endpoint_refuses_instead(body, ranker_of):
    with pytest.raises(RequestError, match=r"store: 'no answer'; within 0\.1 seconds") as caught:
        answer(ranker_of(Settings(store=Store(is_strict=True)), DeadStore), body())
    assert caught.value.status == 503


def test_putting_together_what_was_read_is_not_the_stores_time(body, ranker_of, monkeypatch):
    ranker = ranker_of(Settings(store=Store(max_seconds=BUDGET)))
    together = ranker.transformer.put_together

    def slowly(request, rows):
        time.sleep(1.5 * BUDGET)
        return together(request, rows)

    monkeypatch.setattr(ranker.transformer, "put_together", slowly)

    async def run():
        first = asyncio.create_task(ranked(ranker, call_of(body())))
        await asyncio.sleep(0.1 * BUDGET)
        behind = (ranked(ranker, call_of(body())) for _ in range(2))
        return await asyncio.gather(first, *behind)

    assert [flags(found.parameters) for found in asyncio.run(run())] == [{"degraded": False}] * 3


def test_what_fails_after_the_store_has_answered_is_not_the_stores_fault(
    body, ranker_of, monkeypatch
):
    ranker = ranker_of(Settings())

    def fail(request, rows):
        raise ArithmeticError("ours")

    with monkeypatch.context() as patched:
        patched.setattr(ranker.transformer, "put_together", fail)
        for _ in range(FAILURES + 1):
            with pytest.raises(ArithmeticError, match="ours"):
                answer(ranker, body())
    assert flags(answer(ranker, body()).parameters) == {"degraded": False}


def test_inputs_that_cannot_be_put_together_fail_their_own_request_alone(
    body, ranker_of, monkeypatch
):
    ranker = ranker_of(Settings(scoring=Scoring(workers=1)))
    together = ranker.transformer.put_together

    def put_together(request, rows):
        time.sleep(0.05)
        if request.user_ids == [8]:
            raise ArithmeticError("ours")
        return together(request, rows)

    monkeypatch.setattr(ranker.transformer, "put_together", put_together)
    calls = [call_of(body(user_id={"data": [user]})) for user in (7, 7, 8, 7)]

    async def run():
        return await asyncio.gather(*(ranked(ranker, c) for c in calls), return_exceptions=True)

    first, second, failed, last = asyncio.run(run())
    assert isinstance(failed, ArithmeticError)
    assert [flags(one.parameters) for one in (first, second, last)] == [{"degraded": False}] * 3


def test_a_store_that_hangs_keeps_no_thread_from_scoring(body, ranker_of):
    """Not even with one of them, and what was given up is not scored when the store is back."""
    may_go, scored = threading.Event(), []

    class Hanging(stand_ins.StandInStore):
        def read(self, role, ids, *, since=None):
            assert may_go.wait(20)
            return super().read(role, ids, since=since)

    def score(inputs):
        scored.append(len(inputs))
        return stand_ins.score(inputs)

    settings = Settings(store=Store(max_seconds=BUDGET), scoring=Scoring(workers=1))
    ranker = ranker_of(settings, Hanging)
    ranker.swap(Champion("v", score))

    async def run():
        late = await asyncio.gather(*(ranked(ranker, call_of(body())) for _ in range(3)))
        num_scored, num_inside = sum(scored), ranker.admission.num_inside
        may_go.set()
        while (await ranked(ranker, call_of(body()))).parameters["degraded"]:
            await asyncio.sleep(0.05)
        return late, num_scored, num_inside

    late, num_scored, num_inside = asyncio.run(asyncio.wait_for(run(), 20))
    assert [one.parameters["store_unavailable"] for one in late] == [True] * 3
    assert (num_scored, num_inside) == (3 * 3, 0)


class Client:
    """Asks the server again and again."""

    def __init__(self, server, body):
        self.server = server
        self.body = body

    def ask(self):
        started = time.monotonic()
        found = self.server.infer(self.body)
        self.seconds = time.monotonic() - started
        assert found.status_code == 200, found.text
        content = found.json()
        return flags(content["parameters"]), {o["name"]: o["data"] for o in content["outputs"]}

    def ask_until(self, accepts):
        """Ask on until the parameters are as wanted; returns the last answer."""
        deadline = time.monotonic() + 10
        while not accepts((found := self.ask())[0]):
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found


def test_redis_frozen_killed_emptied_and_filled_again(start_server, body, tmp_path, monkeypatch):
    """One story over real HTTP, because each start of a server takes seconds."""
    with running_redis() as redis:
        monkeypatch.setenv("RANKING_ONLINE", redis.url)
        stand_ins.fill(tmp_path)
        environment = {
            "RANKING_ONLINE": redis.url,
            "RANKING_STORE_SECONDS": str(BUDGET),
            "RANKING_ITEMS_POLL_SECONDS": "0.1",
            "RANKING_ITEMS_STALE_SECONDS": "1.5",
        }
        with start_server(environment, flags=[f"--store={tmp_path}"]) as server:
            server.reload("2025-06-01-first").raise_for_status()
            client = Client(server, body())
            parameters, healthy = client.ask()
            assert parameters == {"degraded": False}

            redis.freeze()
            for _ in range(FAILURES + 3):
                parameters, found = client.ask()
                assert client.seconds < BUDGET + SLACK
                assert parameters["store_unavailable"] is True
                assert found["user_status"] == ["unknown"]
                assert found["item_status"] == ["ok"] * 3
            client.ask_until(lambda parameters: "items_stale" in parameters)
            redis.thaw()
            _, found = client.ask_until(lambda parameters: not parameters["degraded"])
            assert found == healthy

            redis.kill()
            for _ in range(FAILURES + 3):
                assert client.ask()[0]["store_unavailable"] is True
                assert client.seconds < BUDGET + SLACK
            redis.start()
            # It came back without its data: items are kept, users are unknown.
            parameters, found = client.ask_until(lambda p: "store_unavailable" not in p)
            assert found["user_status"] == ["unknown"]
            assert found["item_status"] == ["ok"] * 3
            stand_ins.fill(tmp_path)
            _, found = client.ask_until(lambda parameters: not parameters["degraded"])
            assert found == healthy
            metrics = server.http.get("/metrics").text
    counts = {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in metrics.splitlines()
        if line.startswith(("ranking_store_reads_total", "ranking_flagged_answers_total"))
    }
    assert (
        counts['ranking_flagged_answers_total{flag="store_unavailable",model="stand-in"}']
        >= 2 * FAILURES + 6
    )
    assert counts['ranking_flagged_answers_total{flag="items_stale",model="stand-in"}'] >= 1
    missed = [
        counts[f'ranking_store_reads_total{{model="stand-in",outcome="{o}"}}']
        for o in ("late", "failed")
    ]
    assert sum(missed) >= 2 * FAILURES
    assert counts['ranking_store_reads_total{model="stand-in",outcome="skipped"}'] >= 2
