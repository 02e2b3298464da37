"""How long what has landed waits until the endpoint can read it: measured, exported, compared.

A row that lands at once may be counted on only after its table's declared delay, in training and
online alike. Online agrees with training as long as the row is in the store by then.
"""

import collections
import json
import logging
import time
from collections.abc import Iterable

import numpy as np
from prometheus_client import Counter, Gauge, Histogram

from features.places import Place, is_local, put_whole

logger = logging.getLogger(__name__)
RUNBOOK = "features-late"
_REMEMBERED = 10_000
"""Arrivals over which the percentiles of the summary are taken."""
FRESHNESS = Histogram(
    "ranking_push_freshness_seconds",
    "From the landing of a file with impressions until the endpoint can read what follows from it.",
    buckets=(0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120, 300, 900, 3600),
)
WAITING = Gauge(
    "ranking_push_waiting_seconds",
    "How long the oldest file has been waiting that landed and is not in the store; 0 without one.",
)
DELAY = Gauge("ranking_push_delay_seconds", "The delay that the schema declares for pushed rows.")
IMPRESSIONS = Counter("ranking_push_impressions", "Impressions that were read from landed files.")
ROWS = Counter("ranking_push_rows", "State rows that were offered to the online store.")
BATCHES = Counter("ranking_push_batches", "Writes to the online store, by outcome.", ["outcome"])


class Freshness:
    """Arrivals of files, and when what follows from them could be read."""

    def __init__(self, *, delay_seconds: float, mark: Place, alerts: Place, dataset: str) -> None:
        """Begin to measure.

        Args:
            delay_seconds: What the schema declares.
            mark: File that remembers the newest arrival that was measured, so that what a push
                offers again after a restart is not measured again.
            alerts: Folder for alerts.
            dataset: Name of the data set, for the alerts.
        """
        self._delay = delay_seconds
        self._mark = mark
        self._alerts = alerts
        self._dataset = dataset
        self._measured = float(mark.read_text()) if mark.exists() else 0.0
        self._seconds: collections.deque[float] = collections.deque(maxlen=_REMEMBERED)
        self._num_files = 0
        self._is_late = False
        DELAY.set(delay_seconds)

    def arrivals(self, files: Iterable[Place]) -> list[float]:
        """When files landed, in seconds since 1970: of those that were not measured before."""
        landed = [_landed_at(path) for path in files if path.exists()]
        return [at for at in landed if at > self._measured]

    def wait(self, arrivals: list[float]) -> None:
        """Record that files have landed and cannot be read yet."""
        seconds = max(0.0, time.time() - min(arrivals)) if arrivals else 0.0
        WAITING.set(seconds)
        if seconds > self._delay:
            self._alert(seconds, "not in the store yet")

    def readable(self, arrivals: list[float]) -> list[float]:
        """What follows from the files can be read now; returns the seconds of each."""
        WAITING.set(0)
        if not arrivals:
            return []
        now = time.time()
        seconds = [now - at for at in arrivals]
        for one in seconds:
            FRESHNESS.observe(one)
        self._seconds.extend(seconds)
        self._num_files += len(seconds)
        self._measured = max(self._measured, *arrivals)
        put_whole(self._mark, repr(self._measured).encode())
        if max(seconds) > self._delay:
            self._alert(max(seconds), "readable too late")
        else:
            self._is_late = False
        return seconds

    def summary(self) -> dict[str, object]:
        """Percentiles of the newest arrivals, and the declared delay."""
        found = percentiles(self._seconds)
        return {"files": self._num_files, **found, "declared_delay_seconds": self._delay}

    def _alert(self, seconds: float, what: str) -> None:
        """One line in the log and one file among the reports, once until freshness recovers."""
        if self._is_late:
            return
        self._is_late = True
        notice = {
            "alert": RUNBOOK,
            "runbook": f"infra/runbooks/{RUNBOOK}.md",
            "dataset": self._dataset,
            "error": f"freshness: {seconds:.1f} s, {what}; the schema declares {self._delay:g} s",
        }
        logger.error("ALERT %s", json.dumps(notice))
        text = json.dumps(notice, indent=1) + "\n"
        put_whole(self._alerts / f"{RUNBOOK}.json", text.encode())


def _landed_at(path: Place) -> float:
    """When a file got its name; in an object store, its content: to the second."""
    # On a disk a file is renamed into place when it is whole, which is no change of its content.
    stat = path.stat()
    return stat.st_ctime if is_local(path) else stat.st_mtime


def percentiles(seconds: Iterable[float]) -> dict[str, float | None]:
    """The median and the 99th percentile; None without a value."""
    values = list(seconds)
    if not values:
        return {"p50_seconds": None, "p99_seconds": None}
    p50, p99 = np.percentile(values, [50, 99])
    return {"p50_seconds": round(float(p50), 3), "p99_seconds": round(float(p99), 3)}
