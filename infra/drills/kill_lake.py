"""``make drill-lake``: kill -9 a writer of a table at random moments, and report what was lost.

The writer replaces all days of a table again and again, as jobs do: files, a candidate, a commit,
a vacuum that keeps the last versions. It is killed and started again, on a disk and on an S3
server, while a reader checks all the time that it sees one whole version. At last the same rows are
written to the table and to one that nobody has disturbed, and a vacuum removes what is left.
"""

import contextlib
import datetime
import itertools
import json
import multiprocessing
import os
import random
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
from deltalake import Schema as DeltaSchema

from features.lake.candidate import Candidate, candidate
from features.lake.commit import ConflictError, vacuum
from features.lake.day_file import MIXED_HASH, ROW_HASH, DayFile
from features.lake.day_rows import FileDescription
from features.lake.snapshot import snapshot
from features.options import from_flags, option, parse
from features.places import Place, arrow_file, place
from features.schema import DAY
from infra.local.servers import ObjectStore

TABLE = "drilled"
DAYS = [datetime.date(2025, 1, 1) + datetime.timedelta(days=n) for n in range(4)]
FILES_PER_DAY, ROWS_PER_FILE = 2, 5_000
KEPT_VERSIONS = 8
"""A reader takes no longer than so many commits."""
MOST_ROUNDS = 10
"""A writer is killed after as many at most, of those that a process alone takes."""
LAST_ROUND = 1_000_000
COLUMNS = pa.schema([("round", pa.int64()), ("value", pa.float64())])
_SPAWN = multiprocessing.get_context("spawn")


@from_flags
class DrillRequest:
    """Kill a writer of a table again and again, and report what was lost."""

    kills: int = option("how many, on a disk and in an object store each", default=30)


class Figures(TypedDict):
    """What a drill has found."""

    kills: int
    reads: int
    torn_reads: int
    """Reads that did not see one whole version."""
    versions: int
    hashes_equal: bool
    """Of all days, with those of a table that nobody has disturbed."""
    orphans: int
    """Files that a last vacuum has left and no version names."""
    seconds: float


def write_round(lake: Place, number: int | None = None) -> None:
    """Replace all days by the rows of a round, or the next; one that was killed is ended first."""
    root = lake / TABLE
    left = candidate(lake, TABLE, DAYS)
    if left is not None:
        # It was killed in between, or after the commit.
        with contextlib.suppress(ConflictError):
            left.publish(lake)
    description = FileDescription("drill")
    base = snapshot(root).numbers(DAYS)
    if number is None:
        number = (_round_of(lake) or 0) + 1
    files = []
    for day, part in itertools.product(DAYS, range(FILES_PER_DAY)):
        file = DayFile(root, f"{part:05d}-{uuid.uuid4().hex[:12]}", day, COLUMNS, description)
        file.write(_rows(number, day, part))
        files.append(file.finish())
    struct = DeltaSchema.from_arrow(COLUMNS.append(pa.field(DAY, pa.date32()))).to_json()
    staged = Candidate(TABLE, base, files, struct, description, {"job": "drill"})
    staged.put(lake, DAYS)
    version = staged.publish(lake)
    if number % 3 == 0:
        kept = range(max(0, version - KEPT_VERSIONS), version)
        vacuum(root, hours=0, keep_versions=[*kept])


def _rows(number: int, day: datetime.date, part: int) -> pa.RecordBatch:
    """Rows of a round, the same whenever they are made, with their hashes."""
    chance = np.random.default_rng([number, day.toordinal(), part])
    hashes = chance.integers(-(2**63), 2**63, ROWS_PER_FILE)
    return pa.RecordBatch.from_pydict(
        {
            "round": np.full(ROWS_PER_FILE, number),
            "value": chance.random(ROWS_PER_FILE),
            ROW_HASH: hashes,
            MIXED_HASH: hashes[::-1],
        }
    )


def _round_of(lake: Place) -> int | None:
    """The round that all days of the newest version are of; None where it is not one and whole."""
    found = snapshot(lake / TABLE)
    days = [found.read(day).column("round").to_numpy() for day in DAYS]
    numbers = {int(number) for rows in days for number in np.unique(rows)}
    is_whole = all(len(rows) == FILES_PER_DAY * ROWS_PER_FILE for rows in days)
    return numbers.pop() if is_whole and len(numbers) == 1 else None


