"""The cache of native code of the dense part: kept by what it depends on, and verified.

An artifact contains data only. The code is compiled on the machine that serves, from the model's
configuration and without weights (``training.artifact.aoti_compile``); the artifact's weights are
copied in after the load. So tomorrow's weights of the same architecture reuse today's code. The
code is stored with its hash in a folder that only this user can write, under a key made of all that
shapes it.
"""

import ctypes
import dataclasses
import enum
import hashlib
import json
import logging
import os
import platform
import shutil
import signal
import stat
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Self

import torch
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from features.environment import Environment, Group
from features.places import Place, uri
from training.artifact.aoti_runtime import NativeError, sha256
from training.config.model import ModelConfig
from training.model.inputs import Inputs

logger = logging.getLogger(__name__)

SECONDS_AT_LOAD = 90.0
"""How long a version's load waits for a compilation; a server may load three versions at once, and
gives up a load after more than three times this (``serving.release.endpoint_client``)."""
SECONDS_OF_PROBE = 60.0
"""How long a load waits for the trial run of code that another build made."""
LIBRARY, NOTE = "dense.so", "dense.json"
"""Files of an entry: the code, and its hash."""
_SHAPING = (
    "artifact/aoti_cache",
    "artifact/aoti_runtime",
    "artifact/aoti_compile",
    "artifact/scorer",
    "model/ranker",
    "model/wukong",
    "model/baselines",
    "model/layers",
    "config/model",
)
"""Modules of this package that shape the code."""
_SOURCES = [
    hashlib.sha256((Path(__file__).parents[1] / f"{name}.py").read_bytes()).hexdigest()
    for name in _SHAPING
]
"""Their hashes when this process starts: it does not run what changes later."""


class Compile(enum.StrEnum):
    """Whether the dense part runs as native code."""

    OFF = "off"
    AUTO = "auto"
    """Where it can; eager, with a line in the log, where not."""
    REQUIRED = "required"
    """An artifact without it does not load."""


