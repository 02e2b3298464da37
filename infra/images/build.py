"""Builds the images by buildah, without a container engine: ``python -m infra.images.build``.

Where pip finds packages is the builder's own configuration: the steps that install see it, and
nothing of it stays in an image. The base comes from a registry of images, or with ``--base`` out of
Debian's packages. Each image has a list of its Python packages in var/images (CycloneDX).
"""

import argparse
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from infra.images.locks import IMAGES as LOCKS
from infra.local.settings import REPOSITORY, Settings

FOLDER = REPOSITORY / "infra" / "images"
BASE = "docker.io/library/debian:bookworm-slim"
_CYCLONEDX = "cyclonedx-bom==7.5.0"
_OF_PIP = ("index-url", "extra-index-url", "find-links", "proxy", "trusted-host")
"""What pip's configuration says about where packages are."""
_LEFT_OUT = ("doc", "info", "locale", "man")
"""As in Debian's own slim image."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Image:
    """An image, the lock in it, and what its Containerfile is given."""

    name: str
    role: str
    lock: str
    arguments: tuple[str, ...] = ()


IMAGES = {
    image.name.removeprefix("ranking-"): image
    for image in (
        *(Image(name=f"ranking-{role}", role=role, lock=role) for role in ("airflow", "spark")),
        Image(name="ranking-train", role="train", lock="train-cpu"),
        Image(
            name="ranking-train-cuda",
            role="train",
            lock="train-cuda",
            arguments=("--build-arg=ACCELERATOR=cuda",),
        ),
        *(Image(name=f"ranking-{role}", role=role, lock=role) for role in ("serve", "mlflow")),
    )
}


def buildah(*arguments: str) -> str:
    """Run buildah, without namespaces unless it is told otherwise; returns its stdout.

    Raises:
        subprocess.CalledProcessError: It failed; its stderr is this process's.
    """
    environment = {"BUILDAH_ISOLATION": "chroot", **os.environ}
    done = subprocess.run(
        ["buildah", *arguments],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def build(image: Image, *, base: str, tag: str) -> dict[str, object]:
    """Build one image; returns its name, its size and the seconds that it took."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        options = [*builder_options(Path(folder)), *image.arguments, f"--build-arg=BASE={base}"]
        file = FOLDER / f"{image.role}.Containerfile"
        named = f"{image.name}:{tag}"
        buildah("bud", "--pull=false", *options, f"--file={file}", f"--tag={named}", ".")
    (found,) = json.loads(buildah("images", "--json", named))
    return {"image": named, "size": found["size"], "seconds": round(time.monotonic() - started)}


def make_base(base: str) -> dict[str, object]:
    """Make the base by mmdebstrap, of this machine's Debian archive; as root, some minutes."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        archive = str(Path(folder) / "base.tar")
        command = ["mmdebstrap", "--quiet", "--variant=apt", "--include=ca-certificates"]
        command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _LEFT_OUT]
        # Where the dates of the archive's mirror are not checked here, an image must not either.
        command += _apt_options("Acquire::Check-Valid-Until", "Acquire::Check-Date")
        sources = [str(path) for path in Path("/etc/apt/sources.list.d").glob("debian.sources")]
        subprocess.run([*command, "bookworm", archive, *sources], check=True)
        container = buildah("from", "scratch")
        buildah("add", "--quiet", container, archive, "/")
        buildah("commit", "--quiet", "--rm", container, base)
    return {"image": base, "seconds": round(time.monotonic() - started)}


def write_bill(image: Image, folder: Path) -> None:
    """Write the list of an image's Python packages, with their hashes, as CycloneDX in JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    bill = folder / f"{image.name}.cdx.json"
    tool = [sys.executable, "-m", "uv", "tool", "run", "--quiet", "--from", _CYCLONEDX]
    source = ["cyclonedx-py", "requirements", str(LOCKS / f"{image.lock}.txt")]
    subprocess.run([*tool, *source, "--output-reproducible", f"--output-file={bill}"], check=True)


def builder_options(made: Path) -> Iterator[str]:
    """Options that show the steps of a build what pip is set up with here."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    found = re.findall(r"^(?:global|install|:env:)\.([a-z-]+)='(.*)'$", listed, re.M)
    settings: dict[str, str] = dict(found)
    lines = [f"{key} = {settings[key]}" for key in _OF_PIP if key in settings]
    if authorities := settings.get("cert"):
        lines.append("cert = /run/secrets/authorities")
        yield f"--secret=id=authorities,src={authorities}"
    configuration = made / "pip.conf"
    configuration.write_text("\n".join(["[global]", *lines, ""]))
    yield f"--secret=id=pip,src={configuration}"
    for key in ("find-links", "index-url", "extra-index-url"):
        for text in settings.get(key, "").split():
            if urlsplit(text).scheme in {"", "file"}:
                folder = Path(urlsplit(text).path)
                # The pages of an index link to files that lie next to it.
                shown = folder if key == "find-links" else folder.parent
                yield f"--volume={shown}:{shown}:ro"


def _apt_options(*names: str) -> list[str]:
    dumped = subprocess.run(
        ["apt-config", "dump", *names], capture_output=True, text=True, check=True
    ).stdout
    return [f"--aptopt={line}" for line in dumped.splitlines()]


def image_parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """A command line that takes names of images, and their tag."""
    parser = argparse.ArgumentParser(
        prog=f"python -m infra.images.{module}", description=description
    )
    names = ", ".join(IMAGES)
    parser.add_argument("images", nargs="*", metavar="IMAGE", type=_image, help=names)
    parser.add_argument("--tag", default="latest", help="of the images (default: %(default)s)")
    return parser


def _image(name: str) -> Image:
    if name not in IMAGES:
        raise argparse.ArgumentTypeError(f"{name!r}: unknown; the images are {sorted(IMAGES)}")
    return IMAGES[name]


def main(arguments: Sequence[str]) -> int:
    """Build the images that are named, all without a name; prints a line of JSON for each."""
    parser = image_parser("build", __doc__)
    parser.add_argument("--base", default=BASE, help="image of Debian 12 (default: %(default)s)")
    parser.add_argument("--make-base", action="store_true", help="make it, instead of all else")
    options = parser.parse_args(arguments)
    if options.make_base:
        print(json.dumps(make_base(options.base)))
        return 0
    for image in options.images or IMAGES.values():
        write_bill(image, Settings.from_environment().var / "images")
        print(json.dumps(build(image, base=options.base, tag=options.tag)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
