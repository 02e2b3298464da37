"""Exact evaluation metrics over all rows, in NumPy; metrics while training are TorchRec's own."""

import dataclasses
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from training.bootstrap import FloatArray, blocks, changes

_SMALLEST_PROBABILITY = 1e-7
_OF_REQUESTS = {"requests": "requests", "without_positive": "requests_without_positive"}
"""Names in JSON of those numbers of requests that are no metric of one."""


@dataclasses.dataclass(frozen=True)
class RequestMetrics:
    """How well the answers to requests are ranked; means over those with a positive."""

    requests: int
    without_positive: float
    """Share of requests that no order of their items could make better."""
    ndcg_5: float
    """Normalised discounted cumulative gain of the first 5; 1 is the best order."""
    ndcg_10: float
    mrr: float
    """Mean reciprocal rank of the first positive; among equal scores, of its expected rank."""
    gauc: float
    """AUC within each request, weighted by impressions, over requests with both labels."""


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
    by_request: RequestMetrics | None = None
    """None where requests have no id."""

    def to_dict(self) -> dict[str, float | None]:
        """Plain values for JSON, None for what is not defined."""
        values = dataclasses.asdict(self)
        of_requests = values.pop("by_request") or {}
        values |= {_OF_REQUESTS.get(name, f"request_{name}"): v for name, v in of_requests.items()}
        return {k: or_none(v) if isinstance(v, float) else v for k, v in values.items()}


def or_none(value: float) -> float | None:
    """None for what is not defined, such as GAUC without users: JSON has no NaN."""
    return value if np.isfinite(value) else None


def evaluate(
    probability: npt.NDArray[np.float32],
    label: npt.NDArray[np.int64],
    group: npt.NDArray[np.int64],
    request: npt.NDArray[np.int64] | None = None,
) -> Metrics:
    """Metrics of predictions.

    Args:
        probability: (rows,) predictions.
        label: (rows,) 0 or 1.
        group: (rows,) numbers of the users.
        request: (rows,) numbers of the requests; None where they have no id.

    Raises:
        ValueError: There are no rows.
    """
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
        by_request=None if request is None else evaluate_requests(probability, label, request),
    )


def evaluate_requests(
    probability: npt.NDArray[np.float32],
    label: npt.NDArray[np.int64],
    request: npt.NDArray[np.int64],
) -> RequestMetrics:
    """Metrics of the order in which each request's items come, the most probable first.

    Of equal predictions no order is assumed: each has the mean discount of their places, and the
    first positive among them the rank that it has on average.
    """
    gauc, _ = grouped_auc(probability, label, request)
    ranked = [ranked_requests(probability[r], label[r], request[r]) for r, _ in blocks(request)]
    values, counts = np.concatenate(ranked), np.unique(request).size
    with_positive = values[np.isfinite(values).all(axis=1)]
    is_known = len(with_positive) > 0 and bool(np.isfinite(probability).all())
    ndcg_5, ndcg_10, mrr = with_positive.mean(axis=0) if is_known else np.full(3, np.nan)
    return RequestMetrics(
        requests=counts,
        without_positive=1 - len(with_positive) / counts,
        ndcg_5=float(ndcg_5),
        ndcg_10=float(ndcg_10),
        mrr=float(mrr),
        gauc=gauc,
    )


def ranked_requests(
    probability: npt.NDArray[np.float32],
    label: npt.NDArray[np.int64],
    request: npt.NDArray[np.int64],
) -> FloatArray:
    """NDCG@5, NDCG@10 and reciprocal rank of each request, NaN without a positive."""
    order = np.lexsort((-probability, request))
    ordered, positive = request[order], label[order] == 1
    opens = changes(ordered)
    starts = np.flatnonzero(opens)
    first_of_tie = np.flatnonzero(opens | changes(probability[order]))
    tie = np.diff(first_of_tie, append=len(order))
    place = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    positives = np.add.reduceat(positive, starts, dtype=np.int64)
    ranks = place[first_of_tie] + (tie + 1) / (
        np.add.reduceat(positive, first_of_tie, dtype=np.int64) + 1
    )
    first_rank = np.where(np.repeat(ranks, tie) * positive > 0, np.repeat(ranks, tie), np.inf)
    found = [1 / np.minimum.reduceat(first_rank, starts)]
    for most in (10, 5):
        discount = np.where(place < most, 1 / np.log2(place + 2), 0.0)
        shared = np.repeat(np.add.reduceat(discount, first_of_tie) / tie, tie)
        best = np.r_[0.0, np.cumsum(1 / np.log2(np.arange(most) + 2))][np.minimum(positives, most)]
        gain = np.add.reduceat(shared * positive, starts)
        found.insert(0, np.divide(gain, best, out=np.full(len(best), np.nan), where=best > 0))
    return np.where(positives[:, None] > 0, np.stack(found, axis=1), np.nan)


