"""How a version of a table comes about: by delta-rs, and by rules of ours on who wins.

A commit replaces whole days: it names new files for them and lets the old ones go. Readers of the
version before keep theirs until ``vacuum`` removes them. delta-rs' own rules are not enough for
that: of two writers of one new day both win, of two writers of different days one fails
(https://github.com/delta-io/delta-rs). So a day has a number in the log, a commit names the numbers
that it goes on from, and is tried again where only other days have changed.

A job of a scheduled run also has the number of the run's lease. The log keeps the highest that has
written, and refuses a lower one: a job that outlived its run does not undo the work of the next.
"""

import datetime
import functools
import json
import os
import random
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, create_table_with_add_actions

from features.lake.day_rows import WrittenFile
from features.lake.snapshot import (
    LEASE,
    Snapshot,
    application,
    open_table,
    snapshot,
    span,
)
from features.lineage import observed
from features.places import Place, arrow_file, uri
from features.schema import DAY

_TRIES = 50
_PROPERTIES = {
    # A version that a model names must stay readable; delta-rs drops logs after 30 days otherwise.
    "delta.logRetentionDuration": "interval 3650 days",
    "delta.checkpointInterval": "50",
}
_WRITING = (CommitFailedError, OSError)
_CREATING = (DeltaError, OSError)
"""Of two jobs that create a table, the second gets an error that has no class of its own."""
Metadata = Mapping[str, object]
"""What the log says of a commit, under names of ours: values that JSON can hold."""
REWRITES = "rewrites"
"""In the metadata of a commit that copies days and makes none: why, in words."""


def is_rewrite(said: Metadata) -> bool:
    """Whether a commit has copied days and made none, by what the log says of it."""
    # The erasures of earlier versions do not say why.
    return REWRITES in said or said.get("job") == "forget"


class ConflictError(ValueError):
    """Another job has replaced a day since this one began; a new try starts from its rows."""


class LeaseOverError(ValueError):
    """A run with a newer lease has written; no try of this job may."""


def commit(
    root: Place,
    files: Sequence[WrittenFile],
    base: Mapping[datetime.date, int],
    *,
    struct: str,
    metadata: Metadata,
    token: str = "",
) -> int:
    """Let a table's next version have these files in place of whatever some days had.

    Args:
        root: The table's folder.
        files: The days' new files.
        base: The days to replace, each with its number when the job began (``Snapshot.numbers``).
        struct: The table's schema, as JSON that Spark and Delta share.
        metadata: Such as the job, and the versions of its inputs.
        token: Names the commit: one that is in the log is not repeated; empty: a new one.

    Returns:
        The newest version after the commit; its own, or that of a commit right after it.

    Raises:
        ConflictError: Another job has replaced one of the days meanwhile; names it.
        LeaseOverError: A run with a newer lease has written.
        ValueError: No day, a file of another day, or another schema than the table's.
    """
    if not base:
        raise ValueError(f"{root.name}: no day to replace; at least one")
    if outside := sorted({file.day for file in files} - set(base)):
        days = ", ".join(map(str, outside[:3]))
        raise ValueError(f"{root.name}: rows of {days} are outside the days to replace")
    schema, token = Schema.from_json(struct), token or uuid.uuid4().hex
    numbers = {application(day): base[day] + 1 for day in base}
    if lease := int(os.environ.get(LEASE) or 0):
        numbers[LEASE] = lease
    for attempt in range(_TRIES):
        table = open_table(root)
        found = Snapshot(root, table)
        now = found.numbers(list(base))
        if now != dict(base):
            if found.has_commit(token):  # our answer was lost, the commit was not
                return int(found.version)
            raise ConflictError(_conflict(found, base, now))
        if lease and found.lease > lease:
            raise LeaseOverError(
                f"{root.name}: lease {lease} is over: a run with lease {found.lease} has written; "
                "clear this job's run to run it again"
            )
        _require_same_columns(root, table, schema, base)
        properties = CommitProperties(
            custom_metadata={**metadata, "days": sorted(map(str, base)), "token": token},
            max_commit_retries=0,
            app_transactions=[Transaction(name, number) for name, number in numbers.items()],
        )
        expected = _CREATING if table is None else _WRITING
        try:
            _write(root, table, files, schema, list(base), properties)
        except expected as error:
            # Another commit was first, or the store did not answer: look again.
            failed: Exception = error
            time.sleep(random.uniform(0, 0.02 * (attempt + 1)))
        else:
            version = snapshot(root).version
            _note_output(root, version, struct, base, metadata)
            return version
    raise OSError(f"{root}: not committed in {_TRIES} tries, the last: {failed}") from failed


