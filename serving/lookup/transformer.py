"""A request and the online store become model inputs, with the status of every row that was read.

Users are read once for a request; items are held in memory, or read once for it. Tables by another
key follow, for a key may be made of attributes of users and items. Whether a row
may be counted on yet, and whether it is too old, is decided here, against the request's time; a
row that cannot be used counts as one that is all null, as the training join has it.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from features.encoding.encode import RequestInputs, RowStatus
from features.encoding.encoded_table import EncodedTable, OwnRows, Part, Statuses
from features.encoding.primitives import IntArray
from features.encoding.request import assemble
from features.online_store.reader import OnlineRows
from features.schema import FeatureTable, Role, Schema
from serving.lookup.item_cache import Items
from serving.lookup.request_keys import RequestKeys, Wanted, distinct, plain
from serving.lookup.snapshot import microseconds_now
from serving.observability import request_metrics, tracing
from serving.protocol.ranking_request import RankingRequest

_Tables = dict[str, tuple[EncodedTable, IntArray]]


class ReadTimes(NamedTuple):
    """When rows were read, in epoch microseconds."""

    read_at: int
    """When the request's own rows had been read, or were given up."""
    items_version: int | None = None
    """Version of the items in memory; None where those are not used."""
    items_compared_at: int | None = None
    """When they were last found equal to the store's."""


@dataclasses.dataclass(frozen=True)
class FeatureRows:
    """Where a request's features are."""

    tables: Mapping[str, tuple[EncodedTable, IntArray]]
    """Of each feature table that was read the encoded rows, and which of them are a request's: U
    of a user's table, N of others. A table that is neither here nor in memory has no rows."""
    items: Items | None
    """In memory, where those are used."""
    times: ReadTimes
    flags: tuple[str, ...] = ()
    """Degradation flags: ``store_unavailable``, ``items_stale``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidates:
    """N encoded candidates and what is to be said about their features."""

    inputs: RequestInputs
    parts: Mapping[str, Part | OwnRows]
    request: RankingRequest
    times: ReadTimes
    flags: tuple[str, ...] = ()

    @property
    def statuses(self) -> dict[str, Statuses]:
        """For each feature table, RowStatus values: U for a user table, N for others."""
        return {name: part.status for name, part in self.parts.items()}

    @functools.cached_property
    def num_rows(self) -> dict[str, list[int]]:
        """For each feature table, how many rows have each RowStatus."""
        return {
            name: np.bincount(part.status, minlength=len(RowStatus)).tolist()
            for name, part in self.parts.items()
        }

    @functools.cached_property
    def columns(self) -> dict[str, pa.Array]:
        """What was encoded: N raw values of each column, null where a row could not be used."""
        columns = self.request.columns
        for part in self.parts.values():
            table = part.table
            place = pa.array(self.request.user) if table.role is Role.USER else None
            for name in table.encoded_columns:
                values = part.column(name)
                columns[name] = values if place is None else values.take(place)
        return columns

    @functools.cached_property
    def copied(self) -> "Candidates":
        """The same with copies of its rows: it may be kept when the tables have been replaced."""
        parts = {name: part.copied() for name, part in self.parts.items()}
        return dataclasses.replace(self, parts=parts)

    @property
    def missing_context(self) -> tuple[str, ...]:
        """Context columns of which a value was absent or outside the schema's limits."""
        return self.request.missing_context

    @property
    def is_degraded(self) -> bool:
        """Whether any input of the model was missing that could have been there, or is old."""
        return bool(self.degraded_by)

    @functools.cached_property
    def degraded_by(self) -> tuple[str, ...]:
        """Why it is degraded: flags, then ``missing_context:<column>`` and ``<status>:<table>``.

        A key that has no row is no fault: most pairs of a user and a category never occurred.
        """
        missing = [f"missing_context:{name}" for name in self.missing_context]
        unusable = [
            f"{status.name.lower()}:{name}"
            for name, numbers in self.num_rows.items()
            for status in (RowStatus.UNKNOWN, RowStatus.EXPIRED, RowStatus.FUTURE)
            if numbers[status] and not (status is RowStatus.UNKNOWN and self.parts[name].table.by)
        ]
        return (*self.flags, *missing, *unusable)


