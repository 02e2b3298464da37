"""``make tutorial``: ``docs/your-own-log.md`` as it is written, from a CSV file to a ranked answer.

Everything is below ``var/tutorial``. The last line of stdout is the answer of the endpoint.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from features.places import local_root
from infra.local.settings import REPOSITORY

PAGE = REPOSITORY / "docs" / "your-own-log.md"
_BLOCK = re.compile(r'^```bash(?P<minutes> title="minutes")?\n(?P<text>.*?)^```', re.M | re.S)


def script(folder: Path, *, minutes: bool) -> str:
    """The commands of the page, with all that they write below a folder.

    Args:
        folder: Takes the place of ``/tmp``, and has ``var``.
        minutes: Whether those too that train and serve.
    """
    blocks = [
        found["text"]
        for found in _BLOCK.finditer(PAGE.read_text(encoding="utf-8"))
        if minutes or not found["minutes"]
    ]
    text = re.sub(r"(?<=\s)var/", f"{folder}/var/", "".join(blocks))
    return text.replace("/tmp/shop", f"{folder}/shop")


def run(folder: Path, *, minutes: bool) -> "subprocess.CompletedProcess[str]":
    """Run the page's commands in one shell, at the root of the repository; stderr is ours.

    Raises:
        CalledProcessError: A command failed.
    """
    environment = {**os.environ, "RANKING_VAR": str(folder / "var")}
    environment.pop("RANKING_ROOT", None)
    return subprocess.run(
        ["bash", "-e", "-c", script(folder, minutes=minutes)],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )


def main() -> int:
    """Run all of the page; returns the exit code."""
    folder = (local_root() / "tutorial").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for left in (folder / "shop").glob("*.yaml"):
        left.unlink()
    started = time.monotonic()
    try:
        done = run(folder, minutes=True)
    except subprocess.CalledProcessError as error:
        sys.stdout.write(str(error.stdout))
        sys.stderr.write(f"error: {PAGE.name}: its commands ended with {error.returncode}\n")
        return 1
    sys.stdout.write(done.stdout)
    if '"outputs"' not in done.stdout.rsplit("\n", 2)[-1]:
        sys.stderr.write(f"error: {PAGE.name}: it does not end with a ranked answer\n")
        return 1
    sys.stderr.write(f"{time.monotonic() - started:.0f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
