"""Pushes whenever impressions land, with one Spark session, until it is stopped.

A write that fails is retried, and so is a poll of a lake whose days are being rebuilt under
another schema. A store that has lost rows, because it was recreated, is offered everything since
the newest built day again.
"""

import datetime
import json
import logging
import threading
from typing import TYPE_CHECKING

import pandas as pd
from prometheus_client import start_http_server

from features.online_store.feast_store import open_store, write
from features.online_store.reader import OnlineRows, open_rows
from features.pipeline.workspace import Workspace
from features.places import Place
from features.push.ages import Ages
from features.push.freshness import BATCHES, IMPRESSIONS, ROWS, Freshness
from features.push.push_day import Batch, Clock, LandedUsers, state_table
from features.runbooks import RunbookError
from features.schema import EVENT_TIMESTAMP

if TYPE_CHECKING:
    from feast import FeatureStore

logger = logging.getLogger(__name__)
_READ_SECONDS = 5.0


class LostRowsError(Exception):
    """The store has lost rows that were written to it."""


class Target:
    """The online store as writer and as reader; reopened when it was recreated."""

    def __init__(self, work: Workspace, store_dir: Place) -> None:
        """Open nothing yet."""
        self._work = work
        self._store_dir = store_dir
        self._table = state_table(work)
        self._user = work.schema.key_of(self._table).name
        self._opened: tuple[FeatureStore, OnlineRows] | None = None
        self._last: tuple[int | str, int] | None = None

    def write(self, rows: pd.DataFrame) -> None:
        """Offer rows, and return when the reader of the endpoint finds them.

        Raises:
            LostRowsError: Rows that were written before are gone.
            ValueError: Nothing was applied there, or the rows cannot be read back.
        """
        if rows.empty:
            return
        if self._opened is None:
            reader = open_rows(self._work.schema, self._store_dir, timeout_seconds=_READ_SECONDS)
            self._opened = open_store(self._work.schema, self._store_dir), reader
        write(self._opened[0], self._table, rows)
        # The store may have been recreated since it was checked.
        self.require_rows()
        # Users are written in this order: a store that has the last one has those before it.
        last = rows[self._user].drop_duplicates().tolist()[-1]
        event = rows.loc[rows[self._user] == last, EVENT_TIMESTAMP].max()
        self._last = last, event.value // 1_000
        if not self._has_last():
            raise ValueError(f"store {self._store_dir}: {self._last} was written and is not there")

    def require_rows(self) -> None:
        """Raise LostRowsError where what was written last is gone; the store is opened again then.

        Whatever else it raises, the store could not be read.
        """
        if self._last is not None and not self._has_last():
            self._opened = self._last = None
            raise LostRowsError(f"store {self._store_dir}: has lost rows that were written")

    def _has_last(self) -> bool:
        if self._opened is None or self._last is None:
            return False
        reader, (user, event) = self._opened[1], self._last
        # Also notices that the store's file was replaced.
        reader.version(self._table.role)
        (found,) = reader.read(self._table.role, [user])[self._table.timestamp_column][:1]
        return bool(found.is_valid and found.value >= event)


