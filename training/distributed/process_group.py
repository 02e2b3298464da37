"""The process group of a run's ranks, their memory, and the report of one that fails."""

import contextlib
import ctypes
import datetime
import logging
import os
import platform
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException

from features.places import Place
from training.distributed.device import device_of_rank
from training.distributed.failures import note_loss, report, take_over
from training.distributed.hosts import Hosts, Waiting

logger = logging.getLogger(__name__)

_Found = TypeVar("_Found")
_GLOO = ("third_party/gloo", "Application timeout caused pair closure")
"""Parts of the error messages of gloo, which have no type of their own: a place in its source, and
what is raised where another thread has waited in vain."""
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
    # A rank that has waited for so long fails, and torchrun starts all ranks again.
    lost = Waiting.from_environment().lost
    hosts = Hosts.from_environment()
    if alone or hosts.count == 1:
        dist.init_process_group(backend, timeout=lost)
    else:
        _join_by_host(hosts, backend, lost)
    try:
        yield
    finally:
        dist.destroy_process_group()
        # A process that is started later is no rank of this group.
        for name in alone:
            del os.environ[name]


def _join_by_host(hosts: Hosts, backend: str, timeout: datetime.timedelta) -> None:
    """Join with ranks that follow PET_NODE_RANK, so that rank 0 stays on host 0.

    torchrun numbers its hosts anew each time that one comes back, in the order of their addresses;
    the host that it calls the first has the store.
    """
    world_size = int(os.environ["WORLD_SIZE"])
    store = dist.TCPStore(  # type: ignore[attr-defined]  # exported, but not by name
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        world_size,
        is_master=os.environ["RANK"] == "0",
        timeout=timeout,
    )
    rank = hosts.number * int(os.environ["LOCAL_WORLD_SIZE"]) + int(os.environ["LOCAL_RANK"])
    os.environ["RANK"] = str(rank)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)


def agreed(find: Callable[[], _Found]) -> _Found:
    """What rank 0 finds, on every rank; all ranks call this."""
    found = [find() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(found, src=0)
    return cast("_Found", found[0])


@contextlib.contextmanager
def reported_failures(folder: Path, shared: Place | None = None) -> Iterator[None]:
    """Write a failure of this rank's own into a folder, for the launcher to end the run.

    A rank that fails because another one was lost only notes that: torchrun starts all again. But
    where that one has failed by itself on another host, its words are taken over from there.

    Args:
        folder: Of this host.
        shared: Folder of all hosts; None where there is one.
    """
    try:
        yield
    except (Exception, CheckpointException) as error:
        if not _is_loss_of_a_rank(error):
            try:
                # First, since this host's launcher ends the rank soon after it has read the other.
                if shared is not None:
                    report(shared, dist.get_rank(), error)
            finally:
                report(folder, dist.get_rank(), error)
        else:
            note_loss(folder)
            if shared is not None:
                # It was written before its rank could be missed.
                take_over(shared, folder)
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
        if isinstance(chain, dist.DistError) or any(part in str(chain) for part in _GLOO):
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
