"""Requests within the limits: what keeps a place, until when, and what a thread does."""

import asyncio
import concurrent.futures
import threading

import orjson
import prometheus_client
import pytest
from starlette.requests import Request
from support.serving import stand_ins
from support.serving.good_requests import ranked

from serving.admission import Admission
from serving.inference.ranker import Ranker
from serving.protocol.errors import RequestError
from serving.protocol.inference_request import Message, from_rest
from serving.routing.serving_versions import Champion
from serving.settings import Limits, Scoring, Settings
from serving.transport import routes
from serving.transport.routes import Routes


def test_a_request_has_one_time_from_its_arrival_its_body_included():
    """What a slow body has used up is not there for the answer."""

    async def run():
        admission = Admission(Limits(max_seconds=0.4))
        deadline = admission.deadline()

        async def read():
            await asyncio.sleep(0.25)

        await admission.receive(read, deadline)
        left.append(deadline.seconds_left)
        with pytest.raises(RequestError, match="answer"):
            async with admission.enter(deadline):
                await asyncio.sleep(0.3)

    left = []
    asyncio.run(run())
    assert left[0] <= 0.16


def slow_ranker(may_go, scored, **limits):
    def score(inputs):
        scored.append(len(inputs))
        assert may_go.wait(10)
        return stand_ins.score(inputs)

    store = stand_ins.StandInStore(stand_ins.SCHEMA, stand_ins.sample_rows())
    settings = Settings(scoring=Scoring(workers=1, batch_rows=1), limits=Limits(**limits))
    ranker = Ranker(stand_ins.SCHEMA, online=store, settings=settings)
    ranker.swap(Champion("v", score))
    return ranker


def test_work_that_a_thread_is_at_keeps_its_place_until_it_has_ended(body):
    may_go, scored = threading.Event(), []
    ranker = slow_ranker(may_go, scored, max_seconds=0.3, max_concurrent=4)
    admission = ranker.admission
    call = from_rest(orjson.dumps(body()), json_length=None)

    async def run():
        four = (ranked(ranker, call) for _ in range(4))
        late = await asyncio.gather(*four, return_exceptions=True)
        await asyncio.sleep(0.05)
        inside = admission.num_inside, len(scored)
        may_go.set()
        while admission.num_inside:
            await asyncio.sleep(0.01)
        return late, inside

    def num_dropped():
        return prometheus_client.REGISTRY.get_sample_value(
            "ranking_dropped_requests_total", {"model": "stand-in"}
        )

    before = num_dropped()
    late, (num_inside, num_begun) = asyncio.run(asyncio.wait_for(run(), 10))
    assert {type(one) for one in late} == {RequestError}
    assert num_dropped() - before == 4 - num_begun
    assert 1 <= num_begun <= 2, "the rest was not begun"
    assert num_inside == num_begun
    assert len(scored) == num_begun


def test_a_message_that_a_thread_is_at_keeps_its_place_and_one_that_waits_does_not():
    """In a pool of one thread, so that the second one never begins."""
    may_go, begun = threading.Event(), []

    def decode():
        begun.append(1)
        assert may_go.wait(10)

    async def run():
        admission = Admission(Limits(max_seconds=0.2))
        admission.threads = concurrent.futures.ThreadPoolExecutor(1)

        async def decoded():
            async with admission.enter(admission.deadline()) as place:
                await place.run(True, decode)

        late = await asyncio.gather(*(decoded() for _ in range(2)), return_exceptions=True)
        await asyncio.sleep(0.05)
        inside = admission.num_inside
        may_go.set()
        while admission.num_inside:
            await asyncio.sleep(0.01)
        return late, inside

    late, num_inside = asyncio.run(asyncio.wait_for(run(), 10))
    assert {type(one) for one in late} == {RequestError}
    assert (num_inside, begun) == (1, [1])


def thread_of(work):
    """The thread on which something is done while an event loop waits for it."""
    found = []
    asyncio.run(work(lambda *arguments: found.append(threading.current_thread())))
    (thread,) = found
    return thread


def test_metrics_are_written_in_a_thread(monkeypatch):
    """They take milliseconds, in which the loop would answer no caller."""
    endpoint = Routes(dataplane=None, models=None, settings=Settings())

    async def scrape(encoder):
        monkeypatch.setattr(routes.exposition, "choose_encoder", lambda accept: (encoder, "text"))
        await endpoint.metrics(Request({"type": "http", "headers": []}))

    assert thread_of(scrape) is not threading.main_thread()


@pytest.mark.parametrize(("num_items", "is_inline"), [(3, True), (5_000, False)])
def test_large_messages_are_read_and_answers_written_in_threads(body, num_items, is_inline):
    store = stand_ins.StandInStore(stand_ins.SCHEMA, stand_ins.sample_rows())
    ranker = Ranker(stand_ins.SCHEMA, online=store)
    ranker.swap(Champion("v", stand_ins.score))
    items = {"shape": [num_items], "data": ["a"] * num_items}
    content = orjson.dumps(body(item_id=items, position=None))

    async def read():
        return content

    def is_on_loop():
        return threading.current_thread() is threading.main_thread()

    def decode(content):
        found.append(is_on_loop())
        return from_rest(content, json_length=None)

    def encode(answer):
        found.append(is_on_loop())

    found = []
    asyncio.run(ranker.rank(Message(read=read, decode=decode, encode=encode)))
    assert found == [is_inline] * 2
