"""Requests within the limits: what keeps a place, until when, and what a thread does."""

import asyncio
import concurrent.futures
import threading
import time

import numpy as np
import orjson
import pytest
from kserve.protocol.infer_type import InferOutput
from starlette.requests import Request
from support.serving import stand_ins

from serving.admission import INLINE_BYTES, Admission, inline_or_thread
from serving.inference.ranker import Ranker
from serving.inference.responses import RankingResponse
from serving.inference.scoring import Champion
from serving.protocol.errors import RequestError
from serving.protocol.inference_request import from_rest
from serving.settings import Limits, Scoring, Settings
from serving.transport import routes
from serving.transport.routes import Routes


def test_a_request_has_one_time_from_its_arrival_its_body_included():
    """What a slow body has used up is not there for the answer."""

    async def run():
        admission = Admission(Limits(max_seconds=0.4))

        async def read():
            await asyncio.sleep(0.25)

        async def work(content, deadline):
            left.append(deadline - time.monotonic())
            await asyncio.sleep(0.3)

        with pytest.raises(RequestError, match="answer"):
            await admission.run(read=read, work=work)

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
    admission = Admission(ranker._limits)
    call = from_rest(orjson.dumps(body()), json_length=None)

    async def one():
        async def read():
            return call

        async def work(call, deadline):
            return await ranker(call)

        return await admission.run(read=read, work=work)

    async def run():
        late = await asyncio.gather(*(one() for _ in range(4)), return_exceptions=True)
        await asyncio.sleep(0.05)
        inside = admission._num_inside, len(scored)
        may_go.set()
        while admission._num_inside:
            await asyncio.sleep(0.01)
        return late, inside

    late, (num_inside, num_begun) = asyncio.run(asyncio.wait_for(run(), 10))
    assert {type(one) for one in late} == {RequestError}
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
        asyncio.get_running_loop().set_default_executor(concurrent.futures.ThreadPoolExecutor(1))

        async def read():
            """It is there."""

        async def work(content, deadline):
            await inline_or_thread(INLINE_BYTES + 1, decode)

        both = (admission.run(read=read, work=work) for _ in range(2))
        late = await asyncio.gather(*both, return_exceptions=True)
        await asyncio.sleep(0.05)
        inside = admission._num_inside
        may_go.set()
        while admission._num_inside:
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


def test_metrics_and_large_answers_are_written_outside_the_event_loop(monkeypatch):
    """They take milliseconds, in which the loop would answer no caller."""
    endpoint = Routes(
        dataplane=None, ranker=None, repository=None, admission=None, settings=Settings()
    )

    async def scrape(encoder):
        monkeypatch.setattr(routes.exposition, "choose_encoder", lambda accept: (encoder, "text"))
        await endpoint.metrics(Request({"type": "http", "headers": []}))

    async def answer(respond):
        data = np.zeros(10_000, dtype=np.float32)
        output = InferOutput(name="score", shape=[10_000], datatype="FP32", data=data)
        large = RankingResponse(response_id="x", model_name="ranker", infer_outputs=[output])
        await inline_or_thread(large.num_bytes, respond, large)

    assert thread_of(scrape) is not threading.main_thread()
    assert thread_of(answer) is not threading.main_thread()
