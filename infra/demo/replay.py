"""A day's impressions land again in the order of their arrival, and a push brings them online.

In the demo the last day is replayed at a multiple of real time, into a landing folder and a store
of its own: a copy of the online store, where that is a file, as it was before the daily runs. It
measures the time from the landing of an impression until the endpoint's reader finds it in the
user's row.
"""

import csv
import datetime
import os
import shutil
import time
from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from features.datasets.catalog import data_set_of, has_push
from features.datasets.readers import reader_of
from features.online_store.config import redis_of
from features.online_store.reader import OnlineRows, open_rows
from features.places import arrow_file, place, uri
from features.push.freshness import percentiles
from features.schema import REQUEST_TIME, Dtype, Role, Schema, TableKind
from features.spark.landing import INTRADAY, impressions_file, write_rows, write_table
from infra.local.processes import Processes
from infra.local.settings import Settings
from infra.local.stack import push_command

PUSH = "replay-push"
"""Name of its process and of its log."""
DURATION_SECONDS = 12.0
"""In which the whole day lands."""
STEP_SECONDS = 0.5
"""Between two files."""
MOST_SECONDS = 90.0
"""Until the last impression must be visible."""
POLL_SECONDS = 0.1

UserId = int | str
Row = tuple[datetime.datetime, UserId, dict[str, object]]
"""Moment, user and content of one impression."""


