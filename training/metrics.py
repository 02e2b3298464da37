"""Exact evaluation metrics over all rows, in NumPy; metrics while training are TorchRec's own."""

import dataclasses

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

FloatArray = npt.NDArray[np.float64]
_SMALLEST_PROBABILITY = 1e-7


@dataclasses.dataclass(frozen=True)
class Metrics:
    """What a set of predictions is worth."""

    rows: int
    log_loss: float
    """Mean, in nats."""
    ne: float
    """Normalised entropy: log loss over the entropy of the base rate, which itself has 1."""
    auc: float
    """NaN when all labels are equal."""
    gauc: float
    """AUC within each user, weighted by impressions, over users with both labels."""
    one_class_users: float
    """Share of users left out of ``gauc``, since all their labels are equal."""
    calibration: float
    """Mean prediction over mean label."""

    def to_dict(self) -> dict[str, float | None]:
        """Plain values for JSON, None for what is not defined."""
        values = dataclasses.asdict(self)
        return {
            k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values.items()
        }


def evaluate(
    probability: npt.NDArray[np.float32], label: npt.NDArray[np.int64], group: npt.NDArray[np.int64]
) -> Metrics:
    """Metrics of (rows,) predictions against 0/1 labels; ``group`` numbers the users."""
    if not len(label):
        raise ValueError("rows: 0; at least 1 to evaluate")
    losses = log_losses(probability, label)
    base_rate = float(label.mean())
    gauc, one_class = grouped_auc(probability, label, group)
    return Metrics(
        rows=len(label),
        log_loss=float(losses.mean()),
        ne=float(losses.mean() / entropy(base_rate)) if 0 < base_rate < 1 else float("nan"),
        auc=auc(probability, label),
        gauc=gauc,
        one_class_users=one_class,
        calibration=float(np.float64(probability).mean() / base_rate)
        if base_rate
        else float("nan"),
    )


def log_losses(probability: npt.NDArray[np.float32], label: npt.NDArray[np.int64]) -> FloatArray:
    """Log loss of each row, in nats; probabilities are kept 1e-7 away from 0 and 1."""
    bounded = np.clip(np.float64(probability), _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY)
    return np.asarray(-np.log(np.where(label == 1, bounded, 1 - bounded)))


def entropy(rate: float) -> float:
    """Entropy of a coin with this rate, in nats."""
    return float(-(rate * np.log(rate) + (1 - rate) * np.log1p(-rate)))


def auc(probability: npt.NDArray[np.float32], label: npt.NDArray[np.int64]) -> float:
    """Area under the ROC curve; ties count half."""
    positives = int(label.sum())
    negatives = len(label) - positives
    if not positives or not negatives:
        return float("nan")
    rank_sum = np.asarray(rankdata(probability))[label == 1].sum()
    return float((rank_sum - positives * (positives + 1) / 2) / (positives * negatives))


def grouped_auc(
    probability: npt.NDArray[np.float32], label: npt.NDArray[np.int64], group: npt.NDArray[np.int64]
) -> tuple[float, float]:
    """AUC within each group weighted by rows, and the share of groups with one class only."""
    if len(np.unique(group)) == len(group):
        # Nobody has two rows, so nobody has both labels.
        return float("nan"), 1.0
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(group[order]) != 0])
    parts = np.split(order, starts[1:])
    values = np.array([auc(probability[rows], label[rows]) for rows in parts])
    sizes = np.array([len(rows) for rows in parts], dtype=np.float64)
    both = np.isfinite(values)
    if not both.any():
        return float("nan"), 1.0
    return float((values[both] * sizes[both]).sum() / sizes[both].sum()), float(1 - both.mean())


def bootstrap_means(
    values: FloatArray, group: npt.NDArray[np.int64], *, draws: int, seed: int
) -> FloatArray:
    """Means of columns over resampled groups, (draws, columns).

    Rows of one user are not independent, so whole users are drawn with replacement.

    Args:
        values: (rows, columns).
        group: (rows,) numbers of the users.
        draws: How many resamples.
        seed: Of the draws; the same seed gives the same users to every column.
    """
    _, member = np.unique(group, return_inverse=True)
    num_groups = int(member.max()) + 1
    sums = np.stack([np.bincount(member, column, num_groups) for column in values.T], axis=1)
    sizes = np.bincount(member, minlength=num_groups)
    random = np.random.default_rng(seed)
    weights = random.multinomial(num_groups, np.full(num_groups, 1 / num_groups), size=draws)
    return (weights @ sums) / (weights @ sizes)[:, None]


def interval(draws: FloatArray, *, level: float = 0.95) -> tuple[float, float]:
    """The central interval of bootstrap draws."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
