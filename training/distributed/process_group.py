"""The process group of a run's ranks, their memory, and the report of one that fails."""

import contextlib
import ctypes
import datetime
import logging
import os
import platform
import socket
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException

from training.distributed.device import device_of_rank
from training.distributed.failures import report

logger = logging.getLogger(__name__)

WAIT = datetime.timedelta(minutes=10)
"""How long a rank waits for the others; then it fails, and torchrun starts all ranks again."""
_GLOO = "third_party/gloo"
"""Part of every error message of gloo; its errors have no type of their own."""
# Numbers of glibc's malloc.h; mallopt(3) explains them.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_PAD_BYTES = 64 * 2**20


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """Join the process group that torchrun set up; alone, one of this process."""
    keep_freed_memory()
    alone = {} if "RANK" in os.environ else _environment_alone()
    os.environ.update(alone)
    device = device_of_rank()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # Saves while training goes on, and exchanges of Python objects, need a backend of the CPU.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=WAIT)
    try:
        yield
    finally:
        dist.destroy_process_group()
        # A process that is started later is no rank of this group.
        for name in alone:
            del os.environ[name]


@contextlib.contextmanager
def reported_failures(folder: Path) -> Iterator[None]:
    """Write a failure of this rank's own into a folder, for the launcher to end the run.

    A rank that fails because another one was lost writes nothing: torchrun starts all again.
    """
    try:
        yield
    except (Exception, CheckpointException) as error:
        if not _is_loss_of_a_rank(error):
            report(folder, dist.get_rank(), error)
        raise


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


def _is_loss_of_a_rank(error: BaseException) -> bool:
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, dist.DistError) or _GLOO in str(chain):
            return True
        chain = chain.__cause__ or chain.__context__
    return False


def _environment_alone() -> dict[str, str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    return {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
    }
