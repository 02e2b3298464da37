"""Has a day landed as a file, or as a folder of files? The rule that the sensor applies.

It is that of ``features.spark.landing`` and ``features.spark.compressed``, which a DAG file must
not import; tests compare them.
"""

import io
import zlib
from pathlib import Path
from typing import BinaryIO

from upath import UPath

ENDS = {".parquet": b"PAR1", ".tsv": b"\n", ".csv": b"\n", ".jsonl": b"\n"}
"""Last bytes of a file that is whole, by the end of its name."""
_CHUNK = 1 << 20
_ZST, _SKIPPED = 0xFD2FB528, range(0x184D2A50, 0x184D2A60)
"""First four bytes of a frame, little-endian; frames of the second kind have no rows."""


def has_landed(path: UPath, marker: str = "") -> bool:
    """Whether a day is there and was written to its end.

    Args:
        path: The day's file or folder.
        marker: File without which it does not count: within the folder, or next to the file where
            its name has ``{day}``. Empty: none is asked for.
    """
    if marker and not _marker_of(path, marker).exists():
        return False
    return is_whole(path, has_marker=bool(marker))


def is_whole(path: UPath, *, has_marker: bool = False) -> bool:
    """Whether a file, or every file of a folder, was written to its end."""
    if not path.exists():
        return False
    files = [path]
    if path.is_dir():
        entries = list(path.iterdir())
        names = {entry.name for entry in entries}
        # On a disk it is renamed into place; elsewhere Spark puts its mark last.
        is_complete = has_marker or isinstance(path, Path) or "_SUCCESS" in names
        if not is_complete or "_temporary" in names:
            return False
        files = [entry for entry in entries if entry.name[0] not in "._"]
    return all(_ends_well(file) for file in files)


def _marker_of(path: UPath, marker: str) -> UPath:
    if "{day}" in marker:
        return path.parent / marker.replace("{day}", path.name[: len("2025-01-31")])
    return path / marker


def _ends_well(file: UPath) -> bool:
    end = ENDS.get(file.suffix, b"")
    with file.open("rb") as content:
        if file.suffix == ".gz":
            return _is_whole_gz(content)
        if file.suffix == ".zst":
            return _is_whole_zst(content)
        size = content.seek(0, io.SEEK_END)
        content.seek(max(0, size - len(end)))
        return content.read() == end if end else True


def _is_whole_gz(content: BinaryIO) -> bool:
    """Inflate it: only the end of each member says that it is whole, with its checksum."""
    member, num_members, is_inside = zlib.decompressobj(wbits=31), 0, False
    while chunk := content.read(_CHUNK):
        while chunk:
            try:
                member.decompress(chunk)
            except zlib.error:
                return False
            chunk, is_inside = member.unused_data, not member.eof
            if member.eof:
                member, num_members = zlib.decompressobj(wbits=31), num_members + 1
    return num_members > 0 and not is_inside


def _is_whole_zst(content: BinaryIO) -> bool:
    """Go from block to block by their sizes (RFC 8878, 3.1), which needs no decompression."""
    size = content.seek(0, io.SEEK_END)
    content.seek(0)
    num_frames = 0
    while head := content.read(4):
        magic = int.from_bytes(head, "little")
        if magic in _SKIPPED:
            content.seek(int.from_bytes(content.read(4), "little"), io.SEEK_CUR)
        elif magic != _ZST or not _skip_frame(content):
            return False
        num_frames += magic == _ZST
        if content.tell() > size:
            return False
    return num_frames > 0


def _skip_frame(content: BinaryIO) -> bool:
    """Go behind a frame, which may be behind the end of the file; false where a block is none."""
    descriptor = int.from_bytes(content.read(1), "little")
    is_single = descriptor >> 5 & 1
    size_of_size = ((1, 2, 4, 8) if is_single else (0, 2, 4, 8))[descriptor >> 6]
    content.seek(1 - is_single + (0, 1, 2, 4)[descriptor & 3] + size_of_size, io.SEEK_CUR)
    is_last = False
    while not is_last:
        block = content.read(3)
        if len(block) < 3:
            return False
        header = int.from_bytes(block, "little")
        is_last, is_repeated = bool(header & 1), header >> 1 & 3 == 1
        content.seek(1 if is_repeated else header >> 3, io.SEEK_CUR)
    content.seek(4 * (descriptor >> 2 & 1), io.SEEK_CUR)
    return True
