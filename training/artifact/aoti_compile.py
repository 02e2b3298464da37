"""Compile the dense part for this machine: AOTInductor makes a library of it, without weights."""

import contextlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch

from features.datasets.catalog import schema_of
from features.places import place
from training.artifact.aoti_cache import (
    LIBRARY,
    NOTE,
    check_compiler,
    key_of,
    private_folder,
    stamp,
    work_prefix,
)
from training.artifact.aoti_runtime import NativeDense, NativeError, sha256
from training.artifact.manifest import read_manifest
from training.artifact.scorer import MAX_ROWS, Dense, ServedDense
from training.config.model import ModelConfig, model_from_dict
from training.model.inputs import Inputs, inputs_of
from training.model.ranker import InteractionArch

TOLERANCE = 1e-5
"""Largest difference of a probability from the eager one."""
_SIZES = (1, 2, 7, 100, 2_000)
"""Rows at which new code is compared with eager."""


def compile_dense(inputs: Inputs, config: ModelConfig, folder: Path) -> dict[str, object]:
    """Compile a dense part and keep the code; what was made, as plain values.

    The code is compared with eager before it is kept, so that code which this machine cannot run
    crashes this process and not a server.

    Raises:
        NativeError: No compiler, a failure of it, or other numbers than eager's.
    """
    check_compiler()
    key = key_of(inputs, config)
    with torch.random.fork_rng(devices=[]), _work(private_folder(folder)) as work:
        module = ServedDense(InteractionArch(inputs, config)).eval()
        _draw(module)
        made = _library(module, work)
        # Compared with weights that the compiler has not seen: none of its own may be in the code.
        _draw(module)
        difference = _checked_difference(NativeDense(made, module), module)
        entry = work / key
        entry.mkdir(mode=0o700)
        shutil.copyfile(made, entry / LIBRARY)
        note = {
            "sha256": sha256(entry / LIBRARY),
            "bytes": (entry / LIBRARY).stat().st_size,
            "difference": difference,
            "torch": torch.__version__,
            "stamp": stamp(),
        }
        (entry / NOTE).write_text(json.dumps(note))
        target = folder / key
        if target.exists():
            target.rename(work / "replaced")
        entry.rename(target)
    return {"key": key, **note}


def probe(artifact: str, library: str) -> None:
    """Compare the scores of existing code with eager's, in a process that it may crash.

    Raises:
        NativeError: It does not load, or gives other numbers.
    """
    manifest = read_manifest(place(artifact))
    config = model_from_dict(manifest.config["model"])
    inputs = inputs_of(schema_of(manifest.dataset))
    module = ServedDense(InteractionArch(inputs, config)).eval()
    _draw(module)
    _checked_difference(NativeDense(Path(library), module), module)


def _checked_difference(native: Dense, module: ServedDense) -> float:
    difference = _difference(native, module)
    if not difference <= TOLERANCE:
        raise NativeError(f"native code differs by {difference:.3g}; at most {TOLERANCE:g}")
    return difference


def _library(module: ServedDense, work: Path) -> Path:
    """Export for any number of rows and compile; the library has no weights in it."""
    tokens = module.interaction.tokens
    example = (torch.rand(8, tokens.num_dense), torch.randn(8, sum(tokens.widths)))
    rows = torch.export.Dim("rows", min=2, max=MAX_ROWS)
    settings = {
        "aot_inductor.package_constants_in_so": False,
        # Else weights of eight numbers or fewer, such as the last bias, would be part of the code.
        "always_keep_tensor_constants": True,
        # Else the number of threads at this moment would be part of the code.
        "cpp.dynamic_threads": True,
        # Two of 150 MB would stay in the temporary folder, and none is found again: their names
        # come from the folder of this work. They take longer to make than they save.
        "aot_inductor.precompile_headers": False,
        "compile_threads": 1,
    }
    with torch.no_grad():
        program = torch.export.export(module, example, dynamic_shapes=({0: rows}, {0: rows}))
        package = torch._inductor.aoti_compile_and_package(
            program, package_path=str(work / "dense.pt2"), inductor_configs=settings
        )
    # The package has the sources too, which are not needed where the code runs.
    with zipfile.ZipFile(package) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".so")]
        return Path(archive.extract(name, work / "package"))


def _draw(module: ServedDense) -> None:
    """Give all weights and statistics numbers at random.

    A fresh module's means, biases and norms are all 0 or all 1, and the compiler puts tensors of
    one value into the code, where the weights of a trained ranker cannot replace them.
    """
    with torch.no_grad():
        for value in (*module.parameters(), *module.buffers()):
            if value.is_floating_point() and value.ndim > 1:
                value.normal_(std=value.shape[-1] ** -0.5)
            elif value.is_floating_point():
                value.uniform_(0.5, 1.5)


def _difference(native: Dense, module: ServedDense) -> float:
    """The largest difference of a probability, over several sizes."""
    tokens = module.interaction.tokens
    worst = 0.0
    for size in _SIZES:
        example = (torch.rand(size, tokens.num_dense), torch.randn(size, sum(tokens.widths)))
        with torch.inference_mode():
            worst = max(worst, float((native(*example) - module(*example)).abs().max()))
    return worst


@contextlib.contextmanager
def _work(folder: Path) -> Iterator[Path]:
    """A folder for all that a compilation writes, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix=work_prefix(os.getpid()), dir=folder) as name:
        ours = {"TORCHINDUCTOR_CACHE_DIR": f"{name}/inductor", "TMPDIR": name}
        before = {variable: os.environ.get(variable) for variable in ours}
        os.environ |= ours
        try:
            yield Path(name)
        finally:
            for variable, value in before.items():
                os.environ.pop(variable)
                os.environ |= {} if value is None else {variable: value}
