"""Batches that are prepared by the thread that works on them, as rows are read and then scored."""

import asyncio
import threading
import time

from prometheus_client import Histogram

from serving.micro_batcher import MicroBatcher

SIZES = Histogram("sizes", "Of batches.", registry=None)


def batcher(work, **options):
    options = {"name": "test", "num_threads": 1, "max_rows": 9, "sizes": SIZES, **options}
    return MicroBatcher(work, **options)


def test_one_thread_at_a_time_prepares_and_what_it_prepares_others_need_not_wait_for():
    """The second is prepared while the first is worked on; only what is prepared counts as busy."""
    may_go, events, busy = threading.Event(), [], threading.Event()

    def prepare(jobs):
        events.append(f"prepare {jobs[0]}")
        return [job.upper() for job in jobs]

    def work(jobs):
        events.append(f"work {jobs[0]}")
        if len(events) == 4:
            busy.set()
        assert may_go.wait(10)
        return list(jobs)

    batches = batcher(work, prepare=prepare, num_threads=2)

    async def run():
        both = [asyncio.wrap_future(batches.submit("a"))]
        while len(events) < 2:
            await asyncio.sleep(0.001)
        both.append(asyncio.wrap_future(batches.submit("b")))
        await asyncio.to_thread(busy.wait, 10)
        before = batches.seconds_busy
        await asyncio.sleep(0.05)
        may_go.set()
        return await asyncio.gather(*both), batches.seconds_busy - before

    answers, seconds = asyncio.run(run())
    assert answers == ["A", "B"]
    assert events == ["prepare a", "work A", "prepare b", "work B"]
    assert seconds == 0


def test_what_is_cancelled_while_it_is_prepared_is_not_worked_on():
    may_go, worked = threading.Event(), []

    def prepare(jobs):
        assert may_go.wait(10)
        return jobs

    def work(jobs):
        worked.extend(jobs)
        return jobs

    batches = batcher(work, prepare=prepare)
    first = batches.submit("first")
    while first.begun is None:
        time.sleep(0.001)
    last = batches.submit("last")
    assert first.cancel()
    may_go.set()
    assert last.result(10) == "last"
    assert (worked, last.cancel()) == (["last"], False)


def test_what_cannot_be_prepared_fails_and_the_thread_goes_on():
    def prepare(jobs):
        if jobs == ["bad"]:
            raise ConnectionError("away")
        return jobs

    batches = batcher(list, prepare=prepare, max_rows=1)
    bad, good = batches.submit("bad"), batches.submit("good")
    assert isinstance(bad.exception(10), ConnectionError)
    assert (bad.prepared, good.result(10)) == (None, "good")
