"""Which devices a training takes, seen from a machine that has none."""

import logging

import pytest
import torch

from training.cli import torchrun
from training.distributed import device


@pytest.fixture
def cuda(monkeypatch):
    """Torch that sees so many CUDA devices, with the FBGEMM that is here or one for CUDA."""

    def see(devices: int, *, has_kernels: bool | None = None, cores: int = 8) -> None:
        device.num_cuda_devices.cache_clear()
        monkeypatch.setattr(torch.cuda, "is_available", lambda: devices > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
        monkeypatch.setattr(torchrun, "num_cores", lambda: cores)
        if has_kernels is not None:
            monkeypatch.setattr(device, "_has_cuda_kernels", lambda: has_kernels)
            monkeypatch.setattr(torchrun, "_is_cpu_build", lambda: not has_kernels)

    yield see
    device.num_cuda_devices.cache_clear()


def test_the_cpus_fbgemm_never_reaches_for_a_gpu_and_says_so_once(cuda, caplog, monkeypatch):
    """With the FBGEMM that is really installed."""
    if device._has_cuda_kernels():
        pytest.skip("installed for CUDA")
    monkeypatch.setenv("LOCAL_RANK", "0")
    cuda(4)
    with caplog.at_level(logging.WARNING):
        assert device.device_of_rank() == device.device_of_rank() == torch.device("cpu")
    (line,) = caplog.messages
    assert "4 CUDA devices" in line
    assert "training on the CPU" in line


def test_a_gpu_is_taken_where_both_can_use_it(cuda, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    cuda(4, has_kernels=True)
    assert device.device_of_rank() == torch.device("cuda", 3)


@pytest.mark.parametrize(
    ("devices", "has_kernels", "cores", "ranks"),
    [(4, True, 8, 4), (1, True, 8, 1), (4, False, 8, 2), (0, True, 8, 2), (0, False, 1, 1)],
)
def test_there_are_as_many_ranks_as_devices(cuda, devices, has_kernels, cores, ranks):
    cuda(devices, has_kernels=has_kernels, cores=cores)
    assert torchrun.default_ranks() == ranks


def test_the_build_that_is_installed_is_known_by_its_package_as_by_its_kernels():
    assert torchrun._is_cpu_build() is not device._has_cuda_kernels()
