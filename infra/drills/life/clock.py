"""The endpoint's clock: its answers are logged by the days that the drill lives."""

import contextlib
import datetime
import os
import time
from collections.abc import Iterator
from pathlib import Path

_LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
"""Of the package ``faketime``: a clock for what it is loaded into."""
_NOTICED_SECONDS = 1.5
_NOON = datetime.time(12, tzinfo=datetime.UTC)


class Clock:
    """The time of day goes on, the day is set; steps of a monotonic clock are as they are."""

    is_there = _LIBRARY is not None

    def __init__(self, file: Path) -> None:
        """Args: the file that the library reads, which has the seconds to add."""
        self._file = file

    def set(self, day: datetime.date) -> None:
        """It is noon of this day."""
        noon = datetime.datetime.combine(day, _NOON).timestamp()
        part = self._file.with_suffix(".part")
        part.write_text(f"{noon - time.time():+.0f}\n", encoding="utf-8")
        part.replace(self._file)
        time.sleep(_NOTICED_SECONDS)

    @contextlib.contextmanager
    def faked(self) -> Iterator[None]:
        """What is started in the block has this clock, where the machine has the library."""
        if _LIBRARY is None:
            yield
            return
        given = {
            "LD_PRELOAD": str(_LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        os.environ |= given
        try:
            yield
        finally:
            for name in given:
                del os.environ[name]
