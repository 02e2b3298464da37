"""A request and the online store become model inputs, with the status of every row that was read.

Users are read once for a request; items are held in memory, or read once for it. Whether a row
may be counted on yet, and whether it is too old, is decided here, against the request's time; a
row that cannot be used counts as one that is all null, as the training join has it.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa

from features.encoding.encode import RowStatus
from features.encoding.encoded_table import EncodedTable, Statuses
from features.encoding.primitives import IntArray
from features.encoding.request import RequestColumns, assemble
from features.schema import Role, Schema
from serving.lookup.item_cache import Snapshot
from serving.observability import tracing
from serving.protocol.candidates import Candidates
from serving.protocol.ranking_request import RankingRequest

_SEVERITY = (RowStatus.USABLE, RowStatus.FUTURE, RowStatus.EXPIRED, RowStatus.UNKNOWN)
"""From harmless to worst: an entity of several tables shows its worst status."""


_Wanted = tuple[Sequence[int | str], IntArray]
"""Ids to read, and the places among them that a request uses."""
_Tables = dict[str, tuple[EncodedTable, IntArray]]


class OnlineReader(Protocol):
    """What serving asks of the online store."""

    def read(
        self, role: Role, ids: Sequence[int | str], *, since: int | None = None
    ) -> dict[str, pa.Array]:
        """What ``OnlineRows.read`` gives: stored columns, moments, earlier rows."""
        ...


@dataclasses.dataclass(frozen=True)
class FeatureRows:
    """Of each feature table the encoded rows, and which of them are a request's."""

    tables: dict[str, tuple[EncodedTable, IntArray]]
    """U rows of a user's table, N of an item's."""
    flags: tuple[str, ...] = ()
    """Degradation flags: ``store_unavailable``, ``items_stale``."""


@dataclasses.dataclass(frozen=True)
class Items:
    """Items in memory, and whether they are older than they may be without a word."""

    snapshot: Snapshot
    is_stale: bool = False


class Transformer:
    """Reads features and puts a request's inputs together, for one schema and one store."""

    def __init__(
        self,
        schema: Schema,
        *,
        online: OnlineReader,
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
        self._null_rows = {
            table.name: EncodedTable.null_row(schema, table) for table in schema.tables
        }

    @property
    def must_read(self) -> bool:
        """Whether a request needs the store at all."""
        return self._schema.user is not None or self._items() is None

    def transform(self, request: RankingRequest) -> Candidates:
        """The model inputs of a request, in the order of its candidates."""
        return self.put_together(request, self.read(request))

    def num_reads(self, request: RankingRequest) -> int:
        """The most rows to read from the store."""
        return len(request.user_ids) + (0 if self._items() else len(request))

    def read(self, request: RankingRequest) -> FeatureRows:
        """The request's rows: users and, where they are not in memory, items; may take long."""
        (rows,) = self.read_together([request])
        return rows

    def read_together(self, requests: Sequence[RankingRequest]) -> list[FeatureRows]:
        """``read`` of several requests, with one read of the store for each side."""
        since = min((request.request_time for request in requests), default=None)
        users = self._together(Role.USER, [_users(request) for request in requests], since)
        items = self._items()
        if items is not None:
            return [
                _with_items(tables, items, request)
                for tables, request in zip(users, requests, strict=True)
            ]
        distinct = self._together(Role.ITEM, [_distinct(request) for request in requests], since)
        return [FeatureRows({**u, **i}) for u, i in zip(users, distinct, strict=True)]

    def transform_without_store(self, request: RankingRequest) -> Candidates:
        """The model inputs of a request when the store gives no rows."""
        return self.put_together(request, self._without_store(request))

    def _without_store(self, request: RankingRequest) -> FeatureRows:
        flags = ("store_unavailable",)
        no_users = np.zeros(len(request.user_ids), dtype=np.int64)
        no_items = np.zeros(len(request), dtype=np.int64)
        tables = {
            table.name: (
                self._null_rows[table.name],
                no_users if table.role is Role.USER else no_items,
            )
            for table in self._schema.tables
        }
        items = self._items()
        if items is None:
            return FeatureRows(tables, flags)
        rows = _with_items(tables, items, request)
        return FeatureRows(rows.tables, (*flags, *rows.flags))

    def put_together(self, request: RankingRequest, rows: FeatureRows) -> Candidates:
        """The inputs of a request whose rows are there; reads nothing."""
        parts = {
            name: encoded.part(places, request.request_time)
            for name, (encoded, places) in rows.tables.items()
        }
        columns = RequestColumns(
            each=request.each,
            users=request.users,
            user=request.user,
            num_users=max(1, len(request.user_ids)),
            request_time=request.request_time,
        )
        inputs = assemble(self._schema, columns, parts)
        return Candidates(inputs=inputs, parts=parts, request=request, flags=rows.flags)

    def _together(self, role: Role, wanted: Sequence[_Wanted], since: int | None) -> list[_Tables]:
        """For each request, by table of one side, all rows that were read and which it uses."""
        ids = [one for given, _ in wanted for one in given]
        if not ids:
            return [{} for _ in wanted]
        encoded = self._encoded(role, ids, since)
        starts = itertools.accumulate((len(given) for given, _ in wanted), initial=0)
        return [
            {name: (table, rows + start) for name, table in encoded.items()}
            for (_, rows), start in zip(wanted, starts, strict=False)
        ]

    def _encoded(
        self, role: Role, ids: Sequence[int | str], since: int | None
    ) -> dict[str, EncodedTable]:
        with tracing.span(f"features.{role}"):
            stored = self._online.read(role, ids, since=since)
        return {
            table.name: EncodedTable.of(
                self._schema, table, stored, null_row=self._null_rows[table.name]
            )
            for table in self._schema.tables
            if table.role is role
        }


def worst_status(schema: Schema, role: Role, statuses: dict[str, Statuses]) -> Statuses:
    """For each entity of one side, the worst status among its tables."""
    severity = np.zeros(len(RowStatus), dtype=np.int8)
    severity[list(_SEVERITY)] = np.arange(len(_SEVERITY))
    tables = [statuses[table.name] for table in schema.tables if table.role is role]
    worst = np.max([severity[status] for status in tables], axis=0)
    status: Statuses = np.array(_SEVERITY, dtype=np.int8)[worst]
    return status


def _with_items(tables: _Tables, items: Items, request: RankingRequest) -> FeatureRows:
    """Rows of items in memory, added to those that are there."""
    rows = items.snapshot.rows(request.item_ids)
    own = {name: (encoded, rows) for name, encoded in items.snapshot.tables.items()}
    return FeatureRows({**tables, **own}, ("items_stale",) if items.is_stale else ())


def _users(request: RankingRequest) -> _Wanted:
    """The users to read, and the place of each."""
    return request.user_ids, np.arange(len(request.user_ids))


def _distinct(request: RankingRequest) -> _Wanted:
    """The items to read, each once, and for each candidate the place of its own among them."""
    places: dict[int | str, int] = {}
    sent = request.item_ids
    ids = sent if isinstance(sent, list) else sent.tolist()
    rows = [places.setdefault(one, len(places)) for one in ids]
    return list(places), np.array(rows, dtype=np.int64)
