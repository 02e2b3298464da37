"""What the lake's history says of rows that were not served as the as-of join has them."""

import dataclasses
import logging

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.encoding.encode import RowStatus
from features.encoding.primitives import IntArray
from features.lake.snapshot import Snapshot, snapshot
from features.parity.causes import Evidence, Mask
from features.parity.differences import differing_values
from features.parity.lake_rows import rows_of_events, rows_visible
from features.parity.replay import Answers, Expected, Served
from features.schema import FeatureTable, Role, Schema
from features.schema.keys import small_keys

logger = logging.getLogger(__name__)
NEVER = int(np.iinfo(np.int64).max)
_MICROS_OF_A_MILLISECOND = 1_000


class LakeHistory:
    """What a table had at past moments, by the clock of its commits."""

    def __init__(self, now: Snapshot) -> None:
        """Args: the version as of now."""
        self.now = now
        commits = [one for one in reversed(now.history()) if "days" in one]
        self._at = np.array([_micros(one) for one in commits], dtype=np.int64)
        self._versions = np.array([-1, *(one["version"] for one in commits)], dtype=np.int64)
        self._days: list[set[str]] = [set(one["days"]) for one in commits]  # type: ignore[call-overload]

    def versions_at(self, moments: IntArray) -> IntArray:
        """(M,) the version that was the newest at each moment; -1 before the first."""
        found: IntArray = self._versions[np.searchsorted(self._at, moments, side="right")]
        return found

    def written_at(self, days: npt.NDArray[np.datetime64], moments: IntArray) -> IntArray:
        """(M,) when each day was last written before each moment; NEVER where it was not."""
        found = np.full(len(moments), NEVER)
        for day in np.unique(days):
            has_day = [str(day) in of_commit for of_commit in self._days]
            at = np.array([NEVER, *self._at[np.array(has_day, dtype=np.bool_)]])
            of_day = days == day
            found[of_day] = at[np.searchsorted(at[1:], moments[of_day], side="right")]
        return found

    def version(self, number: int) -> Snapshot | None:
        """A version; None where a vacuum has removed files of it, or the log does not reach it."""
        if number == self.now.version:
            return self.now
        try:
            found = snapshot(self.now.root, number)
            found.require_files()
        except ValueError as error:
            logger.warning("%s; what it had is not known", error)
            return None
        return found


def _micros(commit: dict[str, object]) -> int:
    return int(str(commit["timestamp"])) * _MICROS_OF_A_MILLISECOND


@dataclasses.dataclass(frozen=True, kw_only=True)
class Differing:
    """M candidates to which a table's row was not served as the as-of join has it."""

    schema: Schema
    table: FeatureTable
    places: IntArray
    """(M,) among all candidates."""
    served: Served
    expected: Expected
    answers: Answers

    @property
    def served_times(self) -> tuple[IntArray, IntArray]:
        """Event time and created of what was served; -1 where nothing was."""
        return self.served.event[self.places], self.served.created[self.places]

    @property
    def expected_times(self) -> tuple[IntArray, IntArray]:
        """Both of the as-of join's row; -1 where there is none."""
        event, created = self.expected.times
        return event[self.places], created[self.places]

    @property
    def codes(self) -> IntArray:
        """(M,) keys by their places among the expected rows' keys."""
        return self.expected.codes[self.places]

    @property
    def read_at(self) -> IntArray:
        """(M,) when rows were read."""
        return self.answers.read_at[self.places]


def evidence_of(rows: Differing, history: LakeHistory) -> Evidence:
    """Look at each row, and into the table's versions where that is needed."""
    event, created = rows.served_times
    at, made = rows.expected_times
    status = rows.served.status[rows.places]
    is_usable = rows.expected.is_usable[rows.places]
    is_unknown = (event < 0) & is_usable
    is_same_row = (event >= 0) & (event == at) & (created == made)
    is_older = (at >= 0) & ((event < at) | ((event == at) & (created < made)))
    is_future = (status == RowStatus.FUTURE) & (np.maximum(event, created) <= rows.read_at)
    is_in_memory = _is_in_memory(rows)
    is_held = _holding(rows, history, only=event >= 0)
    return Evidence(
        is_store_down=rows.answers.is_store_down[rows.places] & (event < 0) & ~is_in_memory,
        is_unknown=is_unknown,
        is_same_row=is_same_row,
        is_older=is_older,
        is_expiry=(status == RowStatus.EXPIRED) != ((at >= 0) & ~is_usable),
        is_past=is_future & rows.answers.is_given[rows.places],
        is_before_due=is_in_memory & _is_before_due(rows, history),
        is_held=is_held,
        was_held=_holding(rows, history, only=(event >= 0) & ~is_held, is_then=True),
        is_made_since=_is_made_since(rows, history, only=is_older & (is_held | is_unknown)),
        has_earlier=_has_earlier(rows, history.now, only=is_unknown),
    )