class Transformer:
    """Reads features and puts a request's inputs together, for one schema and one store."""

    def __init__(
        self,
        schema: Schema,
        *,
        online: OnlineRows,
        items: Callable[[], Items | None] = lambda: None,
    ) -> None:
        """Hold what a request needs.

        Args:
            schema: The data set's schema.
            online: The store that holds its features.
            items: Where the items in memory are, which may change from request to request; None
                where there are none, and a request's are read.
        """
        self._schema = schema
        self._online = online
        self._items = items
        self._keys = RequestKeys(schema)
        self._null_rows = {
            table.name: EncodedTable.null_row(schema, table) for table in schema.tables
        }
        self._newest: dict[str, float] = {}

    def num_reads(self, request: RankingRequest) -> int:
        """The most rows of a request to read from the store; 0: it needs no store."""
        items = self._items()
        num_per_candidate = len(self._keys_to_read(items)) + (0 if items else 1)
        return len(request.user_ids) + num_per_candidate * len(request)

    def read(self, requests: Sequence[RankingRequest]) -> list[FeatureRows]:
        """The rows of each: users, items where they are not in memory, and keys; may take long.

        There is one read of the store for each side, and for each key.
        """
        since = min((request.request_time for request in requests), default=None)
        found = self._together(Role.USER, [_users(request) for request in requests], since)
        items = self._items()
        if items is None:
            wanted = [distinct(plain(request.item_ids)) for request in requests]
            found = _merged(found, self._together(Role.ITEM, wanted, since))
        for of in self._keys_to_read(items):
            wanted = [
                self._keys.wanted(of, request, self._part_of(request, tables, items))
                for request, tables in zip(requests, found, strict=True)
            ]
            found = _merged(found, self._together(of, wanted, since))
        times = _times(items)
        return [FeatureRows(tables, items, times, _stale(items)) for tables in found]

    def without_store(self, *, is_unavailable: bool = True) -> FeatureRows:
        """What there is of a request when the store gives no rows, or is not needed."""
        items = self._items()
        unavailable = ("store_unavailable",) if is_unavailable else ()
        return FeatureRows({}, items, _times(items), (*unavailable, *_stale(items)))

    def put_together(self, request: RankingRequest, rows: FeatureRows) -> Candidates:
        """The model inputs of a request whose rows are there, in the order of its candidates."""
        part_of = self._part_of(request, rows.tables, rows.items)
        parts = {table.name: part_of(table) for table in self._schema.tables}
        inputs = assemble(self._schema, request, parts)
        return Candidates(
            inputs=inputs, parts=parts, request=request, times=rows.times, flags=rows.flags
        )

    def _keys_to_read(self, items: Items | None) -> list[str]:
        """The keys of declared tables that are not in memory."""
        held = items.snapshot.by_key if items else {}
        return [of for of in self._keys.columns if of not in held]

    def _part_of(
        self,
        request: RankingRequest,
        tables: Mapping[str, tuple[EncodedTable, IntArray]],
        items: Items | None,
    ) -> Callable[[FeatureTable], Part]:
        """What gives the rows of a table that a request uses."""
        found = dict(tables)
        if items is not None:
            places = items.snapshot.rows(request.item_ids)
            found |= {name: (one, places) for name, one in items.snapshot.tables.items()}

        def part_of(table: FeatureTable) -> Part:
            size = len(request.user_ids) if table.role is Role.USER else len(request)
            no_rows = self._null_rows[table.name], np.zeros(size, dtype=np.int64)
            encoded, places = found.get(table.name, no_rows)
            return encoded.part(places, request.request_time)

        for of, held in items.snapshot.by_key.items() if items else ():
            ids, places = self._keys.wanted(of, request, part_of)
            rows = np.append(held.rows(ids), -1)[places]
            found |= {name: (one, rows) for name, one in held.tables.items()}
        return part_of

    def transform(self, request: RankingRequest) -> Candidates:
        """``read`` and ``put_together`` of one request."""
        (rows,) = self.read([request])
        return self.put_together(request, rows)

    def _together(self, of: str, wanted: Sequence[Wanted], since: int | None) -> list[_Tables]:
        """For each request, by table of the same, all rows that were read and which it uses."""
        ids = [one for given, _ in wanted for one in given]
        if not ids:
            return [{} for _ in wanted]
        encoded = self._encoded(of, ids, since)
        starts = itertools.accumulate((len(given) for given, _ in wanted), initial=0)
        return [
            {name: (table, np.where(rows < 0, -1, rows + start)) for name, table in encoded.items()}
            for (_, rows), start in zip(wanted, starts, strict=False)
        ]

    def _encoded(
        self, of: str, ids: Sequence[int | str], since: int | None
    ) -> dict[str, EncodedTable]:
        with tracing.span(f"features.{of}"):
            stored = self._online.read(of, ids, since=since)
        encoded = {
            table.name: EncodedTable.of(
                self._schema, table, stored, null_row=self._null_rows[table.name]
            )
            for table in self._schema.tables
            if table.of == of
        }
        for name, rows in encoded.items():
            before = self._newest.get(name, 0.0)
            self._newest[name] = request_metrics.show_newest_row(
                self._schema, rows, at_least=before
            )
        return encoded


def _times(items: Items | None) -> ReadTimes:
    now = microseconds_now()
    if items is None:
        return ReadTimes(now)
    age = items.age_seconds
    compared_at = now - round(age * 1e6) if math.isfinite(age) else None
    return ReadTimes(now, items.snapshot.version, compared_at)


def _stale(items: Items | None) -> tuple[str, ...]:
    return ("items_stale",) if items is not None and items.is_stale else ()


def _users(request: RankingRequest) -> Wanted:
    """The users to read, and the place of each."""
    return request.user_ids, np.arange(len(request.user_ids))


def _merged(found: Sequence[_Tables], more: Sequence[_Tables]) -> list[_Tables]:
    """The tables of each request, with more of them."""
    return [{**one, **other} for one, other in zip(found, more, strict=True)]
