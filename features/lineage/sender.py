"""Keeps events in files, and sends them over HTTP where that is configured.

Files are below ``RANKING_ROOT/lineage``: one of lines for each run on a disk, one for each event in
an object store, where nothing can be appended. So no event is lost while a receiver is down. A
receiver is configured by OpenLineage's own variables; a thread sends, and the job waits for it at
its end only, and not for long. Whatever fails here is logged once and fails no job.
"""

import datetime
import logging
import queue
import threading

from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import RunEvent
from openlineage.client.transport.file import FileConfig, FileTransport

from features.lineage.settings import events_folder
from features.places import Place, is_local, uri

logger = logging.getLogger(__name__)

WAIT_SECONDS = 3.0
"""Longest time that the end of a job waits for a receiver."""


class Sender:
    """Takes the events of one run."""

    def __init__(self, name: str, *, has_receiver: bool, where: Place | None = None) -> None:
        """Open nothing yet.

        Args:
            name: Of the run's file: the job and the run.
            has_receiver: Whether the environment names one.
            where: The folder of all events; None: that of the root.
        """
        self._folder = (where or events_folder()) / str(datetime.datetime.now(datetime.UTC).date())
        self._file = FileTransport(
            FileConfig(
                log_file_path=uri(self._folder / f"{name}{'.jsonl' if self._is_local else ''}"),
                append=self._is_local,
            )
        )
        self._has_failed = False
        self._events: queue.SimpleQueue[RunEvent | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        if has_receiver:
            self._thread = threading.Thread(target=self._send, name="lineage", daemon=True)
            self._thread.start()

    @property
    def _is_local(self) -> bool:
        return is_local(self._folder)

    def send(self, event: RunEvent) -> None:
        """Write an event to the file at once, and have it sent."""
        try:
            if self._is_local:
                self._folder.mkdir(parents=True, exist_ok=True)
            self._file.emit(event)
        except (OSError, RuntimeError) as error:
            self._failed("not kept", error)
        if self._thread is not None:
            self._events.put(event)

    def close(self) -> None:
        """Wait until all events are sent, or ``WAIT_SECONDS``."""
        if self._thread is None:
            return
        self._events.put(None)
        self._thread.join(WAIT_SECONDS)
        if self._thread.is_alive():
            self._failed("not sent", TimeoutError(f"no answer within {WAIT_SECONDS} s"))

    def _send(self) -> None:
        # It warns of each retry, and what comes of them is said once.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        try:
            client = OpenLineageClient()
        except Exception as error:  # noqa: BLE001 - a setting of the receiver, whatever is wrong
            self._failed("not sent", error)
            return
        while (event := self._events.get()) is not None:
            try:
                client.emit(event)
            except Exception as error:  # noqa: BLE001 - transports have no error in common
                self._failed("not sent", error)

    def _failed(self, what: str, error: Exception) -> None:
        if not self._has_failed:
            self._has_failed = True
            logger.warning("events of lineage: %s: %s", what, error)
