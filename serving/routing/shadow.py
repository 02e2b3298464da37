"""A challenger that scores copies of requests that another version has answered.

The answer is made before the copy is taken, so nothing here can change it. Copies wait in a bounded
queue for one thread of low priority; what does not fit is dropped and counted. A challenger that is
slow fills the queue, one that fails is counted, one that hangs is given up with its thread, and all
leave the callers alone.
"""

import collections
import contextlib
import dataclasses
import functools
import logging
import os
import threading
import time
from collections.abc import Callable

import numpy as np

from serving.observability import metrics, request_metrics
from serving.observability.answered import Answered, Arm
from serving.observability.prediction_log import RequestLog
from serving.observability.sampling import Inclusion
from serving.routing.serving_versions import Champion, Scores, WeightedModel
from training.registry.aliases import SHADOW

MAX_WAITING_REQUESTS = 64
MAX_WAITING_CANDIDATES = 20_000
NICENESS = 10
"""Of the thread, from 0 to 19: it gets the processor where the ranking threads leave it."""
STOP_SECONDS = 5.0
HANG_SECONDS = 30.0
"""A challenger that takes longer for one request is given up: none would wait so long for it."""
HIGHEST_RATIO = 2.0
_ALL = 100

logger = logging.getLogger(__name__)


OnScored = Callable[[WeightedModel, Answered, Scores], None]
"""Takes the model that scored, the answer, and the scores in its order."""


class Shadow:
    """The queue and its thread."""

    def __init__(
        self,
        log: RequestLog,
        *,
        name: str = SHADOW,
        copies: metrics.Copies = metrics.SHADOW_COPIES,
        on_scored: OnScored | None = None,
    ) -> None:
        """A queue that is not read yet.

        Args:
            log: The log of answers, which gets the challenger's scores too.
            name: Of the thread.
            copies: What counts the requests here.
            on_scored: Takes the scores, instead of comparing and logging a challenger's.
        """
        self._log = log
        self._model = log.model
        self._copies = copies
        self._on_scored = on_scored or self._compare_and_log
        self._changed = threading.Condition()
        self._waiting: collections.deque[tuple[WeightedModel, Answered]] = collections.deque()
        self._num_candidates = 0
        self._is_stopping = False
        self._has_failed: set[str] = set()
        self._begun: tuple[Champion, float] | None = None
        """The model that scores now, and since which moment of ``time.monotonic``."""
        self._given_up: Champion | None = None
        self._name = name
        self._thread = self._new_thread()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._score_on, name=self._name, daemon=True)

    def stop(self) -> None:
        """Drop what waits and end the thread; one that scores just now ends with the process."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def forget(self) -> None:
        """Drop what waits: it was for a challenger that is gone."""
        with self._changed:
            self._drop()
            self._given_up = None
            self._copies.hung.labels(self._model).set(0)

    def _drop(self) -> None:
        self._copies.requests.labels(self._model, "dropped").inc(len(self._waiting))
        self._waiting.clear()
        self._num_candidates = 0
        self._copies.waiting.labels(self._model).set(0)

    def offer(self, challenger: WeightedModel | None, answered: Answered) -> bool:
        """Take a copy of a request or leave it; returns at once, and whether it was taken.

        Args:
            challenger: The challenger and its share of the requests, if there is one.
            answered: The request and its answer.
        """
        # By the answer and not by the user: none is looked at twice as much. And those that are
        # logged anyway come first.
        if challenger is None or answered.draw * _ALL >= challenger.share.percent:
            return False
        with self._changed:
            self._give_up_what_hangs(challenger.model)
            is_gone = self._is_stopping or challenger.model is self._given_up
            is_taken = not is_gone and self._has_room(len(answered.scores))
            if is_taken:
                self._waiting.append((challenger, answered.copied()))
                self._num_candidates += len(answered.scores)
                self._copies.waiting.labels(self._model).set(len(self._waiting))
                self._changed.notify()
        if not is_taken:
            self._copies.requests.labels(self._model, "dropped").inc()
        return is_taken

    def _give_up_what_hangs(self, now: Champion) -> None:
        """A thread cannot be stopped: it is left alone with its challenger, and another begins.

        There may be another challenger now: it has done nothing, and what waits is its own.
        """
        if self._begun is None or time.monotonic() - self._begun[1] < HANG_SECONDS:
            return
        hung, self._begun = self._begun[0], None
        self._copies.requests.labels(self._model, "hung").inc()
        logger.error(
            "%s: %s has not scored a request within %g seconds; it gets no more of them",
            *(self._name, hung.version, HANG_SECONDS),
        )
        if hung is now:
            self._given_up = hung
            self._copies.hung.labels(self._model).set(1)
            self._drop()
        self._thread = self._new_thread()
        self._thread.start()

    def _has_room(self, size: int) -> bool:
        is_short = len(self._waiting) < MAX_WAITING_REQUESTS
        return is_short and self._num_candidates + size <= MAX_WAITING_CANDIDATES

    def _score_on(self) -> None:
        with contextlib.suppress(OSError):
            # On Linux the niceness is the thread's; elsewhere it would be the whole process's.
            if os.uname().sysname == "Linux":
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while True:
            with self._changed:
                if threading.current_thread() is not self._thread:
                    return
                self._begun = None
                self._changed.wait_for(lambda: self._waiting or self._is_stopping)
                if self._is_stopping:
                    return
                weighted, answered = self._waiting.popleft()
                self._begun = weighted.model, time.monotonic()
                self._num_candidates -= len(answered.scores)
                self._copies.waiting.labels(self._model).set(len(self._waiting))
            self._score(weighted, answered)

    def _score(self, weighted: WeightedModel, answered: Answered) -> None:
        model = weighted.model
        try:
            with self._copies.seconds.labels(self._model).time():
                scores = np.asarray(model.score(answered.candidates.inputs), dtype=np.float32)
            _check(scores, size=len(answered.scores))
        except Exception:
            if threading.current_thread() is not self._thread:
                return
            # A challenger may fail in any way; the server ranks on, and a metric counts that.
            self._copies.requests.labels(self._model, "failed").inc()
            if model.version not in self._has_failed:
                self._has_failed.add(model.version)
                logger.exception("%s: %s failed; logged once", self._name, model.version)
            return
        if threading.current_thread() is not self._thread:
            return
        self._on_scored(weighted, answered, scores)
        self._copies.requests.labels(self._model, "scored").inc()

    def _compare_and_log(self, weighted: WeightedModel, answered: Answered, scores: Scores) -> None:
        metrics.SHADOW_DIFFERENCE.labels(self._model).observe(
            float(np.abs(scores - answered.scores).mean())
        )
        correlation = rank_correlation(scores, answered.scores)
        if correlation is not None:
            metrics.SHADOW_CORRELATION.labels(self._model).observe(correlation)
        percent, salt = weighted.share.percent, weighted.share.salt
        scored = dataclasses.replace(
            answered,
            model_version=weighted.model.version,
            scores=scores,
            role=SHADOW,
            arm=Arm(SHADOW, percent, salt),
            inclusion=Inclusion(SHADOW, percent / _ALL),
        )
        self._log.offer(scored)


def rank_correlation(one: Scores, other: Scores) -> float | None:
    """Spearman's, with mean ranks for equal scores; None where one side has a single rank."""
    # Half a second of import, which a server without a shadow does not need.
    from scipy.stats import rankdata

    first, second = (rankdata(scores) for scores in (one, other))
    if len(one) < 2 or not first.std() or not second.std():
        return None
    return float(np.corrcoef(first, second)[0, 1])


