"""A sample of the answers, written as Parquet by hour: raw material for replay and calibration.

The event loop hands an answer over and goes on; one thread builds the tables and writes them. When
the thread is behind, answers are dropped and counted, and no caller waits.
"""

import dataclasses
import datetime
import itertools
import logging
import os
import random
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from features.encoding.encode import RowStatus
from features.places import put_whole
from features.schema import Role, Schema
from serving.observability import metrics
from serving.settings import Logging

if TYPE_CHECKING:
    from serving.lookup.transformer import Candidates

MAX_WAITING_ROWS = 200_000
"""Candidates that wait to be written; 20 answers of the largest size."""
FLUSH_ROWS = MAX_WAITING_ROWS // 4
STOP_SECONDS = 10.0
OWN_COLUMNS = frozenset(
    {"request_id", "answered_at", "model_version", "role", "place", "score", "is_degraded"}
    | {"missing_context", "sent_item_id", "sent_user_id"}
)
"""Columns of the log that no schema has, besides ``<table>__status`` of each table."""
_STATUS_NAMES = pa.array([status.name.lower() for status in RowStatus])

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answered:
    """One answer and what it was made of."""

    request_id: str
    answered_at: datetime.datetime
    model_version: str
    scores: npt.NDArray[np.float32]
    candidates: "Candidates"
    role: str = "champion"
    """Champion or canary; or shadow, whose scores no caller saw."""

    def copied(self) -> "Answered":
        """The same, for a queue: it keeps no feature table in memory."""
        return dataclasses.replace(self, candidates=self.candidates.copied)


class RequestLog:
    """Takes answers, and writes a share of them to ``day=…/hour=…/`` of a place, in UTC."""

    def __init__(self, schema: Schema, settings: Logging) -> None:
        """Args: the schema of the requests; the share and the place."""
        self.model = schema.name
        """Whose answers they are; the place of each model is its own."""
        self._schema = schema
        self._settings = settings
        self._folder = settings.folder / schema.name
        self._changed = threading.Condition()
        self._waiting: list[Answered] = []
        self._num_rows = 0
        self._is_stopping = False
        self._numbers = itertools.count()
        self._thread = threading.Thread(target=self._write_on, name="request-log", daemon=True)

    def start(self) -> None:
        """Start the thread, where a share is set.

        Raises:
            OSError: The place cannot be made or reached.
            ValueError: The schema has a column of a name that is the log's own.
        """
        if self._settings.share:
            _check_names(self._schema)
            self._folder.mkdir(parents=True, exist_ok=True)
            self._thread.start()

    def stop(self) -> None:
        """Write what waits and end the thread."""
        if self._thread.is_alive():
            with self._changed:
                self._is_stopping = True
                self._changed.notify()
            self._thread.join(STOP_SECONDS)

    def offer(self, answered: Answered, *, is_chosen: bool = False) -> None:
        """Take an answer or leave it, by chance; returns at once.

        ``is_chosen``: take it, where anything is logged at all; chance has spoken elsewhere.
        """
        # By chance and not by the id: callers choose ids, and could choose what is logged.
        share = self._settings.share
        if not share or (random.random() >= share and not is_chosen):
            return
        num_rows = len(answered.scores)
        with self._changed:
            is_taken = self._num_rows + num_rows <= MAX_WAITING_ROWS and not self._is_stopping
            if is_taken:
                self._waiting.append(answered.copied())
                self._num_rows += num_rows
                if self._num_rows >= FLUSH_ROWS:
                    self._changed.notify()
        if not is_taken:
            metrics.LOGGED.labels(self.model, "dropped").inc()

    def _write_on(self) -> None:
        is_last = False
        while not is_last:
            with self._changed:
                self._changed.wait_for(self._is_due, timeout=self._settings.flush_seconds)
                is_last = self._is_stopping
                batch, self._waiting, self._num_rows = self._waiting, [], 0
            for hour, group in itertools.groupby(batch, key=_hour):
                self._write(hour, list(group))

    def _is_due(self) -> bool:
        return self._is_stopping or self._num_rows >= FLUSH_ROWS

    def _write(self, hour: datetime.datetime, batch: Sequence[Answered]) -> None:
        folder = self._folder / f"day={hour:%Y-%m-%d}" / f"hour={hour:%H}"
        name = f"{time.time_ns()}-{os.getpid()}-{next(self._numbers)}"
        try:
            tables = [table_of(self._schema, answered) for answered in batch]
            content = pa.BufferOutputStream()
            pq.write_table(
                pa.concat_tables(tables, promote_options="default"), content, compression="zstd"
            )
            put_whole(folder / f"{name}.parquet", content.getvalue().to_pybytes())
        except Exception:
            # The answers are gone, but the server ranks on and the thread lives; a metric counts.
            logger.exception("request log: %d answers were not written to %s", len(batch), folder)
            metrics.LOGGED.labels(self.model, "failed").inc(len(batch))
        else:
            metrics.LOGGED.labels(self.model, "written").inc(len(batch))


def table_of(schema: Schema, answered: Answered) -> pa.Table:
    """One row for each candidate, in the order of the request.

    The schema's columns, request time and event timestamps are those that were encoded, null where
    a row or a value could not be used: ``features.encoding.encode.encode`` makes the model's inputs
    of them again, to the bit. Ids as they were sent are there too: to the model an id out of
    range is null.
    """
    candidates = answered.candidates
    request = candidates.request
    size = len(answered.scores)
    own: dict[str, pa.Array] = {
        "request_id": _repeated(answered.request_id, size),
        "answered_at": _repeated(answered.answered_at, size, pa.timestamp("us", tz="UTC")),
        "model_version": _repeated(answered.model_version, size),
        "role": _repeated(answered.role, size),
        "place": pa.array(np.arange(size, dtype=np.int32)),
        "sent_item_id": pa.array(request.item_ids),
        "score": pa.array(answered.scores, pa.float32()),
        "is_degraded": _repeated(candidates.is_degraded, size),
        "missing_context": _repeated(list(request.missing_context), size, pa.list_(pa.string())),
    }
    if request.user_ids:
        own["sent_user_id"] = pa.array(request.user_ids).take(pa.array(request.user))
    for table in schema.tables:
        status = candidates.statuses[table.name]
        rows = status[request.user] if table.role is Role.USER else status
        own[f"{table.name}__status"] = _STATUS_NAMES.take(pa.array(rows.astype(np.int64)))
    return pa.table({**own, **candidates.columns})


def _check_names(schema: Schema) -> None:
    taken = sorted(OWN_COLUMNS.intersection(column.name for column in schema.columns()))
    if taken:
        raise ValueError(f"column {taken[0]}: of schema {schema.name}; a name not of the log's own")


def _repeated(value: object, size: int, arrow_type: pa.DataType | None = None) -> pa.Array:
    return pa.repeat(pa.scalar(value, arrow_type), size)


def _hour(answered: Answered) -> datetime.datetime:
    return answered.answered_at.replace(minute=0, second=0, microsecond=0)
