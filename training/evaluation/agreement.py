"""How far two rankers agree on the same rows: what a canary is later held to.

A candidate that is as good as the champion still scores otherwise. How much otherwise is measured
here, on the days held out, where both have been judged; a canary that differs much more from the
champion on live requests is not the ranker that was judged.
"""

import numpy as np
import numpy.typing as npt

from training.bootstrap import blocks

Scores = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.float64]
Groups = npt.NDArray[np.int64]
_HIGHEST_RATIO = 2.0


def agreement(candidate: Scores, champion: Scores, group: Groups) -> dict[str, float | None]:
    """The means over groups of rows of how both score them.

    Args:
        candidate: (rows,) probabilities.
        champion: (rows,) probabilities; rows where it has no finite score are left out.
        group: (rows,) numbers of the groups, such as users.

    Returns:
        ``score_ratio``: mean score of the candidate over the champion's, at most 2 in each group.
        ``rank_correlation``: Spearman's, of the groups in which the champion has an order; one
        without an order of the candidate's counts as 0. None where nothing can be said.
    """
    ratios, correlations = [], []
    for rows, _ in blocks(group):
        rows = rows[np.isfinite(champion[rows])]
        if not len(rows):
            continue
        index = np.unique(group[rows], return_inverse=True)[1]
        mine, theirs = candidate[rows], champion[rows]
        ratios.append(_ratios(mine, theirs, index))
        correlations.append(_correlations(mine, theirs, index))
    return {"score_ratio": _mean(ratios), "rank_correlation": _mean(correlations)}


def _ratios(candidate: Scores, champion: Scores, index: Groups) -> Numbers:
    """Of the groups in which the champion's mean is above 0."""
    mine, theirs = (np.bincount(index, np.float64(scores)) for scores in (candidate, champion))
    known = theirs > 0
    return np.minimum(mine[known] / theirs[known], _HIGHEST_RATIO)


def _correlations(candidate: Scores, champion: Scores, index: Groups) -> Numbers:
    """Of the groups in which the champion has an order."""
    size = np.bincount(index)
    mine, theirs = (_centred_ranks(scores, index, size) for scores in (candidate, champion))
    both, mine_squared, theirs_squared = (
        np.bincount(index, product) for product in (mine * theirs, mine * mine, theirs * theirs)
    )
    spread = np.sqrt(mine_squared * theirs_squared)
    found = np.divide(both, spread, out=np.zeros_like(both), where=spread > 0)
    return np.asarray(found[theirs_squared > 0])


def _centred_ranks(scores: Scores, index: Groups, size: Groups) -> Numbers:
    """Ranks within each group, equal scores sharing their mean, minus the group's mean rank."""
    order = np.lexsort((scores, index))
    starts = np.cumsum(size) - size
    rank = np.arange(len(scores)) - starts[index[order]]
    is_new = np.ones(len(scores), dtype=np.bool_)
    is_new[1:] = (np.diff(index[order]) != 0) | (np.diff(scores[order]) != 0)
    tie = np.cumsum(is_new) - 1
    shared = np.bincount(tie, rank)[tie] / np.bincount(tie)[tie]
    centred = np.empty(len(scores), dtype=np.float64)
    centred[order] = shared - (size[index[order]] - 1) / 2
    return centred


def _mean(parts: list[Numbers]) -> float | None:
    """None where there is nothing, or it is not finite."""
    values = np.concatenate([*parts, np.empty(0)])
    value = values.mean() if len(values) else np.nan
    return float(value) if np.isfinite(value) else None