def open_pairs(log: RequestLog) -> Shadow:
    """A canary's answers, scored by the champion too: the same requests, at the same moments.

    What each version's own figures cannot show is seen here: scores that are permuted among
    the candidates of a request keep every mean and every histogram. And a share has few users; who
    they are does not matter where both versions have scored the very same requests.

    It has a thread of its own: one that hangs leaves the shadow be.
    """
    count = functools.partial(_count_pair, log.model)
    return Shadow(log, name="pairs", copies=metrics.PAIR_COPIES, on_scored=count)


def score_ratio(scores: Scores, control: Scores) -> float:
    """Mean score over the control's, at most ``HIGHEST_RATIO``, which an all-zero control gives."""
    highest = float(control.mean()) * HIGHEST_RATIO
    mean = float(scores.mean())
    return HIGHEST_RATIO if mean >= highest else mean / float(control.mean())


def rank_distance(scores: Scores, control: Scores) -> float | None:
    """1 minus the rank correlation; None where the control has no order; 1 where only it has."""
    if len(control) < 2 or control.min() == control.max():
        return None
    correlation = rank_correlation(scores, control)
    return 1.0 if correlation is None else 1.0 - correlation


def _count_pair(model: str, _: WeightedModel, answered: Answered, scores: Scores) -> None:
    request_metrics.paired(
        model,
        answered.model_version,
        score_ratio=score_ratio(answered.scores, scores),
        rank_distance=rank_distance(answered.scores, scores),
    )


def _check(scores: Scores, *, size: int) -> None:
    if scores.shape != (size,) or not np.isfinite(scores).all():
        raise ValueError(f"scores: {scores[:3]} of shape {scores.shape}; {size} finite numbers")
