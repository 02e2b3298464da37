"""Where a plan is for: devices, ranks and their memory; need not be where it is made."""

import dataclasses
import functools
import logging
import os
import resource

import fbgemm_gpu  # noqa: F401  # registers the operators
import torch
import torch.distributed as dist
from torchrec.distributed.planner.constants import HBM_CAP

from training.config.recipe import Precision
from training.distributed.accelerators import ACCELERATORS, Accelerator, accelerator_of
from training.resources import memory_bytes

logger = logging.getLogger(__name__)

_KERNEL = "fbgemm::block_bucketize_sparse_features"
"""One that every build of FBGEMM has for its own devices."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """As many ranks as there are devices, with what each may hold."""

    device: str
    """``cpu`` or ``cuda``."""
    ranks: int
    ranks_per_host: int | None = None
    """Ranks that share a host's fast links; None: all."""
    hbm_bytes: int | None = None
    """Memory of one device; None: the planner's default."""
    ddr_bytes: int | None = None
    """The host's memory for one rank; None: the planner's default."""
    accelerator: Accelerator | None = None
    """Bandwidths of the devices; None: the planner's defaults."""

    def __post_init__(self) -> None:
        """Refuse hosts that are not alike."""
        if self.ranks_per_host is not None and self.ranks % self.ranks_per_host:
            raise ValueError(f"ranks_per_host: {self.ranks_per_host}; a divisor of {self.ranks}")

    @property
    def device_bytes(self) -> int | None:
        """Memory of one device; None on the CPU, which shares the host's."""
        return (self.hbm_bytes or HBM_CAP) if self.device == "cuda" else None


@functools.cache
def num_cuda_devices() -> int:
    """CUDA devices that torch and FBGEMM can both use; says once when only torch can."""
    if not torch.cuda.is_available():
        return 0
    devices = torch.cuda.device_count()
    if not _has_cuda_kernels():
        if os.environ.get("RANK", "0") == "0":
            logger.warning(
                "torch sees %d CUDA devices, but the FBGEMM that is installed is the CPU's: "
                "training on the CPU (`make install ACCELERATOR=cuda` installs the other)",
                devices,
            )
        return 0
    return devices


def _has_cuda_kernels() -> bool:
    """Whether FBGEMM, which looks the tables up, was built for CUDA."""
    has_kernel: bool = torch._C._dispatch_has_kernel_for_dispatch_key(_KERNEL, "CUDA")
    return has_kernel


def device_of_rank() -> torch.device:
    """This rank's device: its GPU where there is one that can be used, else the CPU."""
    if num_cuda_devices():
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return torch.device("cpu")


def is_bf16(precision: Precision, device: str) -> bool:
    """Whether the dense part trains under bf16 autocast on ``cpu`` or ``cuda``.

    Where no CUDA device is at hand, as for a plan made elsewhere, it is taken to have bf16.
    """
    if precision is Precision.AUTO:
        lacks = torch.cuda.is_available() and not torch.cuda.is_bf16_supported(
            including_emulation=False
        )
        return device == "cuda" and not lacks
    return precision is Precision.BF16


def this_machine(device: torch.device) -> Machine:
    """The process group's machine, the same on every rank: the smallest of the devices counts."""
    ranks = dist.get_world_size()
    if device.type != "cuda":
        return Machine(device=device.type, ranks=ranks)
    ranks_per_host = int(os.environ.get("LOCAL_WORLD_SIZE", ranks))
    host_bytes = memory_bytes()
    properties = torch.cuda.get_device_properties(device)
    known = accelerator_of(properties.name)
    if known is None and dist.get_rank() == 0:
        logger.warning(
            "%s: not among %s; the plan takes the planner's own bandwidths",
            *(properties.name, sorted(ACCELERATORS)),
        )
    names = list(ACCELERATORS)
    # The slowest first, one that is not known before all: the smallest number counts here too.
    number = names.index(known.name) if known else -1
    smallest = torch.tensor(
        [properties.total_memory, host_bytes // ranks_per_host, number], device=device
    )
    dist.all_reduce(smallest, op=dist.ReduceOp.MIN)
    hbm_bytes, ddr_bytes, number = smallest.tolist()
    return Machine(
        device=device.type,
        ranks=ranks,
        ranks_per_host=ranks_per_host,
        hbm_bytes=hbm_bytes,
        ddr_bytes=ddr_bytes,
        accelerator=ACCELERATORS[names[number]] if number >= 0 else None,
    )


def peak_memory_bytes(device: torch.device) -> int:
    """Of a device's tensors so far, or of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
