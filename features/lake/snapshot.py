"""One version of a table of the lake: which days it has, and which files hold them."""

import concurrent.futures
import copy
import datetime
import functools
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from deltalake import DeltaTable, Schema
from deltalake.exceptions import DeltaError, TableNotFoundError

from features.lake.day_rows import (
    FOOTER,
    Inputs,
    Partition,
    WrittenFile,
    partition_from_footers,
)
from features.lineage import observed
from features.places import Place, arrow_file, is_local, uri
from features.schema import DAY

_FOOTERS_AT_ONCE = 16
"""On an object store one takes some milliseconds, most of them waiting."""

_NEWEST_COMMITS = 50
"""Of which the log is read first: a job asks about days near the newest one."""

LEASE = "RANKING_LEASE"
"""The variable with the number of a job's lease, and the transaction that keeps the highest."""


class Snapshot:
    """One version of a table. It does not change, whatever is committed meanwhile."""

    def __init__(self, root: Place, table: DeltaTable | None) -> None:
        """Args: the table's folder, and the table; None: it has no version yet."""
        self.root = root
        self.version = -1 if table is None else table.version()
        self.filesystem, self._folder = arrow_file(root)
        self._table = table
        self.num_bytes = self.num_rows = 0
        self._files: dict[datetime.date, list[str]] = {}
        self._partitions: dict[datetime.date, Partition] = {}
        self._numbers: dict[datetime.date, int] = {}
        self._staged_inputs: dict[datetime.date, Inputs | None] = {}
        self._recorded: dict[int | None, dict[datetime.date, tuple[str, Inputs | None]]] = {}
        self._metadata: dict[str, pq.FileMetaData] = {}
        if table is not None:
            actions = table.get_add_actions(flatten=True)
            self.num_bytes = sum(actions.column("size_bytes").to_pylist())
            self.num_rows = sum(actions.column("num_records").to_pylist())
            days = actions.column(f"partition.{DAY}").to_pylist()
            for path, day in zip(actions.column("path").to_pylist(), days, strict=True):
                self._files.setdefault(day, []).append(f"{self._folder}/{path}")

    @functools.cached_property
    def days(self) -> list[datetime.date]:
        """Days that the version has, oldest first."""
        return sorted(self._files)

    def files(self, day: datetime.date) -> list[str]:
        """Files of a day, as paths of ``filesystem``, by name; none for a day that is not there."""
        return sorted(self._files.get(day, []))

    def require_files(self) -> None:
        """ValueError where a file of the version is gone, as a vacuum leaves it without a pin."""
        found = self.filesystem.get_file_info(
            [path for day in self.days for path in self.files(day)]
        )
        if gone := [info.path for info in found if not info.is_file]:
            raise ValueError(
                f"{self.root.name}: version {self.version}: {len(gone)} of {len(found)} files are "
                f"gone, such as {gone[0]}; a vacuum has removed them, and only a pin would have "
                "kept them"
            )

    @property
    def schema_json(self) -> str:
        """Columns of the table, as JSON that Spark and Delta share; ValueError without a table."""
        if self._table is None:
            raise ValueError(f"{self.root.name}: no such table in {self.root.parent}")
        return str(self._table.schema().to_json())

    def has_columns(self, struct: str) -> bool:
        """Whether the table has exactly these columns, given as JSON; not where there is none."""
        return self._table is not None and bool(self._table.schema() == Schema.from_json(struct))

    def previewed(
        self,
        base: Mapping[datetime.date, int],
        files: Sequence[WrittenFile],
        partitions: Sequence[Partition],
        made_of: Mapping[datetime.date, Inputs],
    ) -> "Snapshot":
        """The same with some days as files that no version names yet have them.

        Args:
            base: The days, each with its number when the files were begun.
            files: The files of these days.
            partitions: What they hold.
            made_of: What each of them was made of, where that is known.
        """
        found = copy.copy(self)
        found.__dict__.pop("days", None)
        found._files = {day: paths for day, paths in self._files.items() if day not in base}
        for file in files:
            found._files.setdefault(file.day, []).append(f"{self._folder}/{file.path}")
        found._partitions = self._partitions | {part.day: part for part in partitions}
        found._numbers = {**self._numbers, **base}
        found._staged_inputs = self._staged_inputs | {day: made_of.get(day) for day in base}
        return found

    def numbers(self, days: Sequence[datetime.date]) -> dict[datetime.date, int]:
        """How often each day was replaced."""
        return {
            day: self._numbers.get(day, self._transaction(application(day)) or 0) for day in days
        }

    @property
    def lease(self) -> int:
        """The highest number of a lease under which a job has written; 0 where none had one."""
        return self._transaction(LEASE) or 0

    def has_commit(self, token: str) -> bool:
        """Whether a commit with this token led to the version."""
        history = [] if self._table is None else self._table.history()
        return any(one.get("token") == token for one in history)

    def newest_commit(self, days: Sequence[datetime.date]) -> dict[str, object]:
        """What the log says of the newest commit that replaced one of these days."""
        history = [] if self._table is None else self._table.history()
        named = set(map(str, days))
        return next((one for one in history if named & set(one.get("days", ()))), {})

    def _transaction(self, name: str) -> int | None:
        return None if self._table is None else self._table.transaction_version(name)

    def history(self) -> list[dict[str, object]]:
        """What the log says of each version, the newest first: job, run, inputs, days, hashes."""
        found = [] if self._table is None else self._table.history()
        # delta-rs lists later versions, too, and numbers all from this one downwards.
        later = max(0, -found[-1]["version"]) if found else 0
        return [{**one, "version": one["version"] + later} for one in found[later:]]

    def made_of(self, day: datetime.date) -> Inputs | None:
        """What a day was made of, as the commit of its rows says; None: that does not say it."""
        if day in self._staged_inputs:
            return self._staged_inputs[day]
        recorded = self._recorded_inputs(_NEWEST_COMMITS)
        if day not in recorded:
            recorded = self._recorded_inputs(None)
        content, inputs = recorded.get(day, ("", None))
        return inputs if content == self.partition(day).content_hash else None

    def _recorded_inputs(self, limit: int | None) -> dict[datetime.date, tuple[str, Inputs | None]]:
        """Of the newest commit of each day the hash of its rows, and what they were made of.

        ``limit``: of so many commits alone; None: of all.
        """
        if limit not in self._recorded:
            found: dict[datetime.date, tuple[str, Inputs | None]] = {}
            for one in [] if self._table is None else self._table.history(limit):
                hashes, made_of = one.get("content_hashes"), one.get("made_of")
                if isinstance(hashes, dict):
                    inputs = made_of if isinstance(made_of, dict) else {}
                    for day, content in hashes.items():
                        named = datetime.date.fromisoformat(day)
                        found.setdefault(named, (content, inputs.get(day)))
            self._recorded[limit] = found
        return self._recorded[limit]

    def partition(self, day: datetime.date) -> Partition:
        """What a day holds, from the footers of its files; ValueError where there is none."""
        return self.partitions([day])[day]

    def partitions(self, days: Sequence[datetime.date]) -> dict[datetime.date, Partition]:
        """``partition`` of several days, their footers read side by side."""
        for day in days:
            if not self.files(day):
                raise ValueError(
                    f"partition {self.root.name}/{DAY}={day}: not in {self.root.parent}; the table "
                    f"has {span(self.days)}"
                )
        unread = [day for day in days if day not in self._partitions]
        wanted = [(day, path) for day in unread for path in self.files(day)]
        with concurrent.futures.ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
            read = list(pool.map(lambda found: self.metadata(found[1]).metadata[FOOTER], wanted))
        footers: dict[datetime.date, list[bytes]] = {}
        for (day, _), footer in zip(wanted, read, strict=True):
            footers.setdefault(day, []).append(footer)
        self._partitions |= {
            day: partition_from_footers(self.root.name, day, found)
            for day, found in footers.items()
        }
        return {day: self._partitions[day] for day in days}

    def metadata(self, path: str) -> pq.FileMetaData:
        """The footer of one of the files, read once."""
        if path not in self._metadata:
            self._metadata[path] = pq.read_metadata(path, filesystem=self.filesystem)
        return self._metadata[path]

    def note_read(self, days: Sequence[datetime.date]) -> None:
        """Say for the job's lineage that rows of these days are read."""
        there = [day for day in days if self.files(day)]
        if there and observed.is_observing():
            known = {day: part for day, part in self._partitions.items() if day in there}
            by_day = {day: observed.DayRows() for day in there} | {
                day: observed.DayRows(part.content_hash, part.rows) for day, part in known.items()
            }
            observed.read(
                observed.Dataset(
                    where=uri(self.root),
                    # The files of a first candidate are there before their table is.
                    version=str(self.version) if self._table else "",
                    struct=self.schema_json if self._table else "",
                    days=by_day,
                )
            )

    def read(self, day: datetime.date, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of a day in Arrow, file by file in the order of ``files``, without ``day``."""
        self.note_read([day])
        tables = []
        for path in self.files(day):
            with pq.ParquetFile(path, filesystem=self.filesystem) as file:
                tables.append(file.read(columns=columns))
        if not tables:
            self.partition(day)
        return pa.concat_tables(tables)

    def rows(self, day: datetime.date, wanted: pads.Expression) -> list[dict[str, object]]:
        """Rows of a day that fulfil a condition, by column; none where there is no such day."""
        files = self.files(day)
        if not files:
            return []
        self.note_read([day])
        table = pads.dataset(files, filesystem=self.filesystem, format="parquet")
        return [dict(row) for row in table.to_table(filter=wanted).to_pylist()]


def snapshot(root: Place, version: int | None = None) -> Snapshot:
    """The newest version of a table, or a named one.

    Raises:
        ValueError: The folder is of the layout before Delta tables, or there is no such version.
    """
    table = open_table(root, version)
    if table is None and is_local(root) and (root / ".versions").is_dir():
        raise ValueError(
            f"{root}: its days are links, as versions before 0.3 wrote them; remove the lake of "
            f"this data set, {root.parent}, and build its days again"
        )
    return Snapshot(root, table)


def open_table(root: Place, version: int | None = None) -> DeltaTable | None:
    """The table as it is now: an object that was opened before stays at its version."""
    try:
        return DeltaTable(uri(root), version=version)
    except TableNotFoundError:
        return None
    except DeltaError as error:
        if version is None:
            raise
        raise ValueError(f"{root}: version {version} cannot be opened: {error}") from error


def listed(folder: Place) -> list[tuple[str, datetime.datetime]]:
    """Names in a folder and when they were written, by name; none where there is no folder."""
    files, path = arrow_file(folder)
    entries = files.get_file_info(pafs.FileSelector(path, allow_not_found=True))
    return sorted((entry.base_name, entry.mtime) for entry in entries)


def tables(lake: Place) -> list[str]:
    """The tables of a data set, by name."""
    return [name for name, _ in listed(lake) if name[0] not in "._"]


def application(day: datetime.date) -> str:
    """The name under which the log keeps the number of a day."""
    return f"{DAY}={day.isoformat()}"


def span(days: Sequence[datetime.date]) -> str:
    """Days in words."""
    return f"{len(days)} days from {days[0]} to {days[-1]}" if days else "no partition"
