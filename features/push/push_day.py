"""Users within a day: what has landed since the newest built day, on top of that day's state.

What a push offers depends on what has landed, and on nothing that an earlier push left behind: it
may be repeated, and after a restart it offers the same rows again. The rows are computed by the
Spark code of the daily build.
"""

import dataclasses
import datetime
import logging
from collections.abc import Callable, Sequence

import pandas as pd
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from features.datasets.readers import reader_of
from features.lake.lake import ONE_DAY
from features.online_store.feast_store import open_store, write
from features.pipeline.aggregates import midnight, newest_rows, union
from features.pipeline.availability import declared_availability
from features.pipeline.end_of_day import states
from features.pipeline.materialize import needed_rows, stored_frame
from features.pipeline.tables.keys import with_key
from features.pipeline.user_state import user_state
from features.pipeline.workspace import Workspace, require_day_before
from features.places import Place
from features.push.basis import basis_of, earlier_states, unlabelled_days
from features.runbooks import RunbookError
from features.schema import CREATED, DAY, EVENT_TIMESTAMP, EXAMPLE_ID, FeatureTable, TableKind
from features.spark.erased_rows import without_erased
from features.spark.row_rules import Check, impression_rules

logger = logging.getLogger(__name__)
Clock = Callable[[datetime.datetime], datetime.datetime]
"""Given the moment of the newest impression, the moment up to which rows are true."""
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MOST_AHEAD = datetime.timedelta(hours=1)
"""How far the clock that stamps impressions may be ahead of ours."""
_PARTITIONS = "spark.sql.shuffle.partitions"
_MOST_PARTS = 16
"""Cached parts of what has landed; more are put into one, so that plans stay small."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """What one poll of the landing folder found."""

    files: tuple[Place, ...]
    """Files that the poll before had not found."""
    impressions: int
    rows: pd.DataFrame
    """State rows to offer to the online store."""
    until: datetime.datetime


def state_table(work: Workspace) -> FeatureTable:
    """The table whose rows are pushed.

    Raises:
        ValueError: The data set has none.
    """
    tables = work.schema.tables_of(TableKind.STATE)
    if len(tables) != 1:
        raise ValueError(f"dataset {work.schema.name}: {len(tables)} tables of state; a push has 1")
    return tables[0]


class LandedUsers:
    """States of the users who did something since the newest built day; keeps what it has read."""

    def __init__(
        self, work: Workspace, landing: Place, *, first_day: datetime.date | None = None
    ) -> None:
        """Read nothing yet.

        Args:
            work: Session, schema and lake.
            landing: Where impressions land.
            first_day: First day to take from there; None: the one after the newest built day, which
                moves on with the builds.

        Raises:
            RunbookError: The day before ``first_day`` is not built: what users did then would be
                missing from their rows.
        """
        if first_day:
            require_day_before(work.lake, work.schema, [first_day], is_first=False)
        self._work = work
        self._table = state_table(work)
        self._user = work.schema.key_of(self._table).name
        self._landing = landing / work.schema.name
        self._fixed_day = first_day
        self._parts: list[DataFrame] = []
        self._cached: list[DataFrame] = []
        self.forget()

    def forget(self) -> None:
        """Take all that has landed for new, as after a start."""
        for frame in [*self._parts, *self._cached]:
            frame.unpersist()
        self._parts, self._cached = [], []
        self._first_day: datetime.date | None = None
        self._basis: tuple[object, ...] = ()
        self._files: frozenset[Place] = frozenset()
        self._newest: datetime.datetime | None = None
        self._until: datetime.datetime | None = None

    def poll(self, clock: Clock) -> Batch | None:
        """The rows to offer since the last poll; None where there are none."""
        self._work.lake.refresh()
        # Keeps the session alive: a Spark server drops sessions that are idle for minutes.
        self._num_partitions = int(self._work.spark.conf.get(_PARTITIONS) or 1)
        first_day = self._fixed_day or self._day_after_builds()
        basis = basis_of(self._work, self._table, first_day)
        files = frozenset(self._landed(first_day))
        if basis != self._basis or not self._files <= files:
            # A day was built, for the first time or again, or its parts gave way to its file.
            self._begin(first_day)
            self._basis = basis
        new = sorted(files - self._files)
        num_before = len(self._parts)
        impressions = self._add(new, first_day)
        self._files = files
        if self._newest is None:
            return None
        until = min(clock(self._newest), self._labels_known_until(first_day))
        # An impression of next year must not make rows due until then.
        self._newest = min(self._newest, until + _MOST_AHEAD)
        users = self._users(self._parts[num_before:], until)
        is_due = users is not None and (bool(new) or not users.isEmpty())
        frame = self._frame(users, until) if users is not None and is_due else None
        self._until = until
        self._compact()
        if frame is None:
            return None
        return Batch(files=tuple(new), impressions=impressions, rows=frame, until=until)

    def _day_after_builds(self) -> datetime.date:
        built = self._work.lake.days(self._table.name)
        return built[-1] + ONE_DAY if built else self._work.schema.first_day

    def _labels_known_until(self, first_day: datetime.date) -> datetime.datetime:
        """Up to when rows can be true: after it an event may count that has not landed."""
        label = self._work.schema.label
        if not label.comes_later:
            return datetime.datetime.max.replace(tzinfo=datetime.UTC)
        return midnight(first_day) + label.delay - datetime.timedelta(microseconds=1)

    def _landed(self, first_day: datetime.date) -> list[Place]:
        return reader_of(self._work.schema).landed_since(self._landing, first_day)

    def _begin(self, first_day: datetime.date) -> None:
        """The state before a day, and the impressions before it whose labels are still to come."""
        self.forget()
        self._first_day = first_day
        work = self._work
        # As the daily build: what was corrected later is not known to this day.
        known_by = midnight(first_day) + self._table.delay
        earlier = states(work, earlier_states(work, self._table, first_day))
        known = earlier.where(F.col(CREATED) <= F.lit(known_by)).drop(DAY)
        self._carry = newest_rows(known, self._user).persist()
        self._cached.append(self._carry)
        if days := unlabelled_days(work, first_day):
            self._keep(work.impressions(days), days[0])

    def _add(self, paths: Sequence[Place], first_day: datetime.date) -> int:
        """Keep the rows of files; returns how many. A file that cannot be read is left out."""
        if not paths:
            return 0
        try:
            raw = reader_of(self._work.schema).read_parts(self._work.spark, self._landing, paths)
            raw = without_erased(raw, self._work.lake.root, self._work.schema)
            # A data file of a table may have rows of days that are built.
            raw = raw.where(F.col(DAY) >= F.lit(first_day))
            for rule in impression_rules(self._work.schema):
                if rule.check not in {Check.UNIQUE, Check.ONE_USER}:
                    raw = raw.where(~rule.broken())
            return self._keep(raw, first_day)
        except RunbookError:
            raise  # the lake is being rebuilt; the next poll finds the files again
        except Exception:
            # Whatever Spark raises: one bad file must not keep the users of the other files stale.
            if len(paths) > 1:
                return sum(self._add([path], first_day) for path in paths)
            logger.exception("file %s: cannot be read; left out until a restart", *paths)
            return 0

    def _keep(self, rows: DataFrame, since: datetime.date) -> int:
        schema = self._work.schema
        entities = [column.name for _, column in schema.entities()]
        label = schema.label.column
        if label not in rows.columns:  # it comes later than what has landed within the day
            rows = rows.withColumn(label, F.lit(None).cast("bigint"))
        shown = rows.select(EXAMPLE_ID, *entities, "timestamp", label)
        part = with_key(self._work, self._table, shown, since=since).persist()
        newest_at = F.max(F.unix_micros("timestamp"))
        ((count, newest),) = part.agg(F.count(F.lit(1)), newest_at).collect()
        if not count:
            part.unpersist()
            return 0
        self._parts.append(part)
        moment = _EPOCH + newest * datetime.timedelta(microseconds=1)
        self._newest = max(self._newest or moment, moment)
        return int(count)

    def _users(self, new: list[DataFrame], until: datetime.datetime) -> DataFrame | None:
        """Those whose state is another one now: who did something, or whose labels are known."""
        if self._until is None:
            return union(self._parts).select(self._user) if self._parts else None
        label_delay = self._work.schema.label.known_after
        users = [part.select(self._user) for part in new]
        if until > self._until and (self._newest or until) + label_delay > self._until:
            users.append(union(self._parts).where(self._is_due(until)).select(self._user))
        return union(users) if users else None

    def _is_due(self, until: datetime.datetime) -> SparkColumn:
        """Whether an impression or its label became true since the last poll."""
        delay = self._work.schema.label.known_after
        at = F.col("timestamp")

        def within(first: datetime.datetime, last: datetime.datetime) -> SparkColumn:
            return (at > F.lit(first)) & (at <= F.lit(last))

        since = self._until or until
        return within(since, until) | within(since - delay, until - delay)

    def _frame(self, users: DataFrame, until: datetime.datetime) -> pd.DataFrame:
        kept = users.distinct().persist()
        frame = stored_frame(self._work, self._table, self._rows(kept, until))
        kept.unpersist()
        return frame

    def _rows(self, users: DataFrame, until: datetime.datetime) -> DataFrame:
        """The needed state rows of some users."""
        schema, table = self._work.schema, self._table
        first_day = self._first_day or until.date()
        impressions = union(self._parts).join(users, self._user, "left_semi")
        rows = user_state(
            schema,
            table,
            # What landed twice counts once.
            impressions=impressions.dropDuplicates([EXAMPLE_ID]),
            carry=self._carry.join(users, self._user, "left_semi"),
            first_day=first_day,
            last_day=max(first_day, until.date()),
        )
        true_by_then = rows.where(F.col(EVENT_TIMESTAMP) <= F.lit(until))
        named = true_by_then.withColumn(CREATED, declared_availability(table))
        return needed_rows(named, self._user)

    def _compact(self) -> None:
        if len(self._parts) <= _MOST_PARTS:
            return
        whole = union(self._parts).coalesce(self._num_partitions).localCheckpoint()
        for part in self._parts:
            part.unpersist()
        self._parts = [whole]


def push_until(
    work: Workspace,
    landing: Place,
    store_dir: Place,
    *,
    until: datetime.datetime,
    first_day: datetime.date | None = None,
) -> dict[str, object]:
    """Bring the users online who did something since the newest built day, once.

    Args:
        work: Session, schema and lake.
        landing: Where impressions land.
        store_dir: The Feast stores.
        until: Moment up to which rows are true.
        first_day: As for ``LandedUsers``.
    """
    batch = LandedUsers(work, landing, first_day=first_day).poll(lambda _newest: until)
    if batch is not None and not batch.rows.empty:
        store = open_store(work.schema, store_dir)
        write(store, state_table(work), batch.rows)
    counts = (0, 0) if batch is None else (batch.impressions, len(batch.rows))
    return {"impressions": counts[0], "rows": counts[1], "until": until.isoformat()}
