"""The days held out, read and scored some rows at a time: what the gate compares, and no more."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from features.schema import Role, Schema, TableKind
from training.artifact import Artifact
from training.comparison import Holdout, Scores
from training.dataset import Examples, ExampleTable
from training.metrics import FloatArray, log_losses

ROWS_AT_ONCE = 8_192
_NEW_USER_IMPRESSIONS, _HEAVY_USER_IMPRESSIONS, _NEW_ITEM_IMPRESSIONS = 10, 100, 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoredDays:
    """The rows of some days, and what each ranker says of them."""

    holdout: Holdout
    scores: dict[str, Scores]
    """By ranker, in the order of the rows."""
    best_log_loss: float | None
    """Mean log loss of the true probabilities; None where they are unknown."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Part:
    """Some of the rows."""

    label: npt.NDArray[np.int64]
    example_id: npt.NDArray[np.int64]
    user: npt.NDArray[np.generic] | None
    slices: dict[str, npt.NDArray[np.bool_]]
    scores: dict[str, Scores]
    best: FloatArray | None


def score_days(
    schema: Schema,
    table: ExampleTable,
    days: Sequence[datetime.date],
    rankers: Mapping[str, Artifact],
) -> ScoredDays:
    """Read some days and score them with each ranker.

    Raises:
        ValueError: The days have no rows.
    """
    stream = table.stream(days, rows=ROWS_AT_ONCE)
    parts = [_part(schema, examples, rankers) for examples in stream]
    if not parts:
        raise ValueError(f"examples: no rows from {days[:1]} to {days[-1:]} in {table.root}")
    label = np.concatenate([part.label for part in parts])
    users = [part.user for part in parts if part.user is not None]
    group = np.unique(np.concatenate(users), return_inverse=True)[1] if users else None
    best = [part.best for part in parts if part.best is not None]
    return ScoredDays(
        holdout=Holdout(
            label=label,
            group=np.arange(len(label)) if group is None else group,
            example_id=np.concatenate([part.example_id for part in parts]),
            slices={
                name: np.concatenate([part.slices[name] for part in parts])
                for name in parts[0].slices
            },
            has_users=group is not None,
        ),
        scores={name: np.concatenate([part.scores[name] for part in parts]) for name in rankers},
        best_log_loss=float(np.concatenate(best).mean()) if best else None,
    )


def _part(schema: Schema, examples: Examples, rankers: Mapping[str, Artifact]) -> _Part:
    user = examples.table.column(schema.user.name).to_numpy() if schema.user else None
    return _Part(
        label=examples.label,
        example_id=examples.example_id,
        user=user,
        slices=named_slices(examples, schema),
        scores={name: ranker.score(examples.inputs) for name, ranker in rankers.items()},
        best=best_log_losses(schema, examples),
    )


def named_slices(examples: Examples, schema: Schema) -> dict[str, npt.NDArray[np.bool_]]:
    """Parts of the rows that must not break: new users, heavy users, new items."""
    slices = {}
    for table in schema.tables:
        if table.kind is TableKind.ATTRIBUTES:
            continue
        count = examples.table.column(f"{table.role}_impressions_all").fill_null(0).to_numpy()
        if table.role is Role.USER:
            slices["new users"] = count < _NEW_USER_IMPRESSIONS
            slices["heavy users"] = count >= _HEAVY_USER_IMPRESSIONS
        else:
            slices["new items"] = count < _NEW_ITEM_IMPRESSIONS
    return slices


def best_log_losses(schema: Schema, examples: Examples) -> FloatArray | None:
    """Log losses of the true probabilities; None where they are unknown."""
    if not schema.best_log_loss_column:
        return None
    return log_losses(examples.table.column(schema.best_log_loss_column).to_numpy(), examples.label)
