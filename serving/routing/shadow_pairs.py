"""A canary's answers, scored by the champion too: the same requests, at the same moments.

What each version's own figures cannot show is seen here: scores that are permuted among
the candidates of a request keep every mean and every histogram. And a share has few users; who they
are does not matter where both versions have scored the very same requests.
"""

from serving.observability import metrics, request_metrics
from serving.observability.prediction_log import Answered, RequestLog
from serving.routing.shadow import Scorer, Scores, Shadow, rank_correlation

HIGHEST_RATIO = 2.0


def open_pairs(log: RequestLog) -> Shadow:
    """A queue like the shadow's, with a thread of its own: one that hangs leaves the other be."""
    return Shadow(log, name="pairs", copies=metrics.PAIR_COPIES, on_scored=_count)


def score_ratio(scores: Scores, control: Scores) -> float:
    """Mean score over the control's, at most ``HIGHEST_RATIO``, which an all-zero control gives."""
    highest = float(control.mean()) * HIGHEST_RATIO
    mean = float(scores.mean())
    return HIGHEST_RATIO if mean >= highest else mean / float(control.mean())


def rank_distance(scores: Scores, control: Scores) -> float | None:
    """1 minus the rank correlation; None where the control has no order; 1 where only it has."""
    if len(control) < 2 or control.min() == control.max():
        return None
    correlation = rank_correlation(scores, control)
    return 1.0 if correlation is None else 1.0 - correlation


def _count(model: Scorer, answered: Answered, scores: Scores) -> None:
    request_metrics.paired(
        answered.model_version,
        score_ratio=score_ratio(answered.scores, scores),
        rank_distance=rank_distance(answered.scores, scores),
    )
