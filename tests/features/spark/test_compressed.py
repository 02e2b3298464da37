"""Compressed texts: the rows of the plain ones, and a file that is cut off is found wherever."""

import bz2
import gzip
import io

import pytest
import zstandard
from ranking_landing import files as landed_files

from features.places import place
from features.spark import compressed, landing

TEXT = b"".join(b"%d,%d\n" % (n, n * n) for n in range(200_000))
FRAME = zstandard.ZstdCompressor(write_checksum=True).compress(TEXT)


def streamed(text: bytes) -> bytes:
    """As a loader writes it that does not know the size: without it in the frame."""
    held = io.BytesIO()
    with zstandard.ZstdCompressor(level=1).stream_writer(held, closefd=False) as writer:
        for start in range(0, len(text), 10_000):
            writer.write(text[start : start + 10_000])
    return held.getvalue()


SKIPPED = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"
WHOLE = {
    "gz": [gzip.compress(TEXT), gzip.compress(b"a\n") + gzip.compress(TEXT), gzip.compress(b"")],
    "zst": [
        *(FRAME, streamed(TEXT), FRAME + SKIPPED + FRAME),
        *map(zstandard.compress, (b"", b"a" * 300_000, b"b\n")),
    ],
}


@pytest.fixture
def is_whole(tmp_path):
    """What reader and sensor say of content, which must be the same."""

    def look(suffix, content):
        path = tmp_path / f"2025-03-01.csv.{suffix}"
        path.write_bytes(content)
        compressed._is_complete.cache_clear()
        found = landing.is_whole(place(path))
        assert landed_files.is_whole(place(path)) is found
        return found

    return look


@pytest.mark.parametrize(
    ("suffix", "number"), [(s, n) for s in WHOLE for n in range(len(WHOLE[s]))]
)
def test_a_file_counts_when_its_end_is_there(is_whole, suffix, number):
    content = WHOLE[suffix][number]
    assert is_whole(suffix, content)
    cuts = {len(content) - n for n in (1, 2, 5, 9, len(content) // 2)} - {0, -1, -2, -3}
    ends = {0, *(n for n in cuts if 0 < n < len(content))}
    for end in ends:
        is_end_of_frame = content[:end] in WHOLE[suffix] or end == len(FRAME)
        assert is_whole(suffix, content[:end]) is is_end_of_frame, end


def test_what_is_not_compressed_or_otherwise_does_not_count(is_whole):
    for suffix in WHOLE:
        assert not is_whole(suffix, b"a,b\n1,2\n")
        assert not is_whole(suffix, bz2.compress(TEXT))
        assert not is_whole(suffix, b"")
        assert not is_whole(suffix, WHOLE[suffix][0] + b"1,2\n")


def test_a_file_that_was_replaced_is_looked_at_again(tmp_path):
    path = place(tmp_path / "2025-03-01.csv.gz")
    path.write_bytes(gzip.compress(TEXT)[:-1])
    assert not landing.is_whole(path)
    path.write_bytes(gzip.compress(TEXT))
    assert landing.is_whole(path)
