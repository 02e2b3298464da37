"""Figures of scored rows with 95 % intervals, each row weighted by how many it stands for.

All are ratios of sums over rows, so one pass of the bootstrap has every interval. Whole answers are
resampled, as rows of one are not independent; for the GAUC by user whole users. The AUC is no ratio
of sums, but near its value it is one: each row adds by how much it is above the AUC in outranking
the other class (its placement value: E. R. DeLong et al., 1988; resampled in groups: N. A.
Obuchowski, 1997).

Normalised entropy is the log loss over the entropy of the base rate (X. He et al., "Practical
lessons from predicting clicks on ads at Facebook", 2014).
"""

import dataclasses
import math
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from training.bootstrap import FloatArray, bootstrap_sums, interval, ratio
from training.metrics import (
    auc,
    entropies,
    group_aucs,
    log_losses,
    mass_below,
    or_none,
    ranked_requests,
)
from training.monitoring.quality.scored_rows import ScoredRows

Rows = npt.NDArray[np.int64]
FEWEST_GROUPS = 20
"""Answers or users below which resampling says nothing; then there is no interval."""


class Figure(TypedDict):
    """A number and its 95 % interval; None: not defined, or not known."""

    value: float | None
    low: float | None
    high: float | None


Figures = dict[str, Figure]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resampling:
    """How intervals are made."""

    draws: int = 1_000
    seed: int = 0


def probable_figures(rows: ScoredRows, probability: FloatArray, how: Resampling) -> Figures:
    """``log_loss``, ``ne``, ``auc`` and ``positive_rate``, where labels are known or expected.

    Args:
        rows: At least one.
        probability: (rows,) of a positive: the label, 0 or 1, or what it is expected to be.
        how: Of the intervals.
    """
    return _probable(rows, probability, how)[0]


def measured_figures(rows: ScoredRows, label: npt.NDArray[np.int64], how: Resampling) -> Figures:
    """The same, ``calibration`` and figures of the order, by labels that are final.

    ``request_ndcg_5``, ``request_ndcg_10`` and ``request_mrr`` are means over answers with a
    positive, ``request_gauc`` and ``gauc`` AUCs within an answer and a user, weighted by rows.

    Args:
        rows: At least one.
        label: (rows,) 0 or 1.
        how: Of the intervals.
    """
    found, sums = _probable(rows, label.astype(np.float64), how)
    _, positive, predicted, *_ = sums.T
    groups = rows.num_answers
    found["calibration"] = _figure(ratio(predicted, positive), groups)

    def columns(some: Rows) -> FloatArray:
        return _order_columns(rows, label, some)

    ordered = bootstrap_sums(columns, rows.answer, draws=how.draws, seed=how.seed)
    answers, ndcg_5, ndcg_10, mrr, both, within = ordered.T
    for name, sum_of in (("ndcg_5", ndcg_5), ("ndcg_10", ndcg_10), ("mrr", mrr)):
        found[f"request_{name}"] = _figure(ratio(sum_of, answers), groups)
    found["request_gauc"] = _figure(ratio(within, both), groups)
    if rows.user is not None:
        found["gauc"] = _gauc_by_user(rows, rows.user, label, how)
    return found


def _probable(
    rows: ScoredRows, probability: FloatArray, how: Resampling
) -> tuple[Figures, FloatArray]:
    """The figures, and the sums of their columns and of each draw."""
    positive, negative = rows.weight * probability, rows.weight * (1 - probability)
    both = np.ones(len(rows), np.int64), np.zeros(len(rows), np.int64)
    if_positive, if_negative = (log_losses(rows.score, label) for label in both)
    whole_auc = auc(rows.score, probability, rows.weight)
    above, below = _placements(rows.score, positive, negative)
    columns = np.column_stack(
        [
            *(rows.weight, positive, rows.weight * np.float64(rows.score)),
            positive * if_positive + negative * if_negative,
            *(positive * (above - whole_auc), negative * (below - whole_auc)),
        ]
    )
    sums = bootstrap_sums(lambda some: columns[some], rows.answer, draws=how.draws, seed=how.seed)
    weight, positives, _, losses, of_positives, of_negatives = sums.T
    mean_loss, rate, groups = ratio(losses, weight), ratio(positives, weight), rows.num_answers
    aucs = whole_auc + ratio(of_positives, positives) + ratio(of_negatives, weight - positives)
    aucs[0] = whole_auc  # the sums over all rows are 0 but for rounding
    figures = {
        "log_loss": _figure(mean_loss, groups),
        "ne": _figure(mean_loss / entropies(rate), groups),
        "auc": _figure(aucs, groups),
        "positive_rate": _figure(rate, groups),
    }
    return figures, sums


def _placements(
    score: npt.NDArray[np.float32], positive: FloatArray, negative: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Of each row, the share of negatives below it, and of positives above it."""
    positives, negatives = (mass.sum() or np.nan for mass in (positive, negative))
    above = mass_below(score, negative) / negatives
    return above, 1 - mass_below(score, positive) / positives


def _order_columns(rows: ScoredRows, label: npt.NDArray[np.int64], some: Rows) -> FloatArray:
    """Of answers, in the row in which each begins: what is summed of the order of its rows."""
    score, labels, answer = rows.score[some], label[some], rows.answer[some]
    weight = rows.weight[some]
    starts = np.flatnonzero(np.r_[True, answer[1:] != answer[:-1]])
    ranked = ranked_requests(score, labels, answer)
    aucs, sizes = group_aucs(score, labels, answer)
    has_positive, has_both = np.isfinite(ranked[:, 0]), np.isfinite(aucs)
    columns = np.zeros((len(some), 6))
    # The weight of an answer is that of each of its rows.
    columns[starts] = weight[starts, None] * np.column_stack(
        [has_positive, np.nan_to_num(ranked), sizes * has_both, sizes * np.nan_to_num(aucs)]
    )
    return columns


def _gauc_by_user(
    rows: ScoredRows, user: Rows, label: npt.NDArray[np.int64], how: Resampling
) -> Figure:
    """AUC within each user, whose answers may have different weights."""

    def columns(some: Rows) -> FloatArray:
        weight = rows.weight[some]
        aucs, sizes = group_aucs(rows.score[some], label[some], user[some], weight)
        has_both = np.repeat(np.isfinite(aucs), sizes)
        return np.stack([weight * has_both, weight * np.repeat(np.nan_to_num(aucs), sizes)], axis=1)

    both, within = bootstrap_sums(columns, user, draws=how.draws, seed=how.seed).T
    return _figure(ratio(within, both), len(np.unique(user)))


def _figure(values: FloatArray, groups: int) -> Figure:
    """Of the value over all rows, then of each draw."""
    low, high = interval(values[1:]) if groups >= FEWEST_GROUPS else (math.nan, math.nan)
    return Figure(value=or_none(float(values[0])), low=or_none(low), high=or_none(high))
