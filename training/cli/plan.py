"""``python -m training plan``: how a recipe's tables would be spread over devices."""

import dataclasses
import re
from typing import Any, Literal

from features.cli import Summary
from features.datasets.catalog import known, schema_of
from features.options import count, from_flags, option
from training.distributed.accelerators import ACCELERATORS, Accelerator
from training.recipes import recipe_of
from training.requests import ChangesRecipe, OfRecipe

_UNITS = {"KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}
_DEVICES_OF_A_HOST = 8
"""Of every host that has the table's GPUs."""


def _size_in_bytes(text: str) -> int:
    """``80GB`` as a number."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(KB|MB|GB|TB)", text, re.IGNORECASE)
    if not found or not float(found[1]):
        raise ValueError(f"{text!r}: a size such as 80GB or 512MB")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def _size(text: str) -> Any:
    """A field of a request: bytes, or None."""
    return option(text, parse=_size_in_bytes, metavar="SIZE", default=None)


@from_flags
class PlanRequest(ChangesRecipe, OfRecipe):
    """Print how a recipe's tables would be spread over devices, and what an epoch would take.

    The trainer plans with the same code; nothing is allocated, so that a plan for GPUs is made on a
    laptop.
    """

    dataset: str = option("whose tables", metavar="NAME", parse=known, default="movielens-100k")
    devices: Literal["cpu", "cuda"] = option("of the ranks", default="cuda")
    gpu: str | None = option(
        "whose memory and bandwidths, in hosts of 8 (else the planner's own)",
        choices=sorted(ACCELERATORS),
        default=None,
    )
    ranks: int = option("processes, one a device", parse=count, default=8)
    ranks_per_host: int | None = option(
        "that share fast links (else 8 with --gpu, else all)",
        parse=count,
        metavar="N",
        default=None,
    )
    hbm: int | None = _size("a device's memory, such as 80GB (else --gpu's)")
    ddr: int | None = _size("the host's memory for a rank")
    hbm_bandwidth: int | None = _size("of a device and its memory in a second (else --gpu's)")
    nvlink_bandwidth: int | None = _size("to other devices of the host in a second (else --gpu's)")
    network_bandwidth: int | None = _size(
        "to other hosts in a second, of each device (else --gpu's)"
    )
    rows_times: int = option("plan for tables so many times as long", parse=count, default=1)
    rows: int | None = option(
        "plan for so many rows of all tables, or a few more (else --rows-times)",
        parse=count,
        default=None,
    )
    teraflops: float | None = option(
        "what a rank reaches on the dense part (else 58 % of --gpu's peak, else 20)", default=None
    )
    examples: int = option("of an epoch", parse=count, default=1_000_000_000)

    def __post_init__(self) -> None:
        """ValueError for a bandwidth of a device that is not named."""
        if self.gpu is None and self._bandwidths:
            raise ValueError("gpu: none; a bandwidth replaces that of a device that --gpu names")

    @property
    def _bandwidths(self) -> dict[str, Any]:
        names = ("hbm_bandwidth", "nvlink_bandwidth", "network_bandwidth")
        return {name: value for name in names if (value := getattr(self, name))}

    def accelerator(self) -> Accelerator | None:
        """The device of the data sheets, with the bandwidths that the request has."""
        if self.gpu is None:
            return None
        return dataclasses.replace(ACCELERATORS[self.gpu], **self._bandwidths)


def plan(request: PlanRequest) -> Summary:
    """The plan that the trainer would make; what is slow to import is imported here."""
    from training.distributed.device import Machine
    from training.distributed.plan_report import planned
    from training.model.inputs import inputs_of

    known = request.accelerator()
    hosts = min(_DEVICES_OF_A_HOST, request.ranks) if known else None
    machine = Machine(
        device=request.devices,
        ranks=request.ranks,
        ranks_per_host=request.ranks_per_host or hosts,
        hbm_bytes=request.hbm or (known.hbm_bytes if known else None),
        ddr_bytes=request.ddr,
        accelerator=known,
    )
    recipe = request.changed(recipe_of(request.recipe))
    inputs = inputs_of(schema_of(request.dataset))
    times = -(-request.rows // inputs.num_rows()) if request.rows else request.rows_times
    return planned(
        *(inputs.with_rows_times(times), recipe, machine),
        teraflops=request.teraflops,
        examples=request.examples,
    )