def _is_in_memory(rows: Differing) -> Mask:
    """Whether the endpoint had the table's rows in memory, with the items."""
    table = rows.table
    is_held = table.role is Role.ITEM or table.of in small_keys(rows.schema)
    return rows.answers.is_from_memory[rows.places] & is_held


def _is_before_due(rows: Differing, history: LakeHistory) -> Mask:
    """Whether the items were last compared with the store before it was to have the row."""
    at, made = rows.expected_times
    is_there = at >= 0
    days = np.full(len(at), np.datetime64("1970-01-01"))
    days[is_there] = rows.expected.rows.days[rows.expected.places[rows.places][is_there]]
    # It counts from then on, and no store has it before the lake does.
    due_at = np.maximum(np.maximum(at, made), history.written_at(days, rows.read_at))
    compared_at = rows.answers.compared_at[rows.places]
    return is_there & (compared_at < due_at) & (due_at <= rows.read_at)


def _holding(rows: Differing, history: LakeHistory, *, only: Mask, is_then: bool = False) -> Mask:
    """Whether the lake has the served row with its values; or had it when the answer was read."""
    found = np.zeros(len(rows.places), dtype=np.bool_)
    event, created = rows.served_times
    versions = np.full(len(event), history.now.version)
    if is_then:
        versions = history.versions_at(rows.read_at)
    only = only & (versions >= 0) & (rows.codes >= 0)
    for number in np.unique(versions[only]):
        of_version = np.flatnonzero(only & (versions == number))
        seen = history.version(int(number))
        if seen is not None:
            keys, codes = _asked(rows, of_version)
            lake = rows_of_events(seen, rows.schema, rows.table, keys, event[of_version])
            places = lake.places(codes, event[of_version], created[of_version])
            taken = pa.array(rows.places[of_version])
            is_equal = places >= 0
            for name, values in rows.served.values.items():
                if name != rows.table.timestamp_column:
                    own = lake.column(name, places)
                    is_equal &= ~differing_values(values.take(taken), own)
            found[of_version] = is_equal
    return found


def _is_made_since(rows: Differing, history: LakeHistory, *, only: Mask) -> Mask:
    """Whether the lake's row was not there when the answer was read, although its day was."""
    found = np.zeros(len(rows.places), dtype=np.bool_)
    at, made = rows.expected_times
    versions = history.versions_at(rows.read_at)
    only = only & (versions >= 0) & (versions != history.now.version)
    for number in np.unique(versions[only]):
        of_version = np.flatnonzero(only & (versions == number))
        seen = history.version(int(number))
        if seen is not None:
            keys, codes = _asked(rows, of_version)
            lake = rows_of_events(seen, rows.schema, rows.table, keys, at[of_version])
            is_new = lake.places(codes, at[of_version], made[of_version]) < 0
            days = rows.expected.rows.days[rows.expected.places[rows.places[of_version]]]
            found[of_version] = is_new & np.isin(days, np.array(seen.days, "datetime64[D]"))
    return found


def _has_earlier(rows: Differing, now: Snapshot, *, only: Mask) -> Mask:
    """Whether a key had a row that counted before the day of the as-of join's row.

    A key that is new that day may have several rows of it: a build or a push that is late brings
    none of them.
    """
    found = np.zeros(len(rows.places), dtype=np.bool_)
    places = np.flatnonzero(only)
    if len(places):
        days = rows.expected.rows.days[rows.expected.places[rows.places][places]]
        before = np.maximum(*(one[places] for one in rows.expected_times)) - 1
        before = np.minimum(before, days.astype("datetime64[us]").astype(np.int64))
        keys, codes = _asked(rows, places)
        lake = rows_visible(now, rows.schema, rows.table, keys, codes=codes, times=before)
        found[places] = lake.newest_visible(codes, before) >= 0
    return found


def _asked(rows: Differing, places: IntArray) -> tuple[pa.Array, IntArray]:
    """The keys of some of the rows, each once, and the place of each row's among them."""
    distinct, codes = np.unique(rows.codes[places], return_inverse=True)
    return rows.expected.keys.take(pa.array(distinct)), codes.astype(np.int64)
