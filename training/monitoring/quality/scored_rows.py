"""Rows of the prediction log as arrays: what figures are computed of, part by part."""

import dataclasses
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.prediction_log.columns import HOUR
from features.schema import Schema, TableKind
from training.bootstrap import FloatArray
from training.data.slices import named_slices
from training.evaluation.findings import usable

Bools = npt.NDArray[np.bool_]
ALL = "all"
"""The slice that has every row."""
DEGRADED = "degraded answers"
COLUMNS = (
    *("answer_id", "model_version", "role", "inclusion_probability", "degraded_by", "user_key"),
    *("score", HOUR),
)
"""What is read of the log, besides the columns of slices."""


class Scorer(NamedTuple):
    """A version in one of its roles: the answers of each are a population of their own."""

    version: str
    role: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoredRows:
    """Candidates that were scored."""

    score: npt.NDArray[np.float32]
    weight: FloatArray
    """How many candidates like it each row stands for: 1 / inclusion probability."""
    answer: npt.NDArray[np.int64]
    """Number of the row's answer."""
    user: npt.NDArray[np.int64] | None
    """Number of its user; None where users have no id."""
    hour: npt.NDArray[np.int64]
    slices: dict[str, Bools]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.score)

    @property
    def num_answers(self) -> int:
        """How many answers the rows are of."""
        return len(np.unique(self.answer))

    def take(self, rows: Bools) -> "ScoredRows":
        """Some of the rows."""
        return dataclasses.replace(
            self,
            score=self.score[rows],
            weight=self.weight[rows],
            answer=self.answer[rows],
            user=None if self.user is None else self.user[rows],
            hour=self.hour[rows],
            slices={name: part[rows] for name, part in self.slices.items()},
        )

    def parts(self) -> list[tuple[str, int | None, Bools]]:
        """Slice, hour and rows of each part that has some; without an hour: of the whole day."""
        found: list[tuple[str, int | None, Bools]] = []
        for name, of_slice in {ALL: np.ones(len(self), bool), **self.slices}.items():
            found.append((name, None, of_slice))
            found += [(name, int(h), of_slice & (self.hour == h)) for h in np.unique(self.hour)]
        return [part for part in found if part[2].any()]


def slice_columns(schema: Schema) -> list[str]:
    """Columns of the log by which slices are told apart."""
    return [
        f"{table.role}_impressions_all"
        for table in schema.tables
        if table.kind is not TableKind.ATTRIBUTES and not table.is_declared
    ]


def scored_rows(schema: Schema, logged: pa.Table) -> ScoredRows:
    """The rows of a log, in its order.

    Args:
        schema: Of the data set.
        logged: With ``COLUMNS``, and ``slice_columns`` as far as the log has them.
    """
    columns = {name: logged.column(name) for name in logged.column_names}
    is_degraded = pc.greater(pc.list_value_length(logged["degraded_by"]), 0).fill_null(False)
    return ScoredRows(
        score=logged["score"].fill_null(float("nan")).to_numpy().astype(np.float32),
        weight=1 / logged["inclusion_probability"].to_numpy(),
        answer=_numbers(logged["answer_id"]),
        user=None if schema.user is None else _numbers(logged["user_key"]),
        hour=logged[HOUR].to_numpy().astype(np.int64),
        slices={
            **named_slices(columns, schema),
            DEGRADED: is_degraded.to_numpy(),
        },
    )


def rows_by_scorer(logged: pa.Table) -> dict[Scorer, Bools]:
    """The rows of each version and role, by name."""
    pairs = logged.group_by(["model_version", "role"]).aggregate([]).to_pylist()
    scorers = sorted(Scorer(pair["model_version"], pair["role"]) for pair in pairs)
    return {
        one: pc.and_(
            pc.equal(logged["model_version"], one.version), pc.equal(logged["role"], one.role)
        ).to_numpy()
        for one in scorers
    }


def is_usable(rows: ScoredRows) -> Bools:
    """Which rows have a probability as their score."""
    return usable(rows.score)


def _numbers(values: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """A number for each value, the same for equal ones."""
    codes = pc.dictionary_encode(values.combine_chunks(), null_encoding="encode")
    numbers: npt.NDArray[np.int64] = codes.indices.to_numpy().astype(np.int64)
    return numbers
