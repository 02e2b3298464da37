"""A candidate: files of some days that no version names yet, listed by a small manifest.

One job writes them, the next judges what would be published, and only then does a commit name them.
Until then the version before is live. A candidate that was not published stays for a person to look
at, until another takes its place or ``prune`` removes it.
"""

import dataclasses
import datetime
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

from features.lake.commit import commit
from features.lake.day_rows import (
    FileDescription,
    Inputs,
    Partition,
    WrittenFile,
    partition_of,
)
from features.lake.snapshot import listed
from features.places import Place, arrow_file, put_whole

FOLDER = "_candidates"
"""Beside the tables; no engine takes it for one."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """Some days of a table as they would be published."""

    table: str
    base: Mapping[datetime.date, int]
    """The days, each with how often it had been replaced when the job began."""
    files: Sequence[WrittenFile]
    struct: str
    """Columns, as JSON that Spark and Delta share."""
    description: FileDescription
    metadata: Mapping[str, object]
    """What the log will say of the commit."""
    made_of: Mapping[datetime.date, Inputs] = dataclasses.field(default_factory=dict)
    """What each day was made of, where that is known."""
    token: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)
    """Of the commit, so that one who publishes it twice commits once."""

    @property
    def days(self) -> list[datetime.date]:
        """The days, oldest first."""
        return sorted(self.base)

    def partitions(self) -> list[Partition]:
        """What each day would hold."""
        return [partition_of(self.table, day, self.files, self.description) for day in self.days]

    def publish(self, lake: Place) -> int:
        """Commit the files, unless that is done; returns the version.

        Raises:
            ConflictError: Another job has replaced one of the days meanwhile.
        """
        hashes = {str(part.day): part.content_hash for part in self.partitions()}
        rows = {str(part.day): part.rows for part in self.partitions()}
        return commit(
            lake / self.table,
            self.files,
            self.base,
            struct=self.struct,
            metadata={
                **self.metadata,
                "content_hashes": hashes,
                "rows": rows,
                "made_of": _by_text(self.made_of),
            },
            token=self.token,
        )

    def with_input(self, table: str, version: int) -> "Candidate":
        """The same, made from a version of another table that was published after it was staged."""
        inputs = self.metadata.get("inputs")
        read = {**(inputs if isinstance(inputs, dict) else {}), table: version}
        return dataclasses.replace(self, metadata={**self.metadata, "inputs": read})

    def put(self, lake: Place, days: Sequence[datetime.date]) -> Place:
        """Write the manifest; one that was there for these days gives way.

        Args:
            lake: The data set's folder.
            days: Of the job, by which the candidate is found again; the candidate may have others.

        Returns:
            The manifest.
        """
        moments = self.description.corrected_at
        content = _Manifest(
            base={str(day): number for day, number in self.base.items()},
            made_of=_by_text(self.made_of),
            files=[
                {**dataclasses.asdict(file), "day": str(file.day), "hash_sum": str(file.hash_sum)}
                for file in self.files
            ],
            struct=self.struct,
            fingerprint=self.description.fingerprint,
            corrected_at={str(day): moment.isoformat() for day, moment in moments.items()},
            stands_for={str(day): list(two) for day, two in self.description.stands_for.items()},
            metadata=dict(self.metadata),
            token=self.token,
        )
        file = manifest(lake, self.table, days)
        put_whole(file, json.dumps(content, indent=1).encode())
        return file


class _Manifest(TypedDict):
    base: dict[str, int]
    made_of: dict[str, dict[str, str]]
    files: list[dict[str, str | int]]
    struct: str
    fingerprint: str
    corrected_at: dict[str, str]
    stands_for: NotRequired[dict[str, list[str]]]
    metadata: dict[str, object]
    token: str


def joined(parts: Sequence[Candidate]) -> Candidate:
    """Candidates of different days of one table as one."""
    return dataclasses.replace(
        parts[0],
        base={day: number for part in parts for day, number in part.base.items()},
        files=[file for part in parts for file in part.files],
        made_of={day: inputs for part in parts for day, inputs in part.made_of.items()},
    )


def _by_text(made_of: Mapping[datetime.date, Inputs]) -> dict[str, dict[str, str]]:
    return {str(day): dict(inputs) for day, inputs in made_of.items()}


def candidate(lake: Place, table: str, days: Sequence[datetime.date]) -> Candidate | None:
    """What a job of exactly these days has put for a table; None where there is nothing."""
    try:
        content: _Manifest = json.loads(manifest(lake, table, days).read_bytes())
    except FileNotFoundError:
        return None
    date, moment = datetime.date.fromisoformat, datetime.datetime.fromisoformat
    return Candidate(
        table,
        {date(day): number for day, number in content["base"].items()},
        [
            WrittenFile(
                str(found["path"]),
                int(found["num_bytes"]),
                date(str(found["day"])),
                int(found["rows"]),
                int(found["hash_sum"]),
                int(found["hash_xor"]),
            )
            for found in content["files"]
        ],
        content["struct"],
        FileDescription(
            content["fingerprint"],
            {date(day): moment(text) for day, text in content["corrected_at"].items()},
            {date(day): (two[0], two[1]) for day, two in content.get("stands_for", {}).items()},
        ),
        content["metadata"],
        {date(day): inputs for day, inputs in content.get("made_of", {}).items()},
        content["token"],
    )


def candidates(lake: Place, table: str) -> list[str]:
    """Names of the candidates of a table: first and last day."""
    return [name.removesuffix(".json") for name, _ in listed(lake / FOLDER / table)]


def remove_candidates(lake: Place, table: str, *, before: datetime.datetime) -> list[str]:
    """Remove the candidates of which a file was written before some moment, or is gone.

    A vacuum that spares what is younger would leave them with files missing. Returns their names.
    """
    files, folder = arrow_file(lake / table)
    removed = []
    for name in candidates(lake, table):
        manifest = lake / FOLDER / table / f"{name}.json"
        content: _Manifest = json.loads(manifest.read_bytes())
        found = files.get_file_info([f"{folder}/{file['path']}" for file in content["files"]])
        if any(not info.is_file or info.mtime < before for info in found):
            manifest.unlink(missing_ok=True)
            removed.append(name)
    return removed


def manifest(lake: Place, table: str, days: Sequence[datetime.date]) -> Place:
    """The file that lists the candidate of a job of some days."""
    span = f"{min(days)}_{max(days)}"
    return lake / FOLDER / table / f"{span}.json"
