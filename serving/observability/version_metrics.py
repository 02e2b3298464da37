"""The series of the loaded model versions: which exist, and which version has which role."""

import contextlib
from collections.abc import Mapping

from serving.observability.metrics import (
    ANSWERS,
    PAIR_RANK_DISTANCE,
    PAIR_SCORE_RATIO,
    SHARE,
    VERSION,
    VERSION_MEAN_SCORE,
    VERSION_REQUESTS,
    VERSION_SECONDS,
    forget_series,
)
from training.registry.aliases import CHAMPION

_OUTCOMES = ("complete", "degraded", "failed")
_HISTOGRAMS = (VERSION_SECONDS, VERSION_MEAN_SCORE, PAIR_SCORE_RATIO, PAIR_RANK_DISTANCE)


class LoadedVersions:
    """The versions of a model that have a role, and their series.

    Series of a version that has left stay for one more change, so that its last answers are seen.
    They go then: a server that runs for a year has had many versions.
    """

    def __init__(self, model: str) -> None:
        """None is loaded yet.

        Args:
            model: Its name.
        """
        self._model = model
        self._now: set[str] = set()
        self._before: set[str] = set()

    @property
    def shown(self) -> set[str]:
        """The versions that have series."""
        return self._now | self._before

    def set_roles(self, roles: Mapping[str, tuple[str, float] | None]) -> None:
        """Show the version and the percent of each role."""
        taken = {role: one for role, one in roles.items() if one is not None}
        for gauge in (SHARE, VERSION):
            gauge.remove_by_labels({"model": self._model})
        for role, (version, percent) in taken.items():
            SHARE.labels(self._model, role, version).set(percent)
            if role == CHAMPION:
                VERSION.labels(self._model, version).set(1)
            self._begin(version)
        self._change({version for version, _ in taken.values()})

    def _begin(self, version: str) -> None:
        """At zero from the start, so that a rollout finds the series before the first request."""
        for histogram in _HISTOGRAMS:
            histogram.labels(self._model, version)
        for outcome in _OUTCOMES:
            VERSION_REQUESTS.labels(self._model, version, outcome)

    def _change(self, now: set[str]) -> None:
        if now == self._now:
            return
        for version in self._before - self._now - now:
            with contextlib.suppress(KeyError):  # it has answered nothing
                ANSWERS.remove(self._model, version)
            for histogram in _HISTOGRAMS:
                histogram.remove(self._model, version)
            for outcome in _OUTCOMES:
                VERSION_REQUESTS.remove(self._model, version, outcome)
        forget_series()
        self._before, self._now = self._now, now
