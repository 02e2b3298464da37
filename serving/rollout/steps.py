"""A canary's way: ready without traffic, then more of it step by step, or back at once."""

import dataclasses
import logging
import time
from typing import Any

from tqdm import tqdm

from features.door import FailedError
from serving.rollout.observation import Observation, observe
from serving.rollout.place import Place, PlaceError
from serving.rollout.verdict import Limits, fails_early, objections

STEPS = (0, 5, 25, 50, 100)
"""Percent of the traffic. The last one takes its control from the step before."""
ROLL_BACK_ATTEMPTS = 5

logger = logging.getLogger(__name__)


class CanaryError(FailedError):
    """The canary did not hold; the traffic is back where it was."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Canary:
    """One version's try.

    Args:
        place: The version, and where it is tried.
        limits: What it must keep.
    """

    place: Place
    limits: Limits

    def run(self) -> dict[str, Any]:
        """Take every step; returns what was seen at each.

        Raises:
            CanaryError: A check failed, or the canary was not ready in time; it has no traffic.
            PlaceError: The first step was refused; nothing has changed.
        """
        control = self.place.begin()
        version = self.place.version
        self.place.ask(STEPS[0])
        seen: list[dict[str, Any]] = []
        before: Observation | None = None
        try:
            for percent in STEPS:
                self._shift(percent)
                if percent:
                    before = self._check(percent, control=control, before=before, seen=seen)
        except BaseException as error:
            # Whatever ends the try, Ctrl-C included, must not leave the canary with traffic.
            self._roll_back()
            summary = {"version": version, "steps": seen, "rolled_back": True}
            if not isinstance(error, ValueError | OSError | KeyboardInterrupt):
                raise
            reason = str(error) or "stopped by a signal"
            raise CanaryError(f"{reason}; all traffic is at {control} again", summary) from error
        return {"version": version, "control": control, "steps": seen}

    def _shift(self, percent: int) -> None:
        logger.info("%s: %d %% of the traffic", self.place.version, percent)
        self.place.wait(
            self.place.ask(percent),
            percent=percent,
            timeout_seconds=self.limits.ready_timeout_seconds,
        )

    def _check(
        self,
        percent: int,
        *,
        control: str,
        before: Observation | None,
        seen: list[dict[str, Any]],
    ) -> Observation | None:
        """Watch one step; returns the control as it was at it, for the step after."""
        # At the last step the control has no traffic left.
        past = before if percent == STEPS[-1] else None
        canary, beside = self._watch(percent, control=past)
        found = objections(canary, control=beside, limits=self.limits)
        told = {"percent": percent, **_told(canary, beside), "objections": found}
        seen.append(told)
        logger.info("%s: %s", self.place.version, told)
        if found:
            raise CanaryError(f"{self.place.version} at {percent} %: {'; '.join(found)}")
        return beside

    def _watch(
        self, percent: int, *, control: Observation | None
    ) -> tuple[Observation, Observation]:
        """Canary and control until both have enough requests, the canary fails, or time is up."""
        limits = self.limits
        deadline = time.monotonic() + limits.step_timeout_seconds
        first = self.place.read()
        with tqdm(total=limits.min_requests, desc=f"{percent} %", unit="request") as bar:
            while True:
                time.sleep(self.place.pause_seconds)
                is_late = time.monotonic() > deadline
                try:
                    last = self.place.read()
                except PlaceError as error:
                    # One reading that fails, of a pod that just ended, is no reason to go back.
                    if is_late:
                        raise
                    logger.warning("%s; reading again", error)
                    continue
                canary, beside = (observe(a, b) for a, b in zip(first, last, strict=True))
                beside = control or beside
                enough = min(canary.num_requests, beside.num_requests)
                bar.update(min(enough, limits.min_requests) - bar.n)
                if enough >= limits.min_requests or is_late:
                    return canary, beside
                if fails_early(canary, control=beside, limits=limits):
                    return canary, beside

    def _roll_back(self) -> None:
        for attempt in range(1, ROLL_BACK_ATTEMPTS + 1):
            try:
                self.place.roll_back()
            except PlaceError as error:
                logger.warning("roll back, attempt %d: %s", attempt, error)
                time.sleep(self.place.pause_seconds * attempt)
            else:
                logger.error("rolled back: %s has no traffic", self.place.version)
                return
        raise CanaryError(
            f"{self.place.version}: could not be rolled back in {ROLL_BACK_ATTEMPTS} attempts; "
            "run `python -m serving rollback`"
        )


def _told(canary: Observation, control: Observation) -> dict[str, Any]:
    """What a step's line in the summary has."""
    return {
        name: {
            "requests": seen.num_requests,
            "error_rate": round(seen.error_rate, 5),
            "p95_seconds": seen.seconds.quantile(0.95),
        }
        for name, seen in (("canary", canary), ("control", control))
    }
