"""The keys of a request's candidates in declared tables: of ids, context and visible attributes."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from features.encoding.encoded_table import Part
from features.encoding.primitives import IntArray
from features.schema import FeatureTable, Role, Schema, TableKind
from features.schema.keys import keys_of
from serving.protocol.ranking_request import RankingRequest

Wanted = tuple[Sequence[int | str], IntArray]
"""Ids to read, and the places among them that a request uses; -1 where it has none."""
PartOf = Callable[[FeatureTable], Part]
"""The rows of a table that a request uses."""


class RequestKeys:
    """Makes the keys of a schema's declared tables, as the training join does in Spark."""

    def __init__(self, schema: Schema) -> None:
        """Args: the schema."""
        self._schema = schema
        self.columns = {table.of: table.by for table in schema.tables if table.by}
        """By key the columns that it is made of."""
        self._owners = {
            column.name: table
            for table in schema.tables
            if table.kind is TableKind.ATTRIBUTES
            for column in table.columns
        }

    def wanted(self, of: str, request: RankingRequest, part_of: PartOf) -> Wanted:
        """The keys of a request's candidates, each once, and where each candidate's is.

        Args:
            of: The key.
            request: The request.
            part_of: Gives the attributes that the request sees.
        """
        values = [self._values(name, request, part_of) for name in self.columns[of]]
        return distinct(keys_of(values))

    def _values(
        self, name: str, request: RankingRequest, part_of: PartOf
    ) -> Sequence[int | str | None]:
        """A column's value of each candidate; None where it is missing."""
        schema = self._schema
        if name == schema.item.name:
            return plain(request.item_ids)
        if schema.user is not None and name == schema.user.name:
            return [request.user_ids[place] for place in request.user.tolist()]
        table = self._owners.get(name)
        values = request.each[name] if table is None else part_of(table).column(name)
        if table is not None and table.role is Role.USER:
            values = values.take(pa.array(request.user))
        found: list[int | str | None] = values.to_pylist()
        return found


def distinct(ids: Sequence[int | str | None]) -> Wanted:
    """The ids, each once, and for each of those given its place among them; -1 for None."""
    places: dict[int | str, int] = {}
    rows = [-1 if one is None else places.setdefault(one, len(places)) for one in ids]
    return list(places), np.array(rows, dtype=np.int64)


def plain(ids: object) -> list[int | str | None]:
    """Ids as a list of Python's values."""
    found: list[int | str | None] = ids if isinstance(ids, list) else np.asarray(ids).tolist()
    return found
