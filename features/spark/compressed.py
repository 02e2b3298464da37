"""Whether a compressed file was written to its end.

``dags/ranking_sources/landed_files.py`` has the same rule and imports no package of ours; tests
compare them.
"""

import functools
import io
import zlib
from typing import BinaryIO

from features.places import Place, place, uri

SUFFIXES = (".gz", ".zst")
_CHUNK = 1 << 20
_ZST, _SKIPPED = 0xFD2FB528, range(0x184D2A50, 0x184D2A60)
"""First four bytes of a frame, little-endian; frames of the second kind have no rows."""


def is_complete(file: Place) -> bool:
    """Whether a ``.gz`` or ``.zst`` file has the end that its compressor wrote.

    A file is read through once, and again when it has changed: a push looks every second.
    """
    stat = file.stat()
    return _is_complete(uri(file), stat.st_size, stat.st_mtime)


@functools.lru_cache(maxsize=4096)
def _is_complete(name: str, _size: int, _changed: float) -> bool:
    file = place(name)
    with file.open("rb") as content:
        return _is_whole_gz(content) if file.suffix == ".gz" else _is_whole_zst(content)


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