class Replay:
    """One day of a data set, and the push that follows it."""

    def __init__(self, schema: Schema, *, settings: Settings, day: datetime.date) -> None:
        """Args: the data set, the stack's settings, and the day to replay."""
        self.schema = schema
        self.day = day
        self.landing = place(settings.var) / "demo" / "replay" / "landing"
        self.store = place(settings.var) / "demo" / "replay" / "feast"
        self._settings = settings
        self._note = _why_not(schema)
        self._states = () if self._note else schema.tables_of(TableKind.STATE)

    def keep_store(self) -> None:
        """Copy the online store as it is now, before the day is built."""
        if self._states:
            name = self.schema.name
            # A store that is a file is on a disk.
            shutil.copytree(uri(self._settings.data / "feast" / name), uri(self.store / name))

    def start_push(self, processes: Processes, environment: Mapping[str, str]) -> None:
        """Start the push; returns when it follows, because users do not wait for its start.

        Raises:
            RuntimeError: It has ended, or takes too long.
        """
        if not self._states:
            return
        folders = [f"--landing={self.landing}", f"--store={self.store}"]
        folders += self._settings.folders("lake docs")
        command = push_command(self.schema.name, folders, metrics_port=0)
        command += ["--replay", f"--first-day={self.day}", f"--interval={STEP_SECONDS}"]
        # Its own store is a file, wherever the online store of the stack is.
        processes.start(
            PUSH, command, {**environment, "RANKING_ONLINE": "sqlite"}, self._settings.var
        )
        deadline = time.monotonic() + MOST_SECONDS
        while "following" not in processes.log(PUSH).read_text(errors="replace"):
            processes.require_alive()
            if time.monotonic() > deadline:
                raise RuntimeError(f"replay: the push does not follow; see {processes.log(PUSH)}")
            time.sleep(POLL_SECONDS)

    def run(self) -> dict[str, object]:
        """Land the day and wait until all of it is visible; what was measured.

        Raises:
            RuntimeError: Not all of it was visible in time.
        """
        if not self._states:
            return {"note": self._note}
        steps = list(self._steps())
        waiting: list[tuple[float, datetime.datetime, UserId]] = []
        seconds: list[float] = []
        reader = open_rows(
            self.schema, self.store, timeout_seconds=5, environment={"RANKING_ONLINE": "sqlite"}
        )
        started = time.monotonic()
        for number, rows in enumerate(steps):
            while time.monotonic() < started + number * STEP_SECONDS:
                time.sleep(POLL_SECONDS)
                waiting = self._still_waiting(reader, waiting, seconds)
            if rows:
                self._land(number, [row for _, _, row in rows])
                waiting += [(time.monotonic(), moment, user) for moment, user, _ in rows]
        deadline = time.monotonic() + MOST_SECONDS
        while waiting:
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"replay: {len(waiting)} of {len(waiting) + len(seconds)} impressions are not "
                    f"visible {MOST_SECONDS:g} s after the last; see the log of {PUSH}"
                )
            time.sleep(POLL_SECONDS)
            waiting = self._still_waiting(reader, waiting, seconds)
        delay = self._states[0].delay.total_seconds()
        return {
            "day": str(self.day),
            "impressions": len(seconds),
            "times_real_time": round(86_400 / DURATION_SECONDS),
            **percentiles(seconds),
            "declared_delay_seconds": delay,
            "late": sum(one > delay for one in seconds),
        }

    def _still_waiting(
        self,
        reader: OnlineRows,
        waiting: list[tuple[float, datetime.datetime, UserId]],
        seconds: list[float],
    ) -> list[tuple[float, datetime.datetime, UserId]]:
        """The impressions that the endpoint's reader does not find yet; measures the others."""
        users = sorted({user for _, _, user in waiting})
        if not users:
            return []
        column = self._states[0].timestamp_column
        found = reader.read(Role.USER, users)[column][: len(users)].to_pylist()
        now, newest = time.monotonic(), dict(zip(users, found, strict=True))
        left = []
        for landed, moment, user in waiting:
            event = newest[user]
            if event is not None and event >= moment:
                seconds.append(now - landed)
            else:
                left.append((landed, moment, user))
        return left

    def _steps(self) -> Iterator[list[Row]]:
        """The day's impressions, by the step at which they land."""
        midnight = datetime.datetime.combine(self.day, datetime.time(), datetime.UTC)
        num_steps = round(DURATION_SECONDS / STEP_SECONDS)
        steps: list[list[Row]] = [[] for _ in range(num_steps)]
        for row in sorted(self._rows(), key=lambda row: row[0]):
            share = (row[0] - midnight) / datetime.timedelta(days=1)
            steps[min(int(share * num_steps), num_steps - 1)].append(row)
        yield from steps

    def _rows(self) -> Iterator[Row]:
        suffix = reader_of(self.schema).suffix
        landing = self._settings.data / "landing" / self.schema.name
        path = impressions_file(landing, self.day, suffix)
        id_of = self.schema.entity(Role.USER)
        user, is_text = id_of.name, id_of.dtype is Dtype.STRING
        if suffix == "parquet":
            files, name = arrow_file(path)
            for row in pq.read_table(name, filesystem=files, partitioning=None).to_pylist():
                moment = row[REQUEST_TIME.name]
                yield moment.replace(tzinfo=datetime.UTC), row[user], row
            return
        with path.open(newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                seconds = int(row[REQUEST_TIME.name])
                moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
                yield moment, row[user] if is_text else int(row[user]), row

    def _land(self, number: int, rows: list[dict[str, object]]) -> None:
        """Land a part of the day atomically."""
        suffix = reader_of(self.schema).suffix
        folder = self.landing / self.schema.name / INTRADAY / self.day.isoformat()
        path = folder / f"{number:04d}.{suffix}"
        if suffix != "parquet":
            write_rows(path, list(rows[0]), [list(row.values()) for row in rows])
            return
        write_table(path, pa.Table.from_pylist(rows))


def _why_not(schema: Schema) -> str:
    """Why nothing is replayed; empty when the day can be replayed."""
    if not (has_push() and schema.can_push and schema.tables_of(TableKind.STATE)):
        return "no users whose state is pushed within a day"
    source = data_set_of(schema.name).source
    is_known = (source.format, source.time.unit) in {("parquet", None), ("tsv", "seconds")}
    if (
        not is_known
        or source.time.column != REQUEST_TIME.name
        or schema.entity(Role.USER).name in source.columns
    ):
        return "a log that lands in another form than the replay can cut into parts"
    # The registry of a store in Redis has other names, and its rows are not in the folder.
    return "the online store is no file that could be copied" if redis_of(os.environ) else ""
