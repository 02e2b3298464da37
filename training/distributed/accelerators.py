"""What the data sheets say of the GPUs that plans are made for; imports no torch.

Sheets count both directions of a link; a transfer goes one way, so half of it stands here.

- A100: https://www.nvidia.com/en-us/data-center/a100/ (SXM4 of 80 GB), DGX A100 (8 × 200 Gb/s)
- H100: https://www.nvidia.com/en-us/data-center/h100/ (SXM5), DGX H100 (8 × 400 Gb/s)
- H200: https://www.nvidia.com/en-us/data-center/h200/ (SXM), DGX H200 (8 × 400 Gb/s)
- B200: https://www.nvidia.com/en-us/data-center/hgx/ (an eighth of HGX B200), DGX B200
  (8 × 400 Gb/s)
"""

import dataclasses

GB = 10**9
TERA = 10**12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Accelerator:
    """One GPU and its links; each figure may be replaced by a measured one."""

    name: str
    hbm_bytes: int
    hbm_bandwidth: float
    """Bytes a second between the device and its own memory."""
    nvlink_bandwidth: float
    """Bytes a second to the other devices of its host, one way."""
    network_bandwidth: float
    """Bytes a second to other hosts, one way, of the device's own adapter."""
    host_bandwidth: float
    """Bytes a second to the host's memory, one way."""
    bf16_flops: float
    """Peak of dense products a second, without structured sparsity."""
    tf32_flops: float
    """The same in TF32."""
    float32_flops: float
    """The same in full float32, outside the tensor cores."""
    product_names: tuple[str, ...]
    """Beginnings of what the driver calls it."""


_A100 = Accelerator(
    name="a100",
    hbm_bytes=80 * GB,
    hbm_bandwidth=2_039 * GB,
    nvlink_bandwidth=300 * GB,
    network_bandwidth=25 * GB,
    host_bandwidth=32 * GB,
    bf16_flops=312 * TERA,
    tf32_flops=156 * TERA,
    float32_flops=19.5 * TERA,
    product_names=("NVIDIA A100-SXM4-80GB",),
)
_H100 = Accelerator(
    name="h100",
    hbm_bytes=80 * GB,
    hbm_bandwidth=3_350 * GB,
    nvlink_bandwidth=450 * GB,
    network_bandwidth=50 * GB,
    host_bandwidth=64 * GB,
    bf16_flops=989 * TERA,
    tf32_flops=494 * TERA,
    float32_flops=67 * TERA,
    product_names=("NVIDIA H100 80GB HBM3",),
)
_H200 = dataclasses.replace(
    _H100,
    name="h200",
    hbm_bytes=141 * GB,
    hbm_bandwidth=4_800 * GB,
    product_names=("NVIDIA H200",),
)
_B200 = Accelerator(
    name="b200",
    hbm_bytes=180 * GB,
    hbm_bandwidth=8_000 * GB,
    nvlink_bandwidth=900 * GB,
    network_bandwidth=50 * GB,
    host_bandwidth=64 * GB,
    bf16_flops=2_250 * TERA,
    tf32_flops=1_125 * TERA,
    float32_flops=75 * TERA,
    product_names=("NVIDIA B200",),
)
ACCELERATORS = {one.name: one for one in (_A100, _H100, _H200, _B200)}
"""By name, the slowest first."""


def accelerator_of(product_name: str) -> Accelerator | None:
    """What the table has for a device that the driver names; None: another one.

    Cards for PCIe, and pairs of them (NVL), have other bandwidths and are others.
    """
    if "PCIe" in product_name or "NVL" in product_name:
        return None
    found = (one for one in ACCELERATORS.values() if product_name.startswith(one.product_names))
    return next(found, None)
