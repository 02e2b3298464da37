"""Two rankers on the same rows: by how much one is worse, with intervals over resampled users.

All of it is ratios of sums over rows, so one pass of the bootstrap has every interval of a pair.
"""

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from training.bootstrap import FloatArray, bootstrap_sums, interval, ratio
from training.metrics import group_aucs, log_losses

Scores = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Holdout:
    """The rows on which rankers are judged; none has trained on them."""

    label: npt.NDArray[np.int64]
    """0 or 1."""
    group: npt.NDArray[np.int64]
    """Number of the row's user; where users have no id, of its request."""
    example_id: npt.NDArray[np.int64]
    slices: dict[str, npt.NDArray[np.bool_]] = dataclasses.field(default_factory=dict)
    """Named parts of the rows, such as new users."""
    has_users: bool = True
    """Whether users are known; else nothing is compared by GAUC."""
    request: npt.NDArray[np.int64] | None = None
    """Number of the row's request; None where requests have no id."""

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.label)

    def num_users(self, rows: npt.NDArray[np.bool_] | None = None) -> int:
        """How many users there are, or have some of the rows."""
        return len(np.unique(self.group if rows is None else self.group[rows]))

    def take(self, rows: npt.NDArray[np.bool_]) -> "Holdout":
        """Some of the rows."""
        if rows.all():
            return self
        return dataclasses.replace(
            self,
            label=self.label[rows],
            group=self.group[rows],
            example_id=self.example_id[rows],
            slices={name: part[rows] for name, part in self.slices.items()},
            request=None if self.request is None else self.request[rows],
        )


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The candidate beside a baseline on some rows: the change, and its 95 % interval."""

    rows: int
    change: float
    """Of the log loss: relative to the baseline's. Of the GAUC: the difference."""
    low: float
    high: float

    @property
    def is_finite(self) -> bool:
        """Whether all of it is known."""
        return all(map(math.isfinite, (self.change, self.low, self.high)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Against:
    """The candidate beside one baseline."""

    log_loss: Comparison
    """Relative change; negative is better."""
    gauc: Comparison | None
    """Difference, over users with both labels; positive is better. None where users are unknown."""
    num_gauc_users: int
    """Users with both labels."""
    slices: dict[str, Comparison]
    """Relative change of the log loss in each slice."""
    miscalibration: Comparison
    """Difference of |ln(mean prediction / mean label)|; negative: the candidate is nearer to 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """Mean prediction over mean label, and its 95 % interval."""

    value: float
    low: float
    high: float
    positives: int

    @property
    def is_finite(self) -> bool:
        """Whether all of it is known; a draw without a positive has none."""
        return all(map(math.isfinite, (self.value, self.low, self.high)))


def compare(
    holdout: Holdout, candidate: Scores, baseline: Scores, *, draws: int = 2_000, seed: int = 0
) -> Against:
    """How much worse than a baseline a candidate is.

    Args:
        holdout: The rows; slices may be empty.
        candidate: (rows,) probabilities, all finite.
        baseline: The same of whom it is compared with.
        draws: Of the bootstrap.
        seed: Of the draws.
    """
    pair = _Pair(holdout, candidate, baseline)
    sums = bootstrap_sums(pair.columns, holdout.group, draws=draws, seed=seed)
    mine, theirs, auc, more_auc, lost, more_lost, *parts = sums.T
    label = parts.pop(0)
    slices = {
        name: _comparison(int(holdout.slices[name].sum()), ratio(more, less))
        for name, less, more in zip(holdout.slices, parts[::2], parts[1::2], strict=True)
    }
    distance = _distance(mine, label) - _distance(theirs, label)
    gauc = _comparison(int(auc[0]), ratio(more_auc, auc)) if holdout.has_users else None
    return Against(
        log_loss=_comparison(len(holdout), ratio(more_lost, lost)),
        gauc=gauc,
        num_gauc_users=_with_both_labels(holdout),
        slices=slices,
        miscalibration=_comparison(len(holdout), distance),
    )


def relative_change(
    mine: FloatArray, theirs: FloatArray, group: Rows, *, draws: int = 2_000, seed: int = 0
) -> Comparison:
    """By which share losses differ from others, with whole groups drawn.

    Args:
        mine: (rows,) losses.
        theirs: The same of what is compared with.
        group: (rows,) numbers of what rows have in common, such as users or days.
        draws: Of the bootstrap.
        seed: Of the draws.
    """
    columns = np.stack([mine - theirs, theirs], axis=1)
    sums = bootstrap_sums(lambda rows: columns[rows], group, draws=draws, seed=seed)
    change, *drawn = ratio(*sums.T)
    return Comparison(len(mine), float(change), *interval(np.compress(np.isfinite(drawn), drawn)))


def calibrate(
    holdout: Holdout, scores: Scores, *, draws: int = 2_000, seed: int = 0
) -> Calibration:
    """Mean prediction over mean label of (rows,) finite probabilities."""

    def columns(rows: Rows) -> FloatArray:
        return np.stack([np.float64(scores[rows]), np.float64(holdout.label[rows])], axis=1)

    predicted, label = bootstrap_sums(columns, holdout.group, draws=draws, seed=seed).T
    found = _comparison(len(holdout), ratio(predicted, label))
    return Calibration(
        value=found.change, low=found.low, high=found.high, positives=int(holdout.label.sum())
    )


@dataclasses.dataclass(frozen=True)
class _Pair:
    """Two rankers' scores as columns whose sums have all that is compared."""

    holdout: Holdout
    candidate: Scores
    baseline: Scores

    def columns(self, rows: Rows) -> FloatArray:
        """(rows, columns) of some rows, all rows of a user among them and next to each other.

        Differences are columns of their own, so that equal scores differ by exactly 0.
        """
        label = self.holdout.label[rows]
        mine, theirs = self.candidate[rows], self.baseline[rows]
        loss = log_losses(theirs, label)
        more = log_losses(mine, label) - loss
        columns: list[FloatArray | npt.NDArray[np.float32] | npt.NDArray[np.int64]] = [
            mine,
            theirs,
            *self._auc(rows),
            loss,
            more,
            label,
        ]
        for part in self.holdout.slices.values():
            columns += [loss * part[rows], more * part[rows]]
        return np.stack(columns, axis=1, dtype=np.float64)

    def _auc(self, rows: Rows) -> tuple[FloatArray, FloatArray]:
        """Whether a row's user has both labels, and by how much its AUC is higher.

        The mean over rows of the AUC of their user is the GAUC.
        """
        if not self.holdout.has_users:
            return np.zeros(len(rows)), np.zeros(len(rows))
        label, group = self.holdout.label[rows], self.holdout.group[rows]
        mine, sizes = group_aucs(self.candidate[rows], label, group)
        theirs, _ = group_aucs(self.baseline[rows], label, group)
        return (
            np.repeat(np.float64(np.isfinite(mine)), sizes),
            np.repeat(np.nan_to_num(mine - theirs), sizes),
        )


def _with_both_labels(holdout: Holdout) -> int:
    if not holdout.has_users:
        return 0
    positive = holdout.label == 1
    return len(np.intersect1d(holdout.group[positive], holdout.group[~positive]))


def _distance(predicted: FloatArray, label: FloatArray) -> FloatArray:
    """How far calibration is from 1: |ln(mean prediction / mean label)|; NaN where undefined."""
    found = ratio(predicted, label)
    return np.abs(np.log(found, out=np.full(len(found), np.nan), where=found > 0))


def _comparison(rows: int, values: FloatArray) -> Comparison:
    """Of the value over all rows, then of each draw."""
    return Comparison(rows, float(values[0]), *interval(values[1:]))
