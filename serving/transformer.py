"""A request and the online store become model inputs, with the status of every row that was read.

One read for the user and one for the items. The store knows no time-to-live, so it is applied
here, against the request time; a row that cannot be used is nulled, as the training join does.
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.encoding import ModelInputs, RowStatus, encode, row_status
from features.schema import FeatureTable, Kind, Role, Schema
from serving import tracing
from serving.request import RankingRequest

Statuses = npt.NDArray[np.int8]

_SEVERITY = (RowStatus.USABLE, RowStatus.FUTURE, RowStatus.EXPIRED, RowStatus.UNKNOWN)
"""From harmless to worst: an entity of several tables shows its worst status."""


class OnlineReader(Protocol):
    """What serving asks of the online store."""

    def read(self, role: Role, ids: Sequence[int | str]) -> dict[str, pa.Array]:
        """The stored columns and event timestamps of these ids, in order; null where unknown."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidates:
    """N encoded candidates and what is to be said about their features."""

    inputs: ModelInputs
    statuses: dict[str, Statuses]
    """For each feature table, RowStatus values: one for a user table, N for an item table."""
    request: RankingRequest
    columns: dict[str, pa.Array]
    """What was encoded: N raw values of each column, null where a row could not be used."""

    @property
    def missing_context(self) -> tuple[str, ...]:
        """Context columns of which a value was absent or outside the schema's limits."""
        return self.request.missing_context

    @property
    def is_degraded(self) -> bool:
        """Whether any input of the model was missing that could have been there."""
        return bool(self.missing_context) or any(status.any() for status in self.statuses.values())


class Transformer:
    """Reads features and encodes them, for one schema and one store."""

    def __init__(self, schema: Schema, *, online: OnlineReader) -> None:
        """Args: the schema, and the store that holds its features."""
        self._schema = schema
        self._online = online
        self._needed = {table.name: _needed_columns(table) for table in schema.tables}

    def transform(self, request: RankingRequest) -> Candidates:
        """The model inputs of a request, in the order of its candidates."""
        columns = dict(request.columns)
        statuses: dict[str, Statuses] = {}
        for role, _ in self._schema.entities():
            ids, rows = _ids_and_rows(request, role)
            with tracing.span(f"features.{role}"):
                stored = self._online.read(role, ids)
            moment = np.full(len(ids), request.request_time, dtype=np.int64)
            for table in self._schema.tables:
                if table.role is role:
                    status = row_status(table, stored[table.timestamp_column], moment)
                    usable = pa.array(rows, mask=status[rows] != RowStatus.USABLE)
                    for name in self._needed[table.name]:
                        columns[name] = stored[name].take(usable)
                    statuses[table.name] = status if role is Role.USER else status[rows]
        return Candidates(
            inputs=encode(self._schema, columns),
            statuses=statuses,
            request=request,
            columns=columns,
        )


def worst_status(schema: Schema, role: Role, statuses: dict[str, Statuses]) -> Statuses:
    """For each entity of one side, the worst status among its tables."""
    severity = np.zeros(len(RowStatus), dtype=np.int8)
    severity[list(_SEVERITY)] = np.arange(len(_SEVERITY))
    tables = [statuses[table.name] for table in schema.tables if table.role is role]
    worst = np.max([severity[status] for status in tables], axis=0)
    status: Statuses = np.array(_SEVERITY, dtype=np.int8)[worst]
    return status


def _needed_columns(table: FeatureTable) -> list[str]:
    """Stored columns that the encoder reads, and the row's event timestamp."""
    in_bags = {name for bag in table.bags for name in (bag.items, bag.labels)}
    names = [c.name for c in table.columns if c.kind is not Kind.STORED or c.name in in_bags]
    return [*names, table.timestamp_column]


def _ids_and_rows(
    request: RankingRequest, role: Role
) -> tuple[Sequence[int | str], npt.NDArray[np.int64]]:
    """The ids to read, each once, and for each candidate the place of its id among them."""
    if role is Role.USER:
        if request.user_id is None:
            raise ValueError("user_id: None; a schema with a user needs one")
        return [request.user_id], np.zeros(len(request), dtype=np.int64)
    places: dict[int | str, int] = {}
    rows = [places.setdefault(item_id, len(places)) for item_id in request.item_ids]
    return list(places), np.array(rows, dtype=np.int64)
