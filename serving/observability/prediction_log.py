"""A sample of the answers, appended to a Delta table: raw material for replay and calibration.

The event loop hands an answer over and goes on; one thread builds the rows and writes them. When
the thread is behind, answers are dropped and counted, and no caller waits.
"""

import logging
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from features.prediction_log.columns import require_free_names
from features.prediction_log.hashed_ids import IdHash
from features.prediction_log.settings import Logging
from features.schema import Schema
from serving.observability import metrics
from serving.observability.answered import Answered, RowMaker

if TYPE_CHECKING:
    from features.prediction_log.table import LogTable

MAX_WAITING_ROWS = 200_000
"""Candidates that wait to be written; 20 answers of the largest size."""
FLUSH_ROWS = MAX_WAITING_ROWS // 4
STOP_SECONDS = 10.0

logger = logging.getLogger(__name__)


class RequestLog:
    """Takes answers, and appends them to the table of their data set."""

    def __init__(self, schema: Schema, settings: Logging, *, key: bytes | None = None) -> None:
        """Nothing is opened yet.

        Args:
            schema: Of the requests.
            settings: The share and the place.
            key: Hashes ids; None: they are written as they are.
        """
        self.model = schema.name
        """Whose answers they are; the table of each model is its own."""
        self.share = settings.share
        """Of the answers, besides those that are all logged; 0: none is."""
        self._schema = schema
        self._settings = settings
        self._hashed = IdHash(key) if key else None
        self._changed = threading.Condition()
        self._waiting: list[Answered] = []
        self._num_rows = 0
        self._lost_answers = self._lost_rows = 0
        """Since the last commit."""
        self._is_stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Open the table and start the thread, where a share is set.

        Raises:
            OSError: The place cannot be made or reached.
            ValueError: The schema has a column of a name that is the log's own, or the table has
                one of another type.
        """
        if not self.share:
            return
        # A server without a log does not load the library.
        from features.prediction_log.table import LogTable

        require_free_names(self._schema)
        table = LogTable(self._settings.folder, self._schema)
        table.open()
        made = RowMaker(self._schema, columns=table.columns, hashed=self._hashed)
        self._thread = threading.Thread(
            target=self._write_on, args=(table, made), name="request-log", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Write what waits and end the thread."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    def offer(self, answered: Answered) -> None:
        """Take an answer that is to be logged; returns at once."""
        if not self.share or answered.inclusion is None:
            return
        num_rows = len(answered.scores)
        with self._changed:
            is_taken = self._num_rows + num_rows <= MAX_WAITING_ROWS and not self._is_stopping
            if is_taken:
                self._waiting.append(answered.copied())
                self._num_rows += num_rows
                if self._num_rows >= FLUSH_ROWS:
                    self._changed.notify()
            else:
                self._lost_answers += 1
                self._lost_rows += num_rows
        if not is_taken:
            metrics.LOGGED.labels(self.model, "dropped").inc()

    def _write_on(self, table: "LogTable", made: RowMaker) -> None:
        is_last = False
        while not is_last:
            with self._changed:
                self._changed.wait_for(self._is_due, timeout=self._settings.flush_seconds)
                is_last = self._is_stopping
                batch, self._waiting, self._num_rows = self._waiting, [], 0
            if batch:
                self._write(table, made, batch)

    def _is_due(self) -> bool:
        return self._is_stopping or self._num_rows >= FLUSH_ROWS

    def _write(self, table: "LogTable", made: RowMaker, batch: Sequence[Answered]) -> None:
        with self._changed:
            answers, rows = self._lost_answers, self._lost_rows
        metadata = {
            "job": "serve",
            "answers": len(batch),
            "lost_answers": answers,
            "lost_rows": rows,
        }
        try:
            table.append(pa.concat_tables([made.rows(one) for one in batch]), metadata=metadata)
        except Exception:
            # The answers are gone, but the server ranks on and the thread lives; a metric counts.
            logger.exception("request log: %d answers not written to %s", len(batch), table.root)
            metrics.LOGGED.labels(self.model, "failed").inc(len(batch))
            answers, rows = -len(batch), -sum(len(one.scores) for one in batch)
        else:
            metrics.LOGGED.labels(self.model, "written").inc(len(batch))
        with self._changed:
            self._lost_answers -= answers
            self._lost_rows -= rows
