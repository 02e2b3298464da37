"""The size classes of jobs on Kubernetes: one YAML table, checked when it is read."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|Ki|Mi|Gi|Ti)?$")]
"""As Kubernetes writes amounts: ``500m`` cores, ``4Gi`` bytes."""
SecretKey = Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")]
"""The name of a Secret and a key of it, with a slash between them."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Spark(_Strict):
    """The executors of a Spark job, whose driver is the job's own pod."""

    executors: int = Field(ge=1)
    cores: int = Field(ge=1)
    """Of each executor."""
    memory: str = Field(pattern=r"^[0-9]+[mg]$")
    """Of each executor, as Spark writes it: ``4g``."""
    driver_memory: str = Field(pattern=r"^[0-9]+[mg]$")
    """Heap of the driver; the pod's limit must leave room for Python beside it."""
    settings: dict[str, str] = {}
    """More of Spark's settings, by their names."""
    master: str = Field(
        default="k8s://https://kubernetes.default.svc:443", pattern=r"^k8s://https?://"
    )


class Size(_Strict):
    """What a job of this class gets."""

    image: str = Field(min_length=1)
    service_account: str = Field(min_length=1)
    component: Literal["job", "spark", "train", "rollout"] = "job"
    """What the network policies let its pods reach."""
    requests: dict[str, Quantity]
    limits: dict[str, Quantity]
    gpus: int = Field(default=0, ge=0)
    """NVIDIA GPUs; on several nodes, of each."""
    node_selector: dict[str, str] = {}
    tolerations: list[dict[str, str]] = []
    environment: dict[str, str] = {}
    secrets: dict[str, SecretKey] = {}
    """Variables whose values are keys of Secrets."""
    spark: Spark | None = None
    num_nodes: int | None = Field(default=None, ge=1)
    """Set: the job is a TrainJob on so many nodes; else it is a pod."""
    runtime: str = "ranking-torch"
    """ClusterTrainingRuntime of a TrainJob."""

    def resources(self) -> dict[str, dict[str, str]]:
        """Of the container, GPUs included."""
        gpus = {"nvidia.com/gpu": str(self.gpus)} if self.gpus else {}
        return {"requests": {**self.requests, **gpus}, "limits": {**self.limits, **gpus}}


class Sizes(_Strict):
    """The whole table."""

    namespace: str = Field(pattern=r"^[a-z0-9-]{1,63}$")
    """Where all jobs run."""
    sizes: dict[str, Size]

    def size(self, name: str) -> Size:
        """One class; ValueError with the names that exist."""
        if name not in self.sizes:
            raise ValueError(f"size {name!r}: unknown; the sizes are {sorted(self.sizes)}")
        return self.sizes[name]


def read_sizes(file: Path) -> Sizes:
    """Read the table.

    Each class has what ``defaults`` says, unless it says so itself.

    Raises:
        ValueError: No YAML, or a value that may not be: names the field, the value and the limit.
    """
    try:
        table = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{file}: not YAML: {error}") from error
    if isinstance(table, dict) and isinstance(table.get("sizes"), dict):
        defaults = table.pop("defaults", None) or {}
        sizes = {name: {**defaults, **(own or {})} for name, own in table["sizes"].items()}
        table = {**table, "sizes": sizes}
    try:
        return Sizes.model_validate(table)
    except ValidationError as error:
        found = [
            f"{'.'.join(map(str, one['loc'])) or 'the file'}: {one['input']!r}; {one['msg']}"
            for one in error.errors()
        ]
        raise ValueError(f"{file}: " + "\n".join(found)) from error
