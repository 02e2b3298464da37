"""Requests that are scored together: who waits, who does not, and who pays for whom."""

import asyncio
import dataclasses
import threading
import time

import numpy as np
import pytest

from serving.micro_batcher import MicroBatcher

FOREVER = 1e12


@dataclasses.dataclass(frozen=True)
class Job:
    """As a real one, it has arrays in it: two of them cannot be compared."""

    inputs: np.ndarray = dataclasses.field(default_factory=lambda: np.arange(3), kw_only=True)
    name: str
    num_rows: int = 1
    group: object = "a"
    deadline: float = FOREVER


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
    scoring = {"name": "test", "num_threads": 1, "max_rows": 100, **scoring}
    batches = MicroBatcher(recorder, too_late=lambda job: TimeoutError(job.name), **scoring)

    async def run():
        first = batches.submit(Job("first"))
        while not recorder.batches:
            await asyncio.sleep(0.001)
        others = [batches.submit(job) for job in jobs]
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


def test_a_request_whose_time_is_up_is_not_scored():
    recorder = Recorder()
    soon = time.monotonic() + 0.05
    jobs = [Job("late", deadline=soon), Job("c"), Job("late too", deadline=soon), Job("d")]
    answers = together(jobs, recorder=recorder, before_release=lambda: time.sleep(0.1))
    assert recorder.batches == [["first"], ["c", "d"]]
    assert [type(answers[place]) for place in (1, 3)] == [TimeoutError] * 2
    assert (answers[2], answers[4]) == ("C", "D")


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


def test_an_answer_is_given_before_the_next_is_asked_for():
    may_go_on = threading.Event()

    def work(jobs):
        for job in jobs:
            yield job.name
            assert may_go_on.wait(10)

    batches = MicroBatcher(
        work, name="test", max_rows=9, num_threads=1, too_late=lambda job: TimeoutError()
    )

    async def run():
        first, second = batches.submit(Job("a")), batches.submit(Job("b"))
        found = [await first, second.done()]
        may_go_on.set()
        return [*found, await second]

    assert asyncio.run(run()) == ["a", False, "b"]


def test_a_batch_that_must_not_be_tried_again_fails_those_without_an_answer():
    tried = []

    def work(jobs):
        tried.append(len(jobs))
        yield "there"
        raise ArithmeticError("then it broke")

    batches = MicroBatcher(
        work,
        name="test",
        max_rows=9,
        num_threads=1,
        too_late=lambda job: TimeoutError(),
        again_alone=False,
    )

    async def run():
        with batches._changed:  # both wait before one is taken
            both = [batches.submit(Job("a")), batches.submit(Job("b"))]
        return await asyncio.gather(*both, return_exceptions=True)

    answers = asyncio.run(run())
    assert answers[0] == "there"
    assert isinstance(answers[1], ArithmeticError)
    assert tried == [2]


def test_a_thread_goes_on_after_work_that_gives_too_few_answers():
    batches = MicroBatcher(
        lambda jobs: [] if jobs[0].name == "bad" else ["fine"],
        name="test",
        max_rows=1,
        num_threads=1,
    )

    async def run():
        both = [batches.submit(Job("bad")), batches.submit(Job("good"))]
        return await asyncio.wait_for(asyncio.gather(*both, return_exceptions=True), 10)

    answers = asyncio.run(run())
    assert isinstance(answers[0], ValueError)
    assert answers[1] == "fine"


def test_one_that_was_given_up_is_not_begun():
    recorder = Recorder()
    batches = MicroBatcher(
        recorder, name="test", max_rows=1, num_threads=1, too_late=lambda job: TimeoutError()
    )

    async def run():
        first = batches.submit(Job("first"))
        while not recorder.batches:
            await asyncio.sleep(0.001)
        given_up, last = batches.submit(Job("given up")), batches.submit(Job("last"))
        given_up.cancel()
        recorder.may_go.set()
        await asyncio.gather(first, last)

    asyncio.run(run())
    assert recorder.batches == [["first"], ["last"]]


def test_a_request_never_waits_while_a_thread_more_may_start():
    """The one idle thread is woken for the first; until it runs it must not count for two."""
    busy, both = threading.Event(), threading.Barrier(2, timeout=5)

    def work(jobs):
        if jobs[0].group == "warm":
            return ["warm"]
        both.wait()  # passes only when two are worked on at one time
        return [busy.set() or "done" for _ in jobs]

    batches = MicroBatcher(work, name="test", max_rows=1, num_threads=2)

    async def run():
        await batches.submit(Job("warm", group="warm"))
        while not batches._num_idle:
            await asyncio.sleep(0.001)
        with batches._changed:  # the idle thread cannot run before both are there
            waiting = [batches.submit(Job("a")), batches.submit(Job("b", group="b"))]
        return await asyncio.gather(*waiting)

    assert asyncio.run(run()) == ["done", "done"]


def test_a_thread_that_cannot_be_started_is_logged_and_not_counted(monkeypatch):
    batches = MicroBatcher(
        lambda jobs: ["done"] * len(jobs), name="test", max_rows=1, num_threads=1
    )

    def no_more(thread):
        raise RuntimeError("can't start new thread")

    async def run():
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_more)
            with pytest.raises(RuntimeError):
                batches.submit(Job("a"))
        return await asyncio.wait_for(batches.submit(Job("b", group="b")), 5)

    assert asyncio.run(run()) == "done"
