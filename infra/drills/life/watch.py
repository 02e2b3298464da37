"""A reader of the lake all along: what it finds of a day is the whole day, as it ought to be."""

import threading

from features.lake.snapshot import snapshot
from features.places import Place
from infra.drills.life.reference import TABLES, Hashes

PAUSE_SECONDS = 1.0
NEWEST_DAYS = 2


class Watch:
    """A thread that reads the newest days of each table."""

    def __init__(self, lake: Place, expected: Hashes) -> None:
        """Args: the folder of the data set's tables, and the hashes that days may have."""
        self._lake = lake
        self._expected = expected
        self.looks = 0
        self.wrong: list[str] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._stopping.set()
        self._thread.join(30)

    def _look_on(self) -> None:
        while not self._stopping.is_set():
            for table in TABLES:
                if self._stopping.wait(PAUSE_SECONDS):
                    return
                try:
                    self._look(table)
                except Exception as error:  # noqa: BLE001 - a reader that ends sees nothing
                    self.wrong.append(f"{table}: {error!r}"[:300])

    def _look(self, table: str) -> None:
        found = snapshot(self._lake / table)
        for day in found.days[-NEWEST_DAYS:]:
            part, rows = found.partition(day), len(found.read(day))
            expected = self._expected.get((table, day))
            self.looks += 1
            if rows != part.rows:
                self.wrong.append(f"{table} {day}: {rows} rows of {part.rows}")
            # Of raw rows a version that waits for its check may have what is not published then.
            elif table != "impressions_raw" and part.content_hash != expected:
                self.wrong.append(f"{table} {day}: {part.content_hash}; {expected} without faults")
