"""Requests that are scored together: who waits, who does not, and who pays for whom."""

import asyncio
import dataclasses
import threading
import time
import weakref

import numpy as np
import pytest
from prometheus_client import Histogram

from serving.micro_batcher import MicroBatcher

SIZES = Histogram("sizes", "Of batches.", registry=None)


@dataclasses.dataclass(frozen=True)
class Job:
    """As a real one, it has arrays in it: two of them cannot be compared."""

    inputs: np.ndarray = dataclasses.field(default_factory=lambda: np.arange(3), kw_only=True)
    name: str
    num_rows: int = 1
    group: object = "a"


def batcher(work, **options):
    options = {"name": "test", "num_threads": 1, "max_rows": 9, "sizes": SIZES, **options}
    return MicroBatcher(work, **options)


def submit(batches, job):
    """The answer, for the event loop, and what a thread makes of it."""
    made = batches.submit(job, num_rows=job.num_rows, group=job.group)
    return asyncio.wrap_future(made)


class Recorder:
    """Scores when it may, and keeps what came together."""

    def __init__(self):
        self.batches = []
        self.may_go = threading.Event()

    def __call__(self, jobs):
        self.batches.append([job.name for job in jobs])
        assert self.may_go.wait(10)
        if any(job.name == "bad" for job in jobs):
            raise ArithmeticError("bad")
        return [job.name.upper() for job in jobs]


def together(jobs, *, recorder, before_release=lambda: None, **scoring):
    """Send a first request, and the others while it is being scored; what each one got."""
    batches = batcher(recorder, **{"max_rows": 100, **scoring})

    async def run():
        first = submit(batches, Job("first"))
        while not recorder.batches:
            await asyncio.sleep(0.001)
        others = [submit(batches, job) for job in jobs]
        await asyncio.sleep(0.01)
        before_release()
        recorder.may_go.set()
        return await asyncio.gather(first, *others, return_exceptions=True)

    return asyncio.run(run())


def test_the_first_starts_at_once_and_those_that_wait_meanwhile_are_scored_together():
    recorder = Recorder()
    answers = together([Job("b"), Job("c"), Job("d")], recorder=recorder)
    assert recorder.batches == [["first"], ["b", "c", "d"]]
    assert answers == ["FIRST", "B", "C", "D"]


def test_a_batch_has_no_more_rows_than_the_bound_except_for_one_large_request():
    recorder = Recorder()
    jobs = [Job("b", 60), Job("c", 40), Job("d", 1), Job("e", 500), Job("f", 1)]
    together(jobs, recorder=recorder)
    assert recorder.batches == [["first"], ["b", "c"], ["d"], ["e"], ["f"]]


def test_requests_of_two_versions_are_never_scored_together_and_keep_their_order():
    recorder = Recorder()
    old, new = object(), object()
    jobs = [Job("b", group=old), Job("c", group=old), Job("d", group=new), Job("e", group=old)]
    together(jobs, recorder=recorder)
    assert recorder.batches == [["first"], ["b", "c"], ["d"], ["e"]]


def test_one_that_fails_does_not_fail_the_others():
    answers = together([Job("b"), Job("bad"), Job("d")], recorder=Recorder())
    assert answers[1] == "B"
    assert isinstance(answers[2], ArithmeticError)
    assert answers[3] == "D"


def test_as_many_batches_at_one_time_as_there_are_workers():
    recorder = Recorder()
    started = []
    together(
        [Job("b", 100), Job("c")],
        recorder=recorder,
        num_threads=2,
        before_release=lambda: started.extend(recorder.batches),
    )
    assert started == [["first"], ["b"]]
    assert recorder.batches[2:] == [["c"]]


def test_a_batch_that_must_not_be_tried_again_fails_for_all_of_them():
    tried = []

    def work(jobs):
        tried.append(len(jobs))
        raise ArithmeticError("it broke")

    batches = batcher(work, again_alone=False)

    async def run():
        with batches._changed:  # both wait before one is taken
            both = [submit(batches, Job("a")), submit(batches, Job("b"))]
        return await asyncio.gather(*both, return_exceptions=True)

    answers = asyncio.run(run())
    assert [type(answer) for answer in answers] == [ArithmeticError] * 2
    assert tried == [2]