def log_losses(probability: npt.NDArray[np.float32], label: npt.NDArray[np.int64]) -> FloatArray:
    """Log loss of each row, in nats; probabilities are kept 1e-7 away from 0 and 1."""
    bounded = np.clip(np.float64(probability), _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY)
    return np.asarray(-np.log(np.where(label == 1, bounded, 1 - bounded)))


def entropy(rate: float) -> float:
    """Entropy of a coin with this rate, in nats."""
    return float(entropies(np.array([rate]))[0])


def entropies(rates: FloatArray) -> FloatArray:
    """Entropy of each of some coins, in nats; NaN where a rate is not between 0 and 1."""
    known = np.where((rates > 0) & (rates < 1), rates, np.nan)
    return np.asarray(-(known * np.log(known) + (1 - known) * np.log1p(-known)))


def auc(
    probability: npt.NDArray[np.float32],
    label: npt.NDArray[np.int64] | FloatArray,
    weight: FloatArray | None = None,
) -> float:
    """Area under the ROC curve; ties count half; NaN without positives or negatives.

    Args:
        probability: (rows,) predictions.
        label: (rows,) 0 or 1; or how much of a row counts as positive, the rest of it as negative.
            No pair is made of the parts of one row.
        weight: (rows,) how often each row counts; None: once.
    """
    times = np.ones(len(label)) if weight is None else weight
    positive, negative = times * label, times * (1 - label)
    own = positive * negative
    pairs = positive.sum() * negative.sum() - own.sum()
    if not pairs > 0 or not np.isfinite(probability).all():
        return float("nan")
    above = positive * mass_below(probability, negative)
    return float((above.sum() - own.sum() / 2) / pairs)


def mass_below(probability: npt.NDArray[np.float32], mass: FloatArray) -> FloatArray:
    """The mass of the rows that each row is above; of equal ones, itself among them, half."""
    order = _order(probability, np.zeros(len(mass), np.int64))
    below = np.empty(len(mass))
    below[order.rows] = _below(mass[order.rows], order)
    return below


def grouped_auc(
    probability: npt.NDArray[np.float32], label: npt.NDArray[np.int64], group: npt.NDArray[np.int64]
) -> tuple[float, float]:
    """AUC within each group weighted by rows, and the share of groups with one class only."""
    weighted, num_rows, num_groups, num_both = 0.0, 0, 0, 0
    for rows, _ in blocks(group):
        values, sizes = group_aucs(probability[rows], label[rows], group[rows])
        both = np.isfinite(values)
        weighted += float((values[both] * sizes[both]).sum())
        num_rows += int(sizes[both].sum())
        num_groups += len(sizes)
        num_both += int(both.sum())
    is_known = num_rows > 0 and bool(np.isfinite(probability).all())
    return weighted / num_rows if is_known else float("nan"), 1 - num_both / num_groups


def group_aucs(
    probability: npt.NDArray[np.float32],
    label: npt.NDArray[np.int64],
    group: npt.NDArray[np.int64],
    weight: FloatArray | None = None,
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """AUC of each group, NaN with one class only, and its rows; in the order of the groups.

    With weights each row counts so often.
    """
    order = _order(probability, group)
    is_positive = label[order.rows] == 1
    times = np.ones(len(order.rows)) if weight is None else weight[order.rows]
    positive, negative = times * is_positive, times * ~is_positive
    above = np.add.reduceat(positive * _below(negative, order), order.starts)
    pairs = np.add.reduceat(positive, order.starts) * np.add.reduceat(negative, order.starts)
    sizes = np.diff(order.starts, append=len(order.rows))
    return np.divide(above, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0), sizes


class _Order(NamedTuple):
    """Rows group by group, the least probable first."""

    rows: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    """Where each group begins."""
    ties: npt.NDArray[np.int64]
    """Where each run of equal probabilities of a group begins."""


def _order(probability: npt.NDArray[np.float32], group: npt.NDArray[np.int64]) -> _Order:
    rows = np.lexsort((probability, group))
    opens = changes(group[rows])
    ties = np.flatnonzero(opens | changes(probability[rows]))
    return _Order(rows, np.flatnonzero(opens), ties)


def _below(mass: FloatArray, order: _Order) -> FloatArray:
    """The mass below each row in its group, and half of what is equal; rows and mass in order."""
    of_tie = np.add.reduceat(mass, order.ties)
    before = np.cumsum(of_tie) - of_tie
    of_group = np.searchsorted(order.starts, order.ties, side="right") - 1
    before -= before[np.searchsorted(order.ties, order.starts)][of_group]
    return np.repeat(before + of_tie / 2, np.diff(order.ties, append=len(order.rows)))
