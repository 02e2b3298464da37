"""What is said of the rows of a day: in each file's footer, in the log, and to callers."""

import dataclasses
import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

FOOTER = b"ranking"
"""Key in a file's footer; its value describes the file's rows as JSON."""
Inputs = Mapping[str, str]
"""What a day was made of: names of inputs, such as ``impressions 2025-01-31``, and a hash or a
version of each."""


@dataclasses.dataclass(frozen=True)
class Partition:
    """One day of one table as written."""

    table: str
    day: datetime.date
    rows: int
    content_hash: str
    fingerprint: str = ""
    """Of the schema by which the rows were made; empty where that is not known."""
    corrected_at: datetime.datetime | None = None
    """Of impressions that were landed again after they had been used: from when they count."""
    stands_for: str = ""
    """Hash of the rows before those of erased users were taken out, of which others were made;
    empty: nothing was taken out."""


@dataclasses.dataclass(frozen=True)
class FileDescription:
    """What the files of a job say of their rows, beside their number and hashes."""

    fingerprint: str = ""
    """Of the schema by which they were made."""
    corrected_at: Mapping[datetime.date, datetime.datetime] = dataclasses.field(
        default_factory=dict
    )
    """Of days whose rows replace others that were used, from when they count."""
    stands_for: Mapping[datetime.date, tuple[str, str]] = dataclasses.field(default_factory=dict)
    """Of days from which rows of erased users were taken out, the hash before and that after: it
    holds for exactly those rows, whoever writes them."""

    @classmethod
    def of(cls, part: Partition) -> "FileDescription":
        """What the files of a day say that is written anew with what it has."""
        day = part.day
        return cls(
            part.fingerprint,
            {day: part.corrected_at} if part.corrected_at else {},
            {day: (part.stands_for, part.content_hash)} if part.stands_for else {},
        )


@dataclasses.dataclass(frozen=True)
class WrittenFile:
    """A Parquet file below the table's folder, and the sums of its rows' hashes."""

    path: str
    """Relative to the table's folder."""
    num_bytes: int
    day: datetime.date
    rows: int
    hash_sum: int
    """Sum of the hashes of the rows."""
    hash_xor: int
    """Exclusive or of the hashes of those hashes."""

    def footer(self, description: FileDescription) -> bytes:
        """What the file's footer says."""
        moment = description.corrected_at.get(self.day)
        said = _Footer(
            rows=self.rows,
            hash_sum=str(self.hash_sum),
            hash_xor=self.hash_xor,
            fingerprint=description.fingerprint,
            corrected_at=moment.isoformat() if moment else None,
            stands_for=list(description.stands_for.get(self.day, ())),
        )
        return json.dumps(said).encode()


class _Footer(TypedDict):
    rows: int
    hash_sum: str
    """As text: readers of JSON may round a number of this size."""
    hash_xor: int
    fingerprint: str
    corrected_at: str | None
    stands_for: NotRequired[list[str]]
    """Not in files of earlier versions."""


def partition_of(
    table: str,
    day: datetime.date,
    files: Sequence[WrittenFile],
    description: FileDescription,
) -> Partition:
    """One day's files, summed up; their order and number do not matter."""
    rows, total, mixed = 0, 0, 0
    for file in files:
        if file.day == day:
            rows, total, mixed = rows + file.rows, total + file.hash_sum, mixed ^ file.hash_xor
    text = f"{rows} {total} {mixed}" if rows else "0"
    content = hashlib.sha256(text.encode()).hexdigest()[:16]
    before, after = description.stands_for.get(day, ("", ""))
    return Partition(
        table,
        day,
        rows,
        content,
        description.fingerprint,
        description.corrected_at.get(day),
        before if after == content else "",
    )


def partition_from_footers(table: str, day: datetime.date, footers: Sequence[bytes]) -> Partition:
    """The same, from the footers of a day's files."""
    files = [written_file(day, footer) for footer in footers]
    first: _Footer = json.loads(footers[0])
    moment = first["corrected_at"]
    corrected_at = {day: datetime.datetime.fromisoformat(moment)} if moment else {}
    erased = first.get("stands_for", [])
    stands_for = {day: (erased[0], erased[1])} if erased else {}
    description = FileDescription(first["fingerprint"], corrected_at, stands_for)
    return partition_of(table, day, files, description)


def written_file(day: datetime.date, footer: bytes) -> WrittenFile:
    """What a file's footer says of its rows, without the file's path and size."""
    found: _Footer = json.loads(footer)
    return WrittenFile("", 0, day, found["rows"], int(found["hash_sum"]), found["hash_xor"])
