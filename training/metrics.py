"""Exact evaluation metrics over all rows, in NumPy; metrics while training are TorchRec's own."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from scipy.stats import poisson, rankdata

FloatArray = npt.NDArray[np.float64]
_SMALLEST_PROBABILITY = 1e-7
_GROUPS_AT_ONCE = 2_048
_OF_REQUESTS = {"requests": "requests", "without_positive": "requests_without_positive"}
"""Names in JSON of those numbers of requests that are no metric of one."""
_POISSON = poisson.ppf((np.arange(2**16) + 0.5) / 2**16, 1).astype(np.float32)
"""A Poisson variable of mean 1 at equal steps of its distribution: one for each 16-bit number."""


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
        return {
            k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values.items()
        }


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
    opens = _changes(ordered)
    starts = np.flatnonzero(opens)
    first_of_tie = np.flatnonzero(opens | _changes(probability[order]))
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
    probability: npt.NDArray[np.float32], label: npt.NDArray[np.int64], group: npt.NDArray[np.int64]
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """AUC of each group, NaN with one class only, and its rows; in the order of the groups."""
    order = np.lexsort((probability, group))
    ordered, scores, positive = group[order], probability[order], label[order] == 1
    opens = _changes(ordered)
    first_of_tie = np.flatnonzero(opens | _changes(scores))
    tie = np.diff(first_of_tie, append=len(order))
    starts = np.flatnonzero(opens)
    sizes = np.diff(starts, append=len(order))
    # Mean rank of the tie, counted from 0 within the group.
    rank = np.repeat(first_of_tie + (tie - 1) / 2, tie) - np.repeat(starts, sizes)
    positives = np.add.reduceat(positive, starts, dtype=np.int64)
    rank_sum = np.add.reduceat(rank * positive, starts)
    pairs = positives * (sizes - positives)
    above = rank_sum - positives * (positives - 1) / 2
    return np.divide(above, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0), sizes


def bootstrap_sums(
    columns: Callable[[npt.NDArray[np.int64]], FloatArray],
    group: npt.NDArray[np.int64],
    *,
    draws: int,
    seed: int,
) -> FloatArray:
    """Sums of columns over all rows, then over resampled groups: (1 + draws, columns).

    Rows of one user are not independent, so whole users are drawn: each counts in a draw as often
    as a Poisson variable of mean 1 says, independent of the others (Hanley and MacGibbon 2006;
    Chamandy et al. 2012). Ratios of the sums vary as those of a draw with replacement do, but no
    user has to know of another, so memory is bounded by a block of them, however many there are.

    Args:
        columns: Of some rows, all rows of a user among them and next to each other, the values:
            (rows, columns).
        group: (rows,) numbers of the users.
        draws: How many resamples.
        seed: Of the draws; the same seed and users give the same draws for any columns.
    """
    random = np.random.default_rng(seed)
    total: FloatArray | float = 0.0
    for rows, starts in blocks(group):
        sums = np.add.reduceat(columns(rows), starts, axis=0)
        times = _POISSON[random.integers(0, len(_POISSON), (draws, len(sums)), np.uint16)]
        drawn = times @ sums.astype(np.float32)
        total = total + np.concatenate([sums.sum(axis=0, keepdims=True), drawn])
    return np.asarray(total)


def blocks(
    group: npt.NDArray[np.int64],
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """The rows of some groups at a time, group by group, and where each group begins in them."""
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(_changes(group[order]))
    for first in range(0, len(starts), _GROUPS_AT_ONCE):
        block = starts[first : first + _GROUPS_AT_ONCE]
        end = starts[first + _GROUPS_AT_ONCE] if first + _GROUPS_AT_ONCE < len(starts) else None
        yield order[block[0] : end], block - block[0]


def _changes(values: npt.NDArray[np.int64] | npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Where a value differs from the one before; the first does."""
    changes: npt.NDArray[np.bool_] = np.r_[True, values[1:] != values[:-1]][: len(values)]
    return changes


def interval(draws: FloatArray, *, level: float = 0.95) -> tuple[float, float]:
    """The central interval of bootstrap draws."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
