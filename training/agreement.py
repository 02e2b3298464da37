"""How far two rankers agree on the same rows: what a canary is later held to.

A candidate that is as good as the champion still scores otherwise. How much otherwise is measured
here, on the days held out, where both have been judged; a canary that differs much more from the
champion on live requests is not the ranker that was judged.
"""

import numpy as np
import numpy.typing as npt

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
    answers = np.isfinite(champion)
    candidate, champion = candidate[answers], champion[answers]
    _, place = np.unique(group[answers], return_inverse=True)
    return {
        "score_ratio": _ratio(candidate, champion, place),
        "rank_correlation": _correlation(candidate, champion, place),
    }


def _ratio(candidate: Scores, champion: Scores, place: Groups) -> float | None:
    mine, theirs = (np.bincount(place, np.float64(scores)) for scores in (candidate, champion))
    known = theirs > 0
    if not known.any():
        return None
    return _finite(np.minimum(mine[known] / theirs[known], _HIGHEST_RATIO).mean())


def _correlation(candidate: Scores, champion: Scores, place: Groups) -> float | None:
    size = np.bincount(place)
    mine, theirs = (_centred_ranks(scores, place, size) for scores in (candidate, champion))
    both, mine_squared, theirs_squared = (
        np.bincount(place, product) for product in (mine * theirs, mine * mine, theirs * theirs)
    )
    ordered = theirs_squared > 0
    if not ordered.any():
        return None
    spread = np.sqrt(mine_squared * theirs_squared)
    found = np.divide(both, spread, out=np.zeros_like(both), where=spread > 0)
    return _finite(found[ordered].mean())


def _centred_ranks(scores: Scores, place: Groups, size: Groups) -> Numbers:
    """Ranks within each group, equal scores sharing their mean, minus the group's mean rank."""
    order = np.lexsort((scores, place))
    starts = np.cumsum(size) - size
    rank = np.arange(len(scores)) - starts[place[order]]
    is_new = np.ones(len(scores), dtype=np.bool_)
    is_new[1:] = (np.diff(place[order]) != 0) | (np.diff(scores[order]) != 0)
    tie = np.cumsum(is_new) - 1
    shared = np.bincount(tie, rank)[tie] / np.bincount(tie)[tie]
    centred = np.empty(len(scores), dtype=np.float64)
    centred[order] = shared - (size[place[order]] - 1) / 2
    return centred


def _finite(value: np.float64) -> float | None:
    return float(value) if np.isfinite(value) else None
