"""Places: where data lie, on a disk or in an object store, each named by a URI below one root.

``RANKING_ROOT`` is the root: a folder, ``file:/…`` or ``s3://bucket/prefix``; not set, it is the
folder ``RANKING_VAR``. A place is a ``UPath``: it has the methods of ``pathlib.Path`` wherever it
lies. What an object store does not have is a rename: a file is put whole (``put_whole``), and a
folder counts from when its manifest, put last, is there.

Credentials come from the environment, or the usual chain of AWS, and are never part of a place.
"""

import contextlib
import json
import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from upath import UPath

if TYPE_CHECKING:
    import pyarrow.fs as pafs

Place = UPath
ROOT = "RANKING_ROOT"
_SCHEMES = ("", "file", "s3")


def place(text: str | os.PathLike[str] | Place) -> Place:
    """The place that a URI or a path names; ValueError for a scheme that nothing here can reach."""
    name = str(text)
    scheme = urlsplit(name).scheme if "://" in name or name.startswith("file:") else ""
    if scheme not in _SCHEMES:
        raise ValueError(f"place {name}: scheme {scheme}; a path, file:/path or s3://bucket/path")
    if scheme == "file":
        return UPath(urlsplit(name).path)
    if scheme == "s3":
        # Listings are not kept: other processes write too.
        return UPath(name, use_listings_cache=False)
    return UPath(name)


def root() -> Place:
    """The place below which all data lie, as the environment says."""
    return place(os.environ.get(ROOT) or local_root())


def local_root() -> Path:
    """The folder of this machine for what is no data: databases, caches, native code."""
    return Path(os.environ.get("RANKING_VAR") or "var")


def is_local(where: Place) -> bool:
    """Whether a place is on a disk of this machine."""
    return isinstance(where, Path)


def uri(where: Place) -> str:
    """The absolute URI of a place, as engines take it; for a place on a disk, the absolute path."""
    return str(where.absolute()) if isinstance(where, Path) else str(where)


def arrow_file(where: Place) -> tuple["pafs.FileSystem", str]:
    """Arrow's file system of a place, and the place's path in it."""
    import pyarrow.fs as pafs  # a tenth of a second, which no --help has to wait for

    if isinstance(where, Path):
        return pafs.LocalFileSystem(), str(where)
    return _arrow_s3(), where.path


def read_object(where: Place) -> dict[str, object]:
    """The JSON object of a file; empty where there is none.

    Raises:
        ValueError: It is no JSON object.
    """
    if not where.exists():
        return {}
    try:
        return dict(json.loads(where.read_bytes()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"result {where}: no JSON object: {error}") from error


def put_whole(where: Place, content: bytes) -> None:
    """Write a file so that a reader finds all of it, or what was there before."""
    if not isinstance(where, Path):
        where.write_bytes(content)
        return
    where.parent.mkdir(parents=True, exist_ok=True)
    part = where.with_name(f".{where.name}-{uuid.uuid4().hex[:12]}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            # Else a loss of power may leave the name with nothing behind it.
            os.fsync(file.fileno())
        os.replace(part, where)
    finally:
        part.unlink(missing_ok=True)


def put_new(where: Place, content: bytes) -> None:
    """Write a file that must not be there yet, whole; FileExistsError where it is.

    Of several that write one name at once, one succeeds.
    """
    if not isinstance(where, Path):
        try:
            where.fs.pipe_file(where.path, content, mode="create")
        except OSError as error:
            if where.exists():
                raise FileExistsError(f"{where}: is there already") from error
            raise
        return
    where.parent.mkdir(parents=True, exist_ok=True)
    part = where.with_name(f".{where.name}-{uuid.uuid4().hex[:12]}.part")
    try:
        part.write_bytes(content)
        os.link(part, where)
    finally:
        part.unlink(missing_ok=True)


def remove_folder(where: Place, *, first: str = "") -> None:
    """Remove a folder and all in it; nothing where it is not there.

    Args:
        where: The folder.
        first: The file without which it does not count, such as its manifest: a removal that is
            cut off leaves no folder that seems to be whole.
    """
    if first:
        (where / first).unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if isinstance(where, Path):
            shutil.rmtree(where)
        else:
            where.fs.rm(where.path, recursive=True)


def get_folder(where: Place, folder: Path) -> None:
    """Copy a folder out of an object store; nothing where it is not there."""
    with contextlib.suppress(FileNotFoundError):
        where.fs.get(f"{where.path}/", f"{folder}/", recursive=True)


def put_changed(folder: Path, where: Place, *, since: float) -> None:
    """Copy what was written in a folder from ``since`` (epoch seconds) on into an object store."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    changed = [file for file in files if file.stat().st_mtime >= since]
    targets = [(where / file.relative_to(folder).as_posix()).path for file in changed]
    where.fs.put([str(file) for file in changed], targets)


def _arrow_s3() -> "pafs.FileSystem":
    """Arrow reads credentials from the environment, and not the address of the server."""
    import pyarrow.fs as pafs

    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    address = urlsplit(endpoint)
    return pafs.S3FileSystem(
        endpoint_override=address.netloc or None,
        scheme=address.scheme or None,
        region=region or ("us-east-1" if endpoint else None),
    )
