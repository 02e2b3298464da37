"""A small disk of the drill's own, which can be filled to the last byte."""

import contextlib
import ctypes
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

_CLONE_NEWNS = 0x20000
_MS_REC, _MS_PRIVATE = 0x4000, 1 << 18
_MEGABYTE = 2**20
_BLOCK = bytes(_MEGABYTE)


def mount(folder: Path, *, megabytes: int) -> bool:
    """Mount a file system of this size on a folder; whether this process may.

    It is seen by this process and what it starts, and gone with them: they have a mount namespace
    of their own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        return False
    if libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None) != 0:
        return False
    options = f"size={megabytes}m".encode()
    return bool(libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, options) == 0)


@contextlib.contextmanager
def full(folder: Path) -> Iterator[Callable[[], None]]:
    """No byte of the disk is free in the block; what it gives fills it again, where some became."""
    filler = folder / ".filler"
    try:
        with filler.open("wb", buffering=0) as file:

            def fill() -> None:
                size = _MEGABYTE
                while size:
                    try:
                        if file.write(_BLOCK[:size]) < size:
                            size //= 2
                    except OSError:
                        size //= 2

            fill()
            yield fill
    finally:
        filler.unlink(missing_ok=True)


def free_bytes(folder: Path) -> int:
    """What is left."""
    return shutil.disk_usage(folder).free
