"""The hosts of a training, and how long they wait for one another; imports no torch.

Each host runs the same command. Which of them it is says its environment, in the variables of
torchrun, which Kubeflow's TrainJob sets in every pod; without them there is one host.
"""

import datetime
import hashlib
import socket
import time
from collections.abc import Callable
from ipaddress import ip_address

import psutil
from pydantic import Field, field_validator

from features.environment import Group

_MEGABYTE = 10**6
_RESOLVE_SECONDS = 1.0


class Waiting(Group):
    """When a rank, or a host, counts as lost."""

    lost_seconds: int = Field(default=600, ge=5, le=86400, validation_alias="RANKING_LOST_SECONDS")
    """How long a rank waits for the others, and a host for one that has yet to come, or to come
    back."""
    save_rate: float = Field(default=20, ge=0.1, le=100000, validation_alias="RANKING_SAVE_RATE")
    """Megabytes that a rank writes in a second at the least: in a save the others wait for it
    RANKING_LOST_SECONDS and as long as its bytes take at this rate."""

    @property
    def lost(self) -> datetime.timedelta:
        """Longest wait where no file is written."""
        return datetime.timedelta(seconds=self.lost_seconds)

    def while_saving(self, num_bytes: int) -> datetime.timedelta:
        """Longest wait for a rank that writes so many bytes."""
        return self.lost + datetime.timedelta(seconds=num_bytes / (self.save_rate * _MEGABYTE))


class Hosts(Group):
    """The hosts of a training, and which of them this one is."""

    count: int = Field(default=1, ge=1, le=10000, validation_alias="PET_NNODES")
    """Hosts of one training, each of which runs the same command."""
    number: int = Field(default=0, ge=0, le=9999, validation_alias="PET_NODE_RANK")
    """Which of them this one is. Host 0 decides what is done, tracks it and writes the result."""
    per_host: str = Field(default="auto", validation_alias="PET_NPROC_PER_NODE")
    """Ranks of each host; `auto`, `cpu` or `gpu`: as many as `--ranks` of `train` says."""
    master: str = Field(default="", validation_alias="PET_MASTER_ADDR")
    """Name or address of host 0, as the others reach it."""
    port: int = Field(default=29500, ge=1, le=65535, validation_alias="PET_MASTER_PORT")
    """Where torchrun listens on host 0; the ranks use ports of the system's choice as well."""
    run: str = Field(default="", validation_alias="RANKING_RUN")
    """The run, the same on all its hosts; required where there are several."""

    @field_validator("per_host")
    @classmethod
    def _check_per_host(cls, text: str) -> str:
        if text not in {"auto", "cpu", "gpu"} and not (text.isdecimal() and int(text)):
            raise ValueError(f"{text!r}; a whole number, at least 1, or auto, cpu or gpu")
        return text

    def check(self) -> None:
        """ValueError for hosts that could not find one another."""
        if self.number >= self.count:
            raise ValueError(f"PET_NODE_RANK: {self.number}; below PET_NNODES, {self.count}")
        missing = {"PET_MASTER_ADDR": self.master, "RANKING_RUN": self.run}
        for name, value in missing.items():
            if self.count > 1 and not value:
                raise ValueError(f"{name}: not set; the same on all {self.count} hosts of a run")

    def ranks_here(self, asked: int | None, *, default: Callable[[], int]) -> int:
        """Ranks of this host.

        Args:
            asked: Of all hosts together; None: what PET_NPROC_PER_NODE says, else the default.
            default: Of one host.

        Raises:
            ValueError: What was asked for is not as many on each host, or not what is set.
        """
        here = int(self.per_host) if self.per_host.isdecimal() else None
        if asked is None:
            return here or default()
        if here and asked != here * self.count:
            raise ValueError(f"ranks: {asked}; {here} on each of {self.count} hosts")
        if asked % self.count:
            raise ValueError(f"ranks: {asked}; a multiple of {self.count}, the number of hosts")
        return asked // self.count

    def own_address(self, *, seconds: float) -> str:
        """This host's address on its way to host 0.

        Args:
            seconds: Longest wait for a name or a way that is not there yet: hosts start one after
                the other.

        Raises:
            ValueError: There is none until then.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                found = socket.getaddrinfo(self.master, self.port, type=socket.SOCK_DGRAM)
                family, kind, _, _, address = found[0]
                with socket.socket(family, kind) as probe:
                    probe.connect(address)  # sends nothing
                    return str(probe.getsockname()[0])
            except OSError as error:
                if time.monotonic() > deadline:
                    text = f"PET_MASTER_ADDR: {self.master}; reachable within {seconds:.0f} s"
                    raise ValueError(f"{text}: {error}") from error
                time.sleep(_RESOLVE_SECONDS)

    def rendezvous(self, *, seconds: int) -> tuple[list[str], str]:
        """Torchrun's flags by which several hosts meet at host 0, and this host's address there.

        With its static rendezvous, the default, no host could come back to a run.

        Args:
            seconds: Longest wait of one host for another.

        Raises:
            ValueError: There is no way to host 0 until then.
        """
        address = self.own_address(seconds=seconds)
        settings = {
            "is_host": int(self.number == 0),
            "join_timeout": seconds,
            "read_timeout": seconds,  # also how much later than this one host 0 may start
            # A host that is silent for three of these may be replaced.
            "keep_alive_interval": max(1, min(5, seconds // 10)),
        }
        flags = [
            *("--rdzv-backend=c10d", f"--rdzv-endpoint={self.master}:{self.port}"),
            # Torchrun makes a file's name of it, and a DAG's run has a slash.
            f"--rdzv-id={hashlib.sha256(self.run.encode()).hexdigest()[:16]}",
            f"--rdzv-conf={','.join(f'{name}={value}' for name, value in settings.items())}",
            f"--local-addr={address}",
        ]
        return flags, address


def interface_of(address: str) -> str:
    """Name of the interface that has one of this host's addresses.

    Raises:
        ValueError: None has it.
    """
    if ip_address(address).is_loopback:
        return "lo"
    for name, addresses in psutil.net_if_addrs().items():
        # An address that holds on one link has the link's name behind it.
        if address in {one.address.partition("%")[0] for one in addresses}:
            return name
    raise ValueError(f"address {address}: of no interface; GLOO_SOCKET_IFNAME names one")