class Follower:
    """Polls the landing folder and pushes what has landed."""

    def __init__(
        self,
        work: Workspace,
        landed: LandedUsers,
        target: Target,
        freshness: Freshness,
        clock: Clock,
        ages: Ages | None = None,
    ) -> None:
        """Begin with nothing pushed.

        Args:
            work: The data set.
            landed: What has landed.
            target: Where it goes.
            freshness: What is measured.
            clock: The moment.
            ages: What is shown of landed and built days; None: nothing, of a log of the past.
        """
        self._work = work
        self._landed = landed
        self._target = target
        self._freshness = freshness
        self._clock = clock
        self._ages = ages
        self._pending: Batch | None = None
        self._arrivals: list[float] = []
        self._is_failing = False
        self._counts = {"batches": 0, "impressions": 0, "rows": 0}

    def run(self, stopped: threading.Event, *, interval_seconds: float) -> None:
        """Poll until stopped; returns when the current write is done."""
        while not stopped.is_set():
            try:
                self.poll()
                if self._ages is not None:
                    self._ages.look(datetime.datetime.now(datetime.UTC).date())
            except Exception:
                # The signal ended the JVM too. Nothing is lost: a restart repeats the push.
                if not stopped.is_set():
                    raise
            stopped.wait(interval_seconds)

    def poll(self) -> bool:
        """Poll once and return whether rows were written; the next poll retries a failed write."""
        try:
            self._target.require_rows()
            self._find()
            return self._deliver()
        except LostRowsError as error:
            logger.warning("%s; offering everything since the newest built day again", error)
            self._landed.forget()
            self._pending = None
        except Exception as error:  # noqa: BLE001  # whatever the store's client raises
            # It may answer at the next poll.
            self._find()
            self._failed("store", error)
        return False

    def _find(self) -> None:
        if self._pending is not None:
            return
        try:
            batch = self._landed.poll(self._clock)
        except RunbookError as error:
            # Days of the lake are being rebuilt; until then the store serves what it has.
            self._failed("lake", error)
            return
        if batch is not None:
            self._pending = batch
            self._arrivals = self._freshness.arrivals(batch.files)

    def _deliver(self) -> bool:
        if self._pending is None:
            return False
        batch = self._pending
        self._target.write(batch.rows)
        self._pending = None
        self._is_failing = False
        seconds = self._freshness.readable(self._arrivals)
        self._arrivals = []
        self._count(batch)
        logger.info(
            json.dumps(
                {
                    "push": self._work.schema.name,
                    "files": len(batch.files),
                    "impressions": batch.impressions,
                    "rows": len(batch.rows),
                    "until": batch.until.isoformat(),
                    "freshness_seconds": round(max(seconds), 3) if seconds else None,
                }
            )
        )
        return True

    def _failed(self, what: str, error: Exception) -> None:
        BATCHES.labels("failed").inc()
        self._freshness.wait(self._arrivals)
        if not self._is_failing:
            logger.warning("%s: %s; retried at each poll", what, error)
        self._is_failing = True

    def _count(self, batch: Batch) -> None:
        BATCHES.labels("written").inc()
        IMPRESSIONS.inc(batch.impressions)
        ROWS.inc(len(batch.rows))
        self._counts["batches"] += 1
        self._counts["impressions"] += batch.impressions
        self._counts["rows"] += len(batch.rows)

    def summary(self) -> dict[str, object]:
        """What was pushed since the start, and how fresh it was."""
        return {**self._counts, "freshness": self._freshness.summary()}


def follow(
    work: Workspace,
    *,
    landing: Place,
    store_dir: Place,
    alerts: Place,
    stopped: threading.Event,
    first_day: datetime.date | None = None,
    is_replay: bool = False,
    interval_seconds: float = 2.0,
    metrics_host: str = "127.0.0.1",
    metrics_port: int = 0,
) -> dict[str, object]:
    """Push until stopped.

    Args:
        work: Session, schema and lake.
        landing: Where impressions land.
        store_dir: The Feast stores.
        alerts: Folder for alerts.
        stopped: Set to stop.
        first_day: As for ``LandedUsers``.
        is_replay: Take the time of the newest impression as now, instead of the clock.
        interval_seconds: Between two polls.
        metrics_host: Address to listen on, for Prometheus.
        metrics_port: Port there; 0: none.

    Returns:
        What was pushed, and how fresh it was.
    """
    if metrics_port:
        start_http_server(metrics_port, addr=metrics_host)
    freshness = Freshness(
        delay_seconds=state_table(work).delay.total_seconds(),
        mark=store_dir / work.schema.name / "push_measured.txt",
        alerts=alerts,
        dataset=work.schema.name,
    )
    landed = LandedUsers(work, landing, first_day=first_day)
    clock = _newest if is_replay else _now
    ages = None if is_replay else Ages(work, landing)
    follower = Follower(work, landed, Target(work, store_dir), freshness, clock, ages)
    logger.info("following %s; a poll every %g s", landing / work.schema.name, interval_seconds)
    follower.run(stopped, interval_seconds=interval_seconds)
    return follower.summary()


def _newest(newest: datetime.datetime) -> datetime.datetime:
    return newest


def _now(_newest: datetime.datetime) -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
