"""A canary's way: ready without traffic, then more of it step by step, or back at once."""

import dataclasses
import logging
import time

from tqdm import tqdm

from features.cli import FailedError
from serving.release.analysis import (
    EARLY_LOOKS,
    LATE_LOOKS,
    P95,
    Finding,
    Limits,
    State,
    judge,
    plain,
)
from serving.release.canary_target import (
    CanaryTarget,
    CanaryTargetError,
    Outcome,
    Reading,
    TargetLostError,
)
from serving.release.metrics_window import Observation, observe

STEPS = (5, 25, 50, 95)
"""Percent of the traffic at which the canary is judged; the rest is the control's, so that there is
one of the same moments at each of them."""
FIRST, LAST = 0, 100
"""Percent at which it must be ready, and that it gets once it has passed every step."""
ROLL_BACK_SECONDS = 300.0
"""For how long a rollback is tried again: a server or a webhook that restarts takes minutes."""
_LONGEST_PAUSE_SECONDS = 10.0
_HOPELESS = 0.25
"""Of the requests that a step needs: fewer than these in its whole time are no traffic."""
_MAX_LOOK = EARLY_LOOKS + LATE_LOOKS

logger = logging.getLogger(__name__)


class CanaryError(FailedError):
    """The canary did not hold; the text says why, and where the traffic is."""


