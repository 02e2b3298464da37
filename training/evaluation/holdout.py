"""The days held out, read and scored some rows at a time: what the gate compares, and no more."""

import dataclasses
import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.schema import Schema
from training.artifact.artifact import Artifact
from training.bootstrap import FloatArray
from training.data.dataset import ExampleTable, numbered, users_of
from training.data.examples import Examples
from training.data.slices import named_slices
from training.evaluation.comparison import Holdout, Scores
from training.metrics import log_losses

ROWS_AT_ONCE = 8_192
_LABEL, _EXAMPLE, _USER, _BEST = "label", "example_id", "user", "best"
_REQUEST = "request"
_SLICE, _SCORE = "slice ", "score "
"""How the names of those columns begin of which there are several."""
_Column = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoredDays:
    """The rows of some days, and what each ranker says of them."""

    holdout: Holdout
    scores: dict[str, Scores]
    """By ranker, in the order of the rows."""
    best_log_loss: float | None
    """Mean log loss of the true probabilities; None where they are unknown."""
    num_begun_before: int = 0
    """Rows that were left out: of requests that began on the day before."""


def score_days(
    schema: Schema,
    table: ExampleTable,
    days: Sequence[datetime.date],
    rankers: Mapping[str, Artifact],
) -> ScoredDays:
    """Read some days and score them with each ranker.

    Raises:
        ValueError: The days have no rows, or none that judges.
    """
    parts = (
        _part(schema, examples, rankers)
        for examples in table.stream_judged(days, rows=ROWS_AT_ONCE)
    )
    columns = _joined(parts, num_rows=table.num_rows(days))
    if not columns:
        of = f"of {table.num_rows(days)} rows from {days[:1]} to {days[-1:]} in {table.root}"
        raise ValueError(f"examples: none {of} judges; at least 1")
    num_rows = len(columns[_LABEL])
    columns = _begun_within(schema, table, days, columns)
    label, best = columns[_LABEL], columns.pop(_BEST, None)
    user, request = columns.pop(_USER, None), columns.pop(_REQUEST, None)
    return ScoredDays(
        holdout=Holdout(
            label=label,
            group=np.arange(len(label)) if user is None else numbered(user),
            example_id=columns[_EXAMPLE],
            request=None if request is None else numbered(request),
            slices={
                name.removeprefix(_SLICE): rows
                for name, rows in columns.items()
                if name.startswith(_SLICE)
            },
            has_users=schema.user is not None,
        ),
        scores={name: columns[_SCORE + name] for name in rankers},
        best_log_loss=None if best is None else float(best.mean()),
        num_begun_before=num_rows - len(label),
    )


def _begun_within(
    schema: Schema,
    table: ExampleTable,
    days: Sequence[datetime.date],
    columns: dict[str, _Column],
) -> dict[str, _Column]:
    """Without the rows of requests that began before these days, on rows that were trained on."""
    before = table.days(days[0] - datetime.timedelta(days=1), days[0] - datetime.timedelta(days=1))
    if schema.request is None or not before:
        return columns
    begun = pa.array(table.values(before, schema.request.name)).unique()
    is_begun = pc.is_in(pa.array(columns[_REQUEST]), value_set=begun)
    kept = ~is_begun.to_numpy(zero_copy_only=False)
    return columns if kept.all() else {name: values[kept] for name, values in columns.items()}


def _part(
    schema: Schema, examples: Examples, rankers: Mapping[str, Artifact]
) -> dict[str, _Column]:
    """What is kept of some rows, by name."""
    kept: dict[str, _Column] = {_LABEL: examples.label, _EXAMPLE: examples.example_id}
    if schema.user or schema.request:
        kept[_USER] = users_of(examples, schema)
    if schema.request:
        kept[_REQUEST] = examples.table.column(schema.request.name).to_numpy()
    best = best_log_losses(schema, examples)
    if best is not None:
        kept[_BEST] = best
    columns = {name: examples.table.column(name) for name in examples.table.column_names}
    kept |= {_SLICE + name: rows for name, rows in named_slices(columns, schema).items()}
    return kept | {_SCORE + name: one.score(examples.inputs) for name, one in rankers.items()}


def _joined(parts: Iterable[dict[str, _Column]], *, num_rows: int) -> dict[str, _Column]:
    """Columns whose parts are copied into place as they come; empty without a part.

    Kept as they are, the small parts would lie between what each of them leaves free, and that
    memory could be used for nothing larger.
    """
    columns: dict[str, _Column] = {}
    start = 0
    for part in parts:
        stop = start + len(part[_LABEL])
        for name, values in part.items():
            if name not in columns:
                columns[name] = np.empty(num_rows, values.dtype)
            columns[name][start:stop] = values
        start = stop
    return {name: values[:start] for name, values in columns.items()}


def best_log_losses(schema: Schema, examples: Examples) -> FloatArray | None:
    """Log losses of the true probabilities; None where they are unknown."""
    if not schema.best_log_loss_column:
        return None
    return log_losses(examples.table.column(schema.best_log_loss_column).to_numpy(), examples.label)


def best_log_loss(schema: Schema, examples: Examples) -> float | None:
    """Mean log loss of the true probabilities, in nats; None where they are unknown."""
    losses = best_log_losses(schema, examples)
    return None if losses is None else float(losses.mean())
