"""The encoded candidates of a request, and what is to be said about their features."""

import dataclasses
import functools
from collections.abc import Mapping

import pyarrow as pa

from features.encoding.encode import RequestInputs
from features.encoding.encoded_table import OwnRows, Part, Statuses
from features.schema import Role
from serving.protocol.ranking_request import RankingRequest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidates:
    """N encoded candidates and what is to be said about their features."""

    inputs: RequestInputs
    parts: Mapping[str, Part | OwnRows]
    request: RankingRequest
    flags: tuple[str, ...] = ()

    @property
    def statuses(self) -> dict[str, Statuses]:
        """For each feature table, RowStatus values: U for a user table, N for an item table."""
        return {name: part.status for name, part in self.parts.items()}

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
        is_complete = not self.missing_context and not self.flags
        return not is_complete or any(part.status.any() for part in self.parts.values())