class _StepError(ValueError):
    """A step that was not passed, and which way."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Seen:
    """The newest look at a step."""

    canary: Observation
    control: Observation
    look: int = -1
    findings: tuple[Finding, ...] = ()
    is_late: bool = False

    @property
    def num_requests(self) -> int:
        """Of the version that has fewer."""
        return min(self.canary.num_requests, self.control.num_requests)

    @property
    def outcome(self) -> Outcome | None:
        """What the step has come to; None while it goes on."""
        states = {finding.state for finding in self.findings}
        if State.BROKEN in states:
            return Outcome.BROKEN
        if states == {State.KEPT}:
            return Outcome.PASSED
        if self.look >= _MAX_LOOK or (self.is_late and self.look >= EARLY_LOOKS):
            return Outcome.UNDECIDED
        return Outcome.NO_TRAFFIC if self.is_late else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Canary:
    """One version's try.

    Args:
        target: The version, and where it is tried.
        limits: What it must keep.
    """

    target: CanaryTarget
    limits: Limits

    def run(self) -> dict[str, object]:
        """Take every step; returns what was seen at each, and the ``verdict``.

        No traffic is no failure where the target allows it: the canary goes back, the verdict is
        ``no traffic``, and the caller of the next step knows that nothing was seen.

        Raises:
            CanaryError: A check failed, or the canary was not ready in time; it has no traffic, or
                the text says why that is not known.
            ValueError: No canary of this version can begin here; nothing has changed.
        """
        control = self.target.begin()
        seen: list[dict[str, object]] = []
        summary: dict[str, object] = {"version": self.target.version, "control": control}
        summary["steps"] = seen
        try:
            self._shift(FIRST)
            for percent in STEPS:
                self._shift(percent)
                self._check(percent, seen=seen)
            self._shift(LAST)
            self.target.conclude(Outcome.PASSED)
        except BaseException as error:
            # Whatever ends the try, Ctrl-C included, must not leave the canary with traffic.
            outcome = error.outcome if isinstance(error, _StepError) else None
            try:
                left = self._roll_back()
            finally:
                if outcome is not None:
                    self.target.conclude(outcome, str(error))
            if not isinstance(error, ValueError | OSError | KeyboardInterrupt):
                raise
            summary |= {"verdict": outcome and outcome.value, "rolled_back": not left}
            reason = str(error) or "stopped by a signal"
            # Traffic that ends after a step that had enough of it is another matter: the canary may
            # be what ended it.
            is_quiet = self.target.quiet_seconds is not None and len(seen) == 1
            if outcome is Outcome.NO_TRAFFIC and is_quiet and not left:
                return {**summary, "note": f"{reason}; the gate alone decides"}
            after = left or f"all traffic is at {control} again"
            raise CanaryError(f"{reason}; {after}", summary) from error
        return {**summary, "verdict": Outcome.PASSED.value}

    def _shift(self, percent: int) -> None:
        logger.info("%s: %d %% of the traffic", self.target.version, percent)
        self.target.shift(percent, timeout_seconds=self.limits.ready_timeout_seconds)

    def _check(self, percent: int, *, seen: list[dict[str, object]]) -> None:
        """Watch one step until it has come to something; only what it passes returns."""
        last = self._watch(percent)
        step = {
            "percent": percent,
            **_summary(last.canary, last.control),
            "checks": [finding.to_dict() for finding in last.findings],
        }
        seen.append(step)
        logger.info("%s: %s", self.target.version, step)
        outcome = last.outcome
        if outcome is not Outcome.PASSED:
            reason = f"{self.target.version} at {percent} %: {_reason(last, self.limits)}"
            raise _StepError(outcome or Outcome.UNDECIDED, reason)

    def _watch(self, percent: int) -> _Seen:
        """Canary and control of the same moments, until they have come to something."""
        started = time.monotonic()
        first = self._read(started)
        seen: _Seen | None = None
        with tqdm(total=self.limits.min_requests, desc=f"{percent} %", unit="request") as bar:
            while True:
                time.sleep(self.target.pause_seconds)
                last = self._read(started)
                seconds = time.monotonic() - started
                canary, control = (observe(a, b) for a, b in zip(first, last, strict=True))
                is_late = self._is_over(percent, canary, control, seconds=seconds)
                seen = self._look(seen, canary, control, is_late=is_late)
                bar.update(min(seen.num_requests, self.limits.min_requests) - bar.n)
                if seen.outcome is not None:
                    return seen

    def _read(self, started: float) -> tuple[Reading, Reading]:
        """What both have done until now.

        One reading that fails, of a pod that just ended, is no reason to go back.
        """
        while True:
            try:
                return self.target.read()
            except TargetLostError:
                raise
            except CanaryTargetError as error:
                if time.monotonic() - started > self.limits.step_timeout_seconds:
                    raise
                logger.warning("%s; reading again", error)
                time.sleep(self.target.pause_seconds)

    def _look(
        self, before: _Seen | None, canary: Observation, control: Observation, *, is_late: bool
    ) -> _Seen:
        """Judge, where a look is due: at twice the requests of the last one, and when time is up.

        Few requests cannot show that a canary holds; but if all of them fail, that it does not.
        """
        look, findings = (before.look, before.findings) if before else (-1, ())
        num_requests = min(canary.num_requests, control.num_requests)
        due = look
        while due < _MAX_LOOK and num_requests >= self.limits.requests_of(due + 1):
            due += 1
        if due == look and is_late and look + 1 < EARLY_LOOKS:
            due += 1
        if due > look:
            findings = tuple(judge(canary, control, limits=self.limits, look=due))
        return _Seen(canary=canary, control=control, look=due, findings=findings, is_late=is_late)

    def _is_over(
        self, percent: int, canary: Observation, control: Observation, *, seconds: float
    ) -> bool:
        """Whether the step's time is up, or far too little comes where that may be so."""
        most = self.limits.step_timeout_seconds
        quiet = self.target.quiet_seconds
        if quiet is None or seconds < quiet:
            return seconds > most
        # By the share and not by what the smaller side has had: that is chance at first.
        share = min(percent, LAST - percent) / LAST
        expected = (canary.num_requests + control.num_requests) * share * most / seconds
        return seconds > most or expected < _HOPELESS * self.limits.min_requests

    def _roll_back(self) -> str:
        """Take the traffic back; empty when all of it is the control's, else why it may not be."""
        deadline = time.monotonic() + ROLL_BACK_SECONDS
        pause = self.target.pause_seconds
        while True:
            try:
                self.target.roll_back()
            except TargetLostError as error:
                return str(error)
            except CanaryTargetError as error:
                if time.monotonic() + pause > deadline:
                    return (
                        f"{self.target.version}: could not be rolled back in "
                        f"{ROLL_BACK_SECONDS:g} s: {error}; run `python -m serving rollback`"
                    )
                logger.warning("roll back: %s; trying again", error)
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                logger.error("rolled back: %s has no traffic", self.target.version)
                return ""


def _reason(seen: _Seen, limits: Limits) -> str:
    """Why a step was not passed."""
    if seen.outcome is Outcome.NO_TRAFFIC:
        return (
            f"no traffic: {seen.canary.num_requests} requests of the canary and "
            f"{seen.control.num_requests} of the control; at least {limits.min_requests} of each"
        )
    wrong = State.BROKEN if seen.outcome is Outcome.BROKEN else State.OPEN
    found = "; ".join(str(finding) for finding in seen.findings if finding.state is wrong)
    undecided = "" if wrong is State.BROKEN else f"not shown in {seen.num_requests} requests: "
    return undecided + found


def _summary(canary: Observation, control: Observation) -> dict[str, object]:
    """What a step's line in the summary has."""
    return {
        name: {
            "requests": seen.num_requests,
            "failed": seen.num_failed,
            "degraded": seen.num_degraded,
            "p95_seconds": plain(seen.seconds.quantile(P95)),
            "pairs": None if seen.pairs is None else int(sum(seen.pairs.score_ratios.counts)),
        }
        for name, seen in (("canary", canary), ("control", control))
    }
