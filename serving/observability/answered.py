"""One answer and what it was made of, as rows of the prediction log."""

import dataclasses
import datetime
import functools
import os
import socket
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.encoding.encode import RowStatus
from features.encoding.encoded_table import OwnRows
from features.online_store.codec import STAMP
from features.prediction_log.columns import FORMAT_VERSION, HOUR, SENT_ITEM, status_column
from features.prediction_log.hashed_ids import IdHash, user_key
from features.prediction_log.replay import where
from features.schema import DAY, Role, Schema
from serving.observability.sampling import Inclusion, draw
from training.registry.aliases import CHAMPION

if TYPE_CHECKING:
    from serving.lookup.transformer import Candidates

_STATUS_NAMES = pa.array([status.name.lower() for status in RowStatus])


@dataclasses.dataclass(frozen=True)
class Arm:
    """A side of the split of requests."""

    name: str
    """``stable``, ``canary`` or ``shadow``."""
    percent: float
    """Of the requests."""
    salt: str = ""


STABLE = "stable"
ALL = Arm(STABLE, 100.0)
"""The side of all requests where there is no canary."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answered:
    """One answer and what it was made of."""

    answer_id: str
    request_id: str
    answered_at: datetime.datetime
    model_version: str
    scores: npt.NDArray[np.float32]
    candidates: "Candidates"
    role: str = CHAMPION
    """Champion or canary; or shadow, whose scores no caller saw."""
    arm: Arm = ALL
    inclusion: Inclusion | None = None
    """None: it is not logged."""

    @functools.cached_property
    def draw(self) -> float:
        """Where it stands among all answers."""
        return draw(self.answer_id)

    def copied(self) -> "Answered":
        """The same, for a queue: it keeps no feature table in memory."""
        return dataclasses.replace(self, candidates=self.candidates.copied)


class RowMaker:
    """Makes the rows of answers of one schema, in one process."""

    def __init__(self, schema: Schema, *, columns: pa.Schema, hashed: IdHash | None) -> None:
        """Hold what all rows have in common.

        Args:
            schema: The data set's schema.
            columns: Of the log.
            hashed: Hashes ids; None: they are written as they are.
        """
        partitions = [pa.field(DAY, pa.date32()), pa.field(HOUR, pa.int32())]
        self._columns = pa.schema([*columns, *partitions])
        self._schema = schema
        self._hashed = hashed
        self._common = {
            "format_version": FORMAT_VERSION,
            "schema_fingerprint": schema.fingerprint(),
            "pod": socket.gethostname(),
            "process": os.getpid(),
            "hash_key_id": hashed.key_id if hashed else None,
        }

    def rows(self, answered: Answered) -> pa.Table:
        """One row for each candidate, in the order of the request."""
        size = len(answered.scores)
        values = self._common | _of_answer(answered)
        if self._hashed:
            values["request_id"] = self._hashed.request(answered.request_id)
        arrays = self._of_candidates(answered) | self._of_tables(answered.candidates)
        columns = [
            arrays[field.name] if field.name in arrays else _repeated(values, field, size)
            for field in self._columns
        ]
        return pa.Table.from_arrays(columns, schema=self._columns)

    def _of_candidates(self, answered: Answered) -> dict[str, pa.Array]:
        request, size = answered.candidates.request, len(answered.scores)
        order = np.argsort(-answered.scores, kind="stable")
        rank = np.empty(size, dtype=np.int32)
        rank[order] = np.arange(1, size + 1)
        found = {
            "place": pa.array(np.arange(size, dtype=np.int32)),
            "rank": pa.array(rank),
            "score": pa.array(answered.scores, pa.float32()),
            SENT_ITEM: pa.array(request.item_ids, self._columns.field(SENT_ITEM).type),
            **request.columns,
        }
        if self._schema.user is not None:
            keys = list(map(user_key(self._hashed), request.user_ids))
            found["user_key"] = pa.array(keys, pa.string()).take(pa.array(request.user))
            if self._hashed:
                name = self._schema.user.name
                found[name] = pa.nulls(size, self._columns.field(name).type)
        return found

    def _of_tables(self, candidates: "Candidates") -> dict[str, pa.Array]:
        """What was read, whether or not it could be used, and why not."""
        found: dict[str, pa.Array] = {}
        user = pa.array(candidates.request.user)
        for table in self._schema.tables:
            part = candidates.parts[table.name].copied()
            columns = {
                **{name: part.read(name) for name in table.encoded_columns},
                table.created_column: _created(part),
                status_column(table): _STATUS_NAMES.take(pa.array(part.status)),
            }
            if table.role is Role.USER:
                columns = {name: values.take(user) for name, values in columns.items()}
            found |= columns
        return found


def _of_answer(answered: Answered) -> dict[str, object]:
    """What is the same in all rows of an answer."""
    candidates, at = answered.candidates, answered.answered_at
    stratum, probability = answered.inclusion or (None, None)
    return {
        "answer_id": answered.answer_id,
        "request_id": answered.request_id,
        "answered_at": at,
        "model_version": answered.model_version,
        "role": answered.role,
        "arm": answered.arm.name,
        "arm_percent": answered.arm.percent,
        "arm_salt": answered.arm.salt,
        "stratum": stratum,
        "inclusion_probability": probability,
        "is_time_given": candidates.request.is_time_given,
        "read_at": candidates.times.read_at,
        "items_version": candidates.times.items_version,
        "items_compared_at": candidates.times.items_compared_at,
        "degraded_by": list(candidates.degraded_by),
        DAY: at.date(),
        HOUR: at.hour,
    }


def _repeated(values: dict[str, object], field: pa.Field, size: int) -> pa.Array:
    return pa.repeat(pa.scalar(values.get(field.name), field.type), size)


def _created(part: OwnRows) -> pa.Array:
    created = pa.array(part.created, pa.int64()).cast(STAMP)
    return where(created, part.read(part.table.timestamp_column).is_valid())
