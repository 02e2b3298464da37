"""How much memory the whole process tree takes, by stage."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator

import psutil

PERIOD_SECONDS = 1.0
MOST_SHARE = 0.03
"""Of a core, that sampling may take; it waits longer where a sample takes long."""
MEGABYTE = 1_000_000


class MemorySampler:
    """About each second, the sum of PSS over this process and all its descendants.

    PSS counts a page that n processes share as 1/n in each, so the sum is the memory really used.
    A sample counts for every running stage; stages may overlap.
    """

    def __init__(self) -> None:
        """Sampling begins with ``running``."""
        self.peak_mb = 0
        self.peaks_mb: dict[str, int] = {}
        self.now_mb = 0
        self._active: set[str] = set()
        self._stopped = threading.Event()

    @contextlib.contextmanager
    def running(self) -> Iterator["MemorySampler"]:
        """Sample in a thread until the end of the block."""
        thread = threading.Thread(target=self._sample, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._stopped.set()
            thread.join()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the samples of this block for a stage."""
        self._active.add(name)
        try:
            yield
        finally:
            self._active.discard(name)

    def set_active(self, names: set[str], *, prefix: str) -> None:
        """Say which stages, of those whose names begin with ``prefix``, are under way."""
        others = {name for name in self._active if not name.startswith(prefix)}
        self._active = others | names

    def _sample(self) -> None:
        while not self._stopped.is_set():
            started = time.monotonic()
            self.now_mb = tree_pss(os.getpid()) // MEGABYTE
            self.peak_mb = max(self.peak_mb, self.now_mb)
            for name in tuple(self._active):
                self.peaks_mb[name] = max(self.peaks_mb.get(name, 0), self.now_mb)
            took = time.monotonic() - started
            self._stopped.wait(max(PERIOD_SECONDS - took, took / MOST_SHARE))


def tree_pss(pid: int) -> int:
    """Bytes of PSS of a process and its descendants."""
    root = psutil.Process(pid)
    total = 0
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            total += process.memory_full_info().pss
    return total
