"""What figures will be, from scores alone: before the labels have come.

Confidence-based performance estimation (CBPE): of calibrated probabilities p, a row is a positive
with probability p, so the expected log loss of a score is that of p positives and 1 - p negatives,
the expected base rate is the mean of p, and each pair of rows (i, j) is a positive above a negative
with probability p_i (1 - p_j), which gives the AUC. No label is needed, and drift of the inputs is
seen; drift of what the labels are given the inputs is not. CBPE is of the library NannyML
(``nannyml.performance_estimation.confidence_based``); J. Bialek, J. Kivimäki, W. Kuberski and
N. Perrakis, "Estimating model performance under covariate shift without labels", 2024
(arXiv:2401.08348), compare it with others, and with calibration that is weighted by how dense the
inputs are, which needs a second model.

Scores that are not calibrated are made so first, by the shift of their logits that would have made
the sum of the scores that of the labels on a mature day before. So calibration itself cannot be
estimated: it is what is assumed.
"""

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import expit, logit

from training.bootstrap import FloatArray
from training.monitoring.quality.figures import Figures, Resampling, probable_figures
from training.monitoring.quality.scored_rows import ScoredRows

_FARTHEST_SHIFT = 30.0
"""Of logits: probabilities are within 1e-13 of 0 or 1 then."""
_SMALLEST = 1e-7


def estimated_figures(rows: ScoredRows, how: Resampling, *, shift: float = 0.0) -> Figures:
    """``log_loss``, ``ne``, ``auc`` and ``positive_rate`` as the scores themselves expect them.

    Args:
        rows: At least one.
        how: Of the intervals, which have the sample of answers and not the chance of the labels.
        shift: Of the logits, which makes the scores calibrated.
    """
    return probable_figures(rows, shifted(rows.score, shift), how)


def shifted(score: npt.NDArray[np.float32], shift: float) -> FloatArray:
    """Probabilities whose logits are so much larger."""
    bounded = np.clip(score.astype(np.float64), _SMALLEST, 1 - _SMALLEST)
    if not shift:
        return bounded
    moved: FloatArray = expit(logit(bounded) + shift)
    return moved


def logit_shift(rows: ScoredRows, label: npt.NDArray[np.int64]) -> float | None:
    """The shift with which the weighted sum of the scores is that of the labels.

    Returns:
        None where all labels are equal: no shift makes the sums equal.
    """
    positives = float(rows.weight @ label)
    if not 0 < positives < rows.weight.sum():
        return None

    def surplus(shift: float) -> float:
        return float(rows.weight @ shifted(rows.score, shift)) - positives

    if surplus(-_FARTHEST_SHIFT) > 0 or surplus(_FARTHEST_SHIFT) < 0:
        return None
    return float(brentq(surplus, -_FARTHEST_SHIFT, _FARTHEST_SHIFT, xtol=1e-9))