def test_a_thread_goes_on_after_work_that_gives_too_few_answers():
    batches = batcher(lambda jobs: [] if jobs[0].name == "bad" else ["fine"], max_rows=1)

    async def run():
        both = [submit(batches, Job("bad")), submit(batches, Job("good"))]
        return await asyncio.wait_for(asyncio.gather(*both, return_exceptions=True), 10)

    answers = asyncio.run(run())
    assert isinstance(answers[0], ValueError)
    assert answers[1] == "fine"


def test_one_that_was_given_up_is_not_begun():
    recorder = Recorder()
    batches = batcher(recorder, max_rows=1)

    async def run():
        first = submit(batches, Job("first"))
        while not recorder.batches:
            await asyncio.sleep(0.001)
        given_up, last = batches.submit(Job("given up")), submit(batches, Job("last"))
        assert given_up.cancel()
        recorder.may_go.set()
        await asyncio.gather(first, last)

    asyncio.run(run())
    assert recorder.batches == [["first"], ["last"]]


def test_what_was_given_up_leaves_the_queue_while_all_threads_hang():
    recorder = Recorder()
    batches = batcher(recorder)

    async def run():
        first = submit(batches, Job("first"))
        while not recorder.batches:
            await asyncio.sleep(0.001)
        given_up = [batches.submit(Job("given up")) for _ in range(3)]
        waiting = [len(batches._waiting)]
        assert all(one.cancel() for one in given_up)
        waiting.append(len(batches._waiting))
        recorder.may_go.set()
        await first
        return waiting

    assert asyncio.run(run()) == [3, 0]


def test_the_time_that_a_thread_works_counts_while_it_does():
    may_go = threading.Event()
    batches = batcher(lambda jobs: [may_go.wait(10)])

    async def run():
        job = submit(batches, Job("a"))
        await asyncio.sleep(0.05)
        during = batches.seconds_busy
        may_go.set()
        await job
        await asyncio.sleep(0.05)
        return during, batches.seconds_busy, batches.seconds_busy

    during, *after = asyncio.run(run())
    assert 0.03 < during < after[0]
    assert after[0] == after[1]


def test_a_request_never_waits_while_a_thread_more_may_start():
    """The one idle thread is woken for the first; until it runs it must not count for two."""
    busy, both = threading.Event(), threading.Barrier(2, timeout=5)

    def work(jobs):
        if jobs[0].group == "warm":
            return ["warm"]
        both.wait()  # passes only when two are worked on at one time
        return [busy.set() or "done" for _ in jobs]

    batches = batcher(work, max_rows=1, num_threads=2)

    async def run():
        await submit(batches, Job("warm", group="warm"))
        while not batches._num_idle:
            await asyncio.sleep(0.001)
        with batches._changed:  # the idle thread cannot run before both are there
            waiting = [submit(batches, Job("a")), submit(batches, Job("b", group="b"))]
        return await asyncio.gather(*waiting)

    assert asyncio.run(run()) == ["done", "done"]


def test_a_thread_that_cannot_be_started_is_logged_and_not_counted(monkeypatch):
    batches = batcher(lambda jobs: ["done"] * len(jobs), max_rows=1)

    def no_more(thread):
        raise RuntimeError("can't start new thread")

    async def run():
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_more)
            with pytest.raises(RuntimeError):
                submit(batches, Job("a"))
        return await asyncio.wait_for(submit(batches, Job("b", group="b")), 5)

    assert asyncio.run(run()) == "done"


def test_an_idle_thread_keeps_nothing_of_what_it_has_done():
    class Rows:
        pass

    def read_once():
        rows = Rows()
        assert batches.submit(rows).result(5) is rows
        return weakref.ref(rows)

    batches = batcher(list)
    kept, deadline = read_once(), time.monotonic() + 5
    while kept() is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