class Compiling(Group):
    """The variable of it; empty it is an error."""

    model_config = SettingsConfigDict(env_ignore_empty=False)

    mode: Compile = Field(default=Compile.AUTO, validation_alias="RANKING_COMPILE")
    """Whether the dense part is served as native code: never, where that can be made, or always."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NativeCode:
    """Whether native code is used, and the folder that keeps it."""

    mode: Compile
    folder: Path

    @classmethod
    def from_environment(cls, folder: Path, environment: Environment = os.environ) -> Self:
        """In some folder, as RANKING_COMPILE says."""
        return cls(mode=Compiling.from_environment(environment).mode, folder=folder)


def native_library(
    native: NativeCode, artifact: Place, *, inputs: Inputs, config: ModelConfig
) -> Path:
    """Verified native code of an artifact's dense part; compiled first, in a process, if missing.

    Args:
        native: Where it is kept.
        artifact: The artifact's folder.
        inputs: What the model reads.
        config: The model's configuration.

    Raises:
        NativeError: There is none and none can be made, or it must not be trusted.
    """
    entry = ensure(native, artifact, inputs=inputs, config=config, seconds=SECONDS_AT_LOAD)
    library = verified(entry)
    _prove(entry, artifact)
    return library


def ensure(
    native: NativeCode, artifact: Place, *, inputs: Inputs, config: ModelConfig, seconds: float
) -> Path:
    """The entry of an artifact's native code, compiled in a process where there is none.

    Args:
        native: Where it is kept.
        artifact: The artifact's folder.
        inputs: What the model reads.
        config: The model's configuration.
        seconds: How long a compilation may take.

    Raises:
        NativeError: There is none and none can be made, or the folder must not be trusted.
    """
    folder = private_folder(native.folder, apart_from=artifact)
    entry = folder / key_of(inputs, config)
    try:
        verified(entry)
    except NativeError as error:
        logger.info("compiling %s: %s", entry.name, error)
        _compile_apart(artifact, folder, seconds=seconds)
    return entry


def verified(entry: Path) -> Path:
    """The library of a cache entry whose hash is as it was noted when it was made.

    Raises:
        NativeError: There is none, or it is not what was made; names the file.
    """
    library = entry / LIBRARY
    try:
        expected = json.loads((entry / NOTE).read_text())["sha256"]
        found = sha256(library)
    except FileNotFoundError as error:
        raise NativeError(f"{error.filename}: no native code yet") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NativeError(f"{entry}: cannot be read: {error}") from error
    if found != expected:
        raise NativeError(f"{library}: sha256 {found}; expected {expected}")
    return library


def stamp() -> dict[str, str]:
    """The build that native code is linked against: torch's, its interface for it, and C's."""
    torchs = ctypes.CDLL(str(Path(torch.__file__).with_name("lib") / "libtorch_cpu.so"))
    interface = torchs.aoti_torch_abi_version
    interface.restype = ctypes.c_uint64
    return {
        "torch": torch.__version__,
        "git": str(torch.version.git_version),
        "interface": f"{interface():x}",
        "libc": "-".join(platform.libc_ver()),
    }


def _prove(entry: Path, artifact: Place) -> None:
    """Let code of another build score in a process of its own first, which it may crash.

    Code of this build was tried there when it was made.

    Raises:
        NativeError: It crashes its process, or its scores differ from eager's.
    """
    note = json.loads((entry / NOTE).read_text())
    if note.get("stamp") == stamp():
        return
    logger.info("trying %s: made by %s, not by %s", entry.name, note.get("stamp"), stamp())
    program = "import sys; from training.artifact.aoti_compile import probe; probe(*sys.argv[1:])"
    command = [sys.executable, "-c", program, uri(artifact), str(entry / LIBRARY)]
    _run_apart(command, "probe", seconds=SECONDS_OF_PROBE)
    proven = entry / f".{NOTE}.{os.getpid()}"
    proven.write_text(json.dumps({**note, "stamp": stamp()}))
    proven.replace(entry / NOTE)


def private_folder(folder: Path, *, apart_from: Place | None = None) -> Path:
    """A folder for native code, made where there is none.

    Raises:
        NativeError: Others than this user may write it, it belongs to another one, it cannot be
            made, or it lies in ``apart_from``, such as an artifact, which brings data only.
    """
    resolved = folder.resolve()
    if isinstance(apart_from, Path) and resolved.is_relative_to(apart_from.resolve()):
        raise NativeError(f"{resolved}: inside the artifact {apart_from}; a folder elsewhere")
    try:
        resolved.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = resolved.stat()
    except OSError as error:
        raise NativeError(f"{resolved}: {error.strerror}") from error
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid != os.getuid() or mode & 0o077:
        raise NativeError(
            f"{resolved}: owner {found.st_uid}, mode {mode:o}; must be of user {os.getuid()}, 700"
        )
    return resolved


def key_of(inputs: Inputs, config: ModelConfig) -> str:
    """Thirty-two hexadecimal digits of everything that shapes the code: model, versions, CPU."""
    content = {
        "sparse": [sparse.name for sparse in inputs.sparse],
        "dense": [kind.value for kind in inputs.dense],
        "model": dataclasses.asdict(config),
        "versions": [torch.__version__, version("torchrec"), platform.python_version()],
        "sources": _SOURCES,
        "cpu": [platform.machine(), torch.backends.cpu.get_cpu_capability(), *_cpu()],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _cpu() -> list[str]:
    """Model and instruction sets of the first core."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return [platform.processor()]
    return [line for line in lines if line.startswith(("model name", "flags", "Features"))]


def work_prefix(process: int) -> str:
    """Prefix of the folder in which a process compiles."""
    return f".compiling-{process}-"


def _compile_apart(artifact: Place, folder: Path, *, seconds: float) -> None:
    """Compile in a process of its own, so that a running server keeps answering."""
    check_compiler()
    command = [sys.executable, "-m", "training", "compile"]
    command += [f"--artifact={uri(artifact)}", f"--compiled={folder}"]
    _run_apart(command, "compilation", seconds=seconds, folder=folder)


def _run_apart(
    command: list[str], what: str, *, seconds: float, folder: Path | None = None
) -> None:
    """Run a process to its end; NativeError where it fails or takes too long.

    Args:
        command: The process.
        what: Its name in the error.
        seconds: How long it may take.
        folder: Where a killed process leaves its temporary files.
    """
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            _, log = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)  # the compiler is its child
            for left in folder.glob(f"{work_prefix(process.pid)}*") if folder else ():
                shutil.rmtree(left, ignore_errors=True)
            raise NativeError(f"{what}: not done in {seconds:g} s") from error
    if process.returncode < 0:
        raise NativeError(f"{what}: ended by {signal.Signals(-process.returncode).name}")
    if process.returncode:
        said = log.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
        raise NativeError(f"{what}: {said[0]}")


def check_compiler() -> None:
    """NativeError where there is no C++ compiler."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise NativeError(f"compilation: {compiler} not found; CXX names another compiler")
