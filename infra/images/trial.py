"""Runs in each image what it is for: ``python -m infra.images.trial``, after the build.

A trial is a script of ``trials``, which the image's user runs with an artifact and a request of
made-up data. It fails as its script does, and where an image is larger than it may be.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from features.datasets.catalog import schema_of
from infra.images.build import FOLDER, IMAGES, Image, buildah, image_parser
from tests.support.training.artifacts import write_random

MOST_GIGABYTES = {"ranking-serve": 2.0}
"""Of an image that is fetched while callers wait for one more server."""
_OF_THE_DRIVER = (
    *("nvmlInit_v2", "nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2"),
    *("nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetNvLinkRemotePciInfo_v2", "nvmlDeviceGetNvLinkState"),
)
"""What FBGEMM asks of the library that a node's driver brings into a container."""
_DRIVER_NOT_LOADED = 9
"""NVML_ERROR_DRIVER_NOT_LOADED of NVIDIA's management library."""
_REQUEST = {
    "inputs": [
        {"name": "user_id", "shape": [1], "datatype": "INT64", "data": [7]},
        {"name": "item_id", "shape": [3], "datatype": "INT64", "data": [1, 2, 3]},
    ]
}


def try_image(image: Image, *, tag: str, folder: Path) -> dict[str, object]:
    """Run the trial of an image; returns its size and the seconds that the trial took.

    Raises:
        subprocess.CalledProcessError: The trial failed; its output is this process's.
        ValueError: The image is too large.
    """
    started = time.monotonic()
    with _container(f"{image.name}:{tag}") as container:
        shown = [f"--volume={FOLDER / 'trials'}:/trials:ro", f"--volume={folder}:/trial:ro"]
        if image.lock.endswith("cuda") and not Path("/dev/nvidiactl").exists():
            shown.append("--env=LD_LIBRARY_PATH=/trial/driver")
        command = ["python", f"/trials/try_{image.role}.py"]
        said = buildah("run", "--user=1000:1000", *shown, container, "--", *command)
    size = gigabytes(f"{image.name}:{tag}")
    if size > (most := MOST_GIGABYTES.get(image.name, size)):
        raise ValueError(f"{image.name}: {size} GB; at most {most}")
    seconds = round(time.monotonic() - started)
    return {"image": image.name, "gigabytes": size, "seconds": seconds, "said": said[-2000:]}


def gigabytes(named: str) -> float:
    """Size of an image, unpacked."""
    (found,) = json.loads(buildah("images", "--json", named))
    number, unit = str(found["size"]).split()
    return float(number) / {"GB": 1, "MB": 1000}[unit]


def _write_driver(folder: Path) -> None:
    """A stand-in for the driver's library, which answers that there is no driver.

    Without one FBGEMM's build for CUDA is not loaded, and a machine without a GPU has none.
    """
    folder.mkdir()
    functions = (f"int {name}(void) {{ return {_DRIVER_NOT_LOADED}; }}" for name in _OF_THE_DRIVER)
    compiler = ["cc", "-shared", "-x", "c", "-o", str(folder / "libnvidia-ml.so.1"), "-"]
    subprocess.run(compiler, input="\n".join(functions), text=True, check=True)


@contextmanager
def _container(named: str) -> Iterator[str]:
    container = buildah("from", "--pull-never", named)
    try:
        yield container
    finally:
        buildah("rm", container)


def main(arguments: Sequence[str]) -> int:
    """Try the images that are named, all without a name; prints a line of JSON for each."""
    options = image_parser("trial", __doc__).parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_random(folder, schema_of("synthetic")).rename(folder / "artifact")
        (folder / "request.json").write_text(json.dumps(_REQUEST))
        _write_driver(folder / "driver")
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)
        for image in options.images or IMAGES.values():
            print(json.dumps(try_image(image, tag=options.tag, folder=folder)), flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (ValueError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {error}")
