"""A read of the store has a budget, and a store that fails is left alone for a while."""

import asyncio
import gc
import threading
import time

import pytest
from prometheus_client import Histogram

from serving.lookup import store_breaker
from serving.lookup.store_breaker import FAILURES, PAUSE_SECONDS, SMALL_ROWS, StoreCircuitBreaker
from serving.micro_batcher import MicroBatcher

BUDGET, SLACK = 0.15, 0.5
"""Seconds; the second for a machine that does other things too."""
SIZES = Histogram("sizes", "Of batches.", registry=None)


def breaker_of(budget):
    """Runs what it is asked for."""
    return StoreCircuitBreaker(budget, lambda works: [work() for work in works], model="m")


def test_after_some_failures_the_store_is_asked_once_a_second_and_then_trusted_again():
    asked = []
    works = False

    def work():
        asked.append(time.monotonic())
        if not works:
            raise ConnectionError
        return "rows"

    async def run():
        nonlocal works
        breaker = breaker_of(BUDGET)
        for _ in range(FAILURES + 5):
            assert await breaker.read(work) is None
        assert len(asked) == FAILURES
        await asyncio.sleep(PAUSE_SECONDS + 0.02)
        assert await breaker.read(work) is None
        assert await breaker.read(work) is None
        assert len(asked) == FAILURES + 1
        works = True
        await asyncio.sleep(PAUSE_SECONDS + 0.02)
        return [await breaker.read(work) for _ in range(3)]

    assert asyncio.run(run()) == ["rows"] * 3


def test_a_read_that_hangs_costs_its_budget_and_no_more():
    async def run():
        breaker = breaker_of(BUDGET)
        started = time.monotonic()
        assert await breaker.read(lambda: time.sleep(0.6)) is None
        return time.monotonic() - started

    assert BUDGET <= asyncio.run(run()) < 0.5


def test_a_read_that_waits_behind_one_that_hangs_is_given_up_in_its_own_budget():
    async def run():
        breaker = breaker_of(BUDGET)
        hangs = asyncio.create_task(breaker.read(lambda: time.sleep(6 * BUDGET)))
        await asyncio.sleep(0.2 * BUDGET)
        started = time.monotonic()
        assert await breaker.read(lambda: "rows") is None
        taken = time.monotonic() - started
        assert await hangs is None
        return taken

    assert asyncio.run(run()) < 2 * BUDGET


def test_a_read_that_fails_for_many_requests_has_failed_once():
    asked = []

    def read(works):
        asked.append(len(works))
        time.sleep(0.02)
        if len(asked) < FAILURES:
            raise ConnectionError
        return works

    async def run():
        breaker = StoreCircuitBreaker(BUDGET, read, model="m")
        first = asyncio.create_task(breaker.read("first"))
        await asyncio.sleep(0.01)
        others = [asyncio.create_task(breaker.read("other")) for _ in range(5)]
        assert await asyncio.gather(first, *others) == [None] * 6
        return await breaker.read("again")

    assert asyncio.run(run()) == "again", "two reads have failed, and not six"
    assert asked == [1, 5, 1]


def test_the_failures_of_reads_are_logged_once_by_the_breaker_alone(caplog):
    def fail():
        raise ConnectionError("away")

    async def run():
        breaker = breaker_of(BUDGET)
        return [await breaker.read(fail) for _ in range(FAILURES)]

    assert asyncio.run(run()) == [None] * FAILURES
    gc.collect()
    assert [(one.name, one.message) for one in caplog.records] == [
        ("serving.lookup.store_breaker", "store: failed (away); asked once a second from now on")
    ]


def test_a_read_that_fails_after_it_was_given_up_is_not_reported(caplog):
    def fail():
        time.sleep(1.5 * BUDGET)
        raise ConnectionError("away")

    async def run():
        breaker = breaker_of(BUDGET)
        assert await breaker.read(fail) is None
        await asyncio.sleep(BUDGET)
        assert await breaker.read(lambda: "rows") == "rows"

    asyncio.run(run())
    gc.collect()
    assert caplog.records == []


def test_a_small_read_is_not_held_up_by_a_large_one():
    begun = threading.Event()

    def read(works):
        if "large" in works:
            begun.set()
            time.sleep(0.6 * BUDGET)
        return works

    async def run():
        breaker = StoreCircuitBreaker(BUDGET, read, model="m")
        large = asyncio.create_task(breaker.read("large", num_rows=SMALL_ROWS + 1))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        small = await breaker.read("small", num_rows=1)
        return small, large.done(), await large

    assert asyncio.run(run()) == ("small", False, "large")


def test_behind_slow_reads_one_waits_its_budget_and_no_more(monkeypatch):
    """Each is within its budget, but six of them one after the other are not."""
    monkeypatch.setattr(store_breaker, "MAX_ROWS", 1)

    async def run():
        breaker = breaker_of(BUDGET)
        started = time.monotonic()
        slow = [breaker.read(lambda: time.sleep(0.8 * BUDGET) or "rows") for _ in range(6)]
        found = await asyncio.gather(*slow)
        return found, time.monotonic() - started

    found, taken = asyncio.run(run())
    assert found == ["rows", "rows", None, None, None, None]
    assert taken < 3 * BUDGET


def prepared(work, prepare=list):
    """A breaker, and jobs that read and then work, which ``answer`` waits for."""
    breaker = breaker_of(BUDGET)
    lane = MicroBatcher(work, name="t", max_rows=9, num_threads=1, sizes=SIZES, prepare=prepare)
    return breaker, lambda job: breaker.answer(lane.submit(job), lane)


def test_what_follows_a_read_has_no_budget_and_its_failure_is_not_the_stores():
    def work(jobs):
        time.sleep(2 * BUDGET)
        return [ArithmeticError("ours") if job == "bad" else job for job in jobs]

    async def run():
        breaker, answer = prepared(work)
        for _ in range(FAILURES):
            with pytest.raises(ArithmeticError, match="ours"):
                await answer("bad")
        assert breaker.may_ask()
        return await answer("good")

    assert asyncio.run(run()) == "good"


def test_a_read_that_is_late_or_fails_is_followed_by_nothing(caplog):
    worked, may_go = [], threading.Event()

    def prepare(jobs):
        if jobs == ["fails"]:
            raise ConnectionError("away")
        assert may_go.wait(10)
        return jobs

    def work(jobs):
        worked.extend(jobs)
        return jobs

    async def run():
        breaker, answer = prepared(work, prepare)
        found = [await answer("fails") for _ in range(FAILURES - 1)]
        found.append(await answer("late"))
        may_go.set()
        assert [breaker.may_ask() for _ in range(2)] == [True, False]
        return [*found, await answer("last")]

    assert asyncio.run(run()) == [*[None] * FAILURES, "last"]
    assert worked == ["last"]