def remove(root: Place, days: Sequence[datetime.date], *, metadata: Metadata) -> None:
    """Commit a version without some days; their files stay until ``vacuum``."""
    found = snapshot(root)
    commit(root, [], found.numbers(days), struct=found.schema_json, metadata=metadata)


class Vacuumed(NamedTuple):
    """What a vacuum deleted."""

    num_files: int
    num_bytes: int


def vacuum(
    root: Place, *, hours: int, keep_versions: Sequence[int] = (), dry_run: bool = False
) -> Vacuumed:
    """Delete files that no kept version names and that are older than some hours.

    Args:
        root: The table's folder.
        hours: More than the longest job takes: files that it has written are not named yet, and
            those that it reads may be superseded meanwhile.
        keep_versions: Versions whose files stay, as the newest's do. To be named at every vacuum:
            one without them removes their files.
        dry_run: Only tell what would be deleted.
    """
    table = open_table(root)
    if table is None:
        return Vacuumed(0, 0)
    delete = functools.partial(
        table.vacuum,
        retention_hours=hours,
        enforce_retention_duration=False,
        full=True,
        keep_versions=list(keep_versions) or None,
    )
    # It also names files that an earlier one has deleted.
    files, folder = arrow_file(root)
    named = files.get_file_info([f"{folder}/{path}" for path in delete(dry_run=True)])
    there = [info.size for info in named if info.is_file]
    # Each vacuum is two commits.
    if there and not dry_run:
        delete(dry_run=False)
    return Vacuumed(len(there), sum(there))


def _require_same_columns(
    root: Place, table: DeltaTable | None, schema: Schema, base: Mapping[datetime.date, int]
) -> None:
    """ValueError where days that stay have other columns; delta-rs would change all days'."""
    if table is None or table.schema() == schema:
        return
    if kept := [day for day in Snapshot(root, table).days if day not in base]:
        raise ValueError(
            f"{root.name}: the rows have other columns than {span(kept)} that stay; replace all "
            "days at once"
        )


def _write(
    root: Place,
    table: DeltaTable | None,
    files: Sequence[WrittenFile],
    schema: Schema,
    days: Sequence[datetime.date],
    properties: CommitProperties,
) -> None:
    now = int(time.time() * 1000)
    adds = [
        AddAction(
            file.path,
            file.num_bytes,
            {DAY: file.day.isoformat()},
            now,
            True,
            # Without the number of rows, delta-rs counts none.
            json.dumps({"numRecords": file.rows}),
        )
        for file in files
    ]
    if table is None:
        create_table_with_add_actions(
            uri(root),
            schema,
            adds,
            mode="error",
            partition_by=[DAY],
            name=root.name,
            configuration=_PROPERTIES,
            commit_properties=properties,
        )
        return
    # Never without a filter: that would replace the whole table.
    replaced = [(DAY, "in", [day.isoformat() for day in days])]
    table.create_write_transaction(
        [*adds], "overwrite", schema, [DAY], replaced, commit_properties=properties
    )


def _note_output(
    root: Place,
    version: int,
    struct: str,
    days: Iterable[datetime.date],
    metadata: Metadata,
) -> None:
    """Say for the job's lineage what was committed."""
    if not observed.is_observing():
        return
    hashes, rows = metadata.get("content_hashes"), metadata.get("rows")
    by_day = dict.fromkeys(days, observed.DayRows())
    if isinstance(hashes, Mapping) and isinstance(rows, Mapping):
        by_day = {
            day: observed.DayRows(str(hashes.get(str(day), "")), rows.get(str(day)))
            for day in by_day
        }
    observed.wrote(
        observed.Dataset(where=uri(root), version=str(version), struct=struct, days=by_day)
    )


def _conflict(
    found: Snapshot, base: Mapping[datetime.date, int], now: Mapping[datetime.date, int]
) -> str:
    """Which days were replaced, by whom, and what to do."""
    days = sorted(day for day in base if now[day] != base[day])
    winner = found.newest_commit(days)
    return (
        f"{found.root.name}: {', '.join(map(str, days[:3]))} replaced by job "
        f"{winner.get('job', 'unknown')} of run {winner.get('run', 'unknown')} since this job "
        "began; run it again"
    )