def write_until_killed(lake: str, started: "Connection[bool, bool]") -> None:
    """Write round after round, in a process of its own."""
    # The first round takes longer: by what is imported and opened at its first use.
    write_round(place(lake))
    started.send(True)
    while True:
        write_round(place(lake))


class _Reader(threading.Thread):
    """Reads the newest version all the time."""

    def __init__(self, lake: Place) -> None:
        super().__init__(daemon=True)
        self._lake, self._stopped = lake, threading.Event()
        self.reads = self.torn = self.newest = 0

    def run(self) -> None:
        while not self._stopped.is_set():
            try:
                number = _round_of(self._lake)
            except (OSError, ValueError) as error:
                sys.stderr.write(f"a read failed: {error}\n")
                number = None
            self.reads += 1
            # Nor does it go back.
            self.torn += number is None or number < self.newest
            self.newest = max(self.newest, number or 0)

    def stop(self) -> None:
        self._stopped.set()
        self.join()


def drill(lake: Place, undisturbed: Place, *, kills: int, seed: int = 0) -> Figures:
    """Kill a writer so many times; returns the figures."""
    chance, begun = random.Random(seed), time.monotonic()
    write_round(lake, 0)
    started = time.monotonic()
    write_round(lake, 1)
    round_seconds = time.monotonic() - started
    reader = _Reader(lake)
    reader.start()
    for number in range(kills):
        with _writer(lake) as writer:
            time.sleep(chance.random() * MOST_ROUNDS * round_seconds)
            writer.kill()
        sys.stderr.write(f"{number + 1} of {kills} kills, round {reader.newest}\n")
    reader.stop()
    versions = snapshot(lake / TABLE).version + 1
    for where in (lake, undisturbed):
        write_round(where, LAST_ROUND)
    vacuum(lake / TABLE, hours=0)
    hashes = [
        [part.content_hash for part in snapshot(where / TABLE).partitions(DAYS).values()]
        for where in (lake, undisturbed)
    ]
    return Figures(
        kills=kills,
        reads=reader.reads,
        torn_reads=reader.torn,
        versions=versions,
        hashes_equal=hashes[0] == hashes[1],
        orphans=len(_data_files(lake / TABLE)) - len(DAYS) * FILES_PER_DAY,
        seconds=round(time.monotonic() - begun, 1),
    )


@contextlib.contextmanager
def _writer(lake: Place) -> Iterator[multiprocessing.process.BaseProcess]:
    """A process that has begun to write; the end of the block ends it."""
    ours, theirs = _SPAWN.Pipe()
    writer = _SPAWN.Process(target=write_until_killed, args=(str(lake), theirs))
    writer.start()
    theirs.close()
    try:
        ours.recv()
        yield writer
    finally:
        writer.kill()
        writer.join()


def _data_files(root: Place) -> list[str]:
    """Those of the table, and no checkpoint of its log."""
    files, folder = arrow_file(root)
    found = files.get_file_info(pafs.FileSelector(folder, recursive=True))
    return [info.path for info in found if f"/{DAY}=" in info.path and info.is_file]


def main() -> None:
    """Drill on a disk and in an object store; print one JSON object."""
    request = parse(DrillRequest, prog="python -m infra.drills.kill_lake")
    with tempfile.TemporaryDirectory(prefix="lake-drill-") as folder:
        here = place(folder)
        found = {"file": drill(here / "lake", here / "undisturbed", kills=request.kills)}
        with ObjectStore(Path(folder) / "store") as store:
            os.environ.update(store.environment)
            there = place(f"{store.uri}/drill")
            found["s3"] = drill(there / "lake", there / "undisturbed", kills=request.kills)
    print(
        json.dumps(
            {
                "kills": sum(one["kills"] for one in found.values()),
                "torn_reads": sum(one["torn_reads"] for one in found.values()),
                "hashes_equal": all(one["hashes_equal"] for one in found.values()),
                "orphans": sum(one["orphans"] for one in found.values()),
                "seconds": round(sum(one["seconds"] for one in found.values()), 1),
                **found,
            }
        )
    )


if __name__ == "__main__":
    main()
