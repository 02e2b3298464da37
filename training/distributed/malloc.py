"""How this process keeps the memory that tensors gave back."""

import ctypes
import logging
import platform

logger = logging.getLogger(__name__)

# Numbers of glibc's malloc.h; mallopt(3) explains them.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_PAD_BYTES = 64 * 2**20


def keep_freed_memory() -> bool:
    """Let malloc reuse what large tensors free, and not hand it back to the kernel.

    PyTorch has no cache for memory of the CPU, and glibc gives every block above 32 MB back when it
    is freed: each step of a training run then faults the same pages in again, a third of the time
    of a step with large activations. The process keeps the memory of its largest step.

    Returns:
        Whether the C library is glibc and took the settings.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, _PAD_BYTES))
    taken = [libc.mallopt(name, value) for name, value in settings]
    is_set = all(taken)
    if not is_set:
        logger.warning("malloc: glibc rejects a setting; training steps will fault pages in again")
    return is_set
