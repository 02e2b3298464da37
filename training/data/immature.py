"""Labels that are not final, corrected so that to learn them is to learn the final ones on average.

Of a row of age a, let y be the label that it will have, p = P(y = 1) given its inputs, and d the
delay of its event. Known is s = 1 where the event has come, d <= a. Where delays do not depend on
the inputs, F(a) = P(d <= a | y = 1) is one number for all rows of an age, which mature rows give,
and E[s] = p F(a). The log loss of a logit z is linear in the label, softplus(z) - y z, so with
s / F(a) in the label's place

    E[softplus(z) - z s / F(a)] = softplus(z) - z p = E[softplus(z) - z y],

and the gradient, sigmoid(z) - s / F(a), is sigmoid(z) - p on average too. It is the same as to
weigh a known positive by 1 / F(a) and the same row as a negative by 1 - 1 / F(a), at most 0: of a
positive that stands for 1 / F(a), the others are among the rows that look negative. No weight is
clipped, which would bias it; rows so young that F(a) is small are left out as a whole instead, by
their age alone. Where delays do depend on the inputs, who buys fast is overrated: F(a | x) / F(a).

Inverse probability weighting: D. G. Horvitz and D. J. Thompson, 1952. For delayed feedback:
O. Chapelle, "Modeling delayed feedback in display advertising", 2014 (delays and events apart);
S. I. Ktena et al., "Addressing delayed feedback for continuous training with neural networks in CTR
prediction", 2019 (importance weights of fake negatives); J.-Q. Yang et al., "Capturing delayed
feedback in conversion rate prediction via elapsed-time sampling", 2021 (by the row's age).
"""

import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from features.schema import KNOWN_SHARE, LABEL

if TYPE_CHECKING:
    from training.data.dataset import ExampleTable

IMMATURE_EXAMPLES = "examples_immature"
"""Table of the lake, a partition for each run."""


def corrected_labels(
    label: npt.NDArray[np.int64], known_share: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """What is learnt in the place of final labels: 0, or 1 or more.

    Args:
        label: (rows,) 1 where the event is known.
        known_share: (rows,) share of events that are known at the row's age, above 0.
    """
    return label / known_share


def immature_figures(table: "ExampleTable", days: Sequence[datetime.date]) -> dict[str, float]:
    """How many rows of some runs were learnt before their label was final, and what corrected it.

    ``mean_weight`` is that of a known positive, ``positive_rate`` the corrected one; without rows
    there are no means.
    """
    label, share = table.values(days, LABEL), table.values(days, KNOWN_SHARE)
    if not len(label):
        return {"rows": 0}
    figures = {
        "rows": len(label),
        "positives": int(label.sum()),
        "mean_known_share": round(float(share.mean()), 6),
        "positive_rate": round(float(corrected_labels(label, share).mean()), 6),
    }
    weights = 1 / share[label == 1]
    return figures | ({"mean_weight": round(float(weights.mean()), 6)} if len(weights) else {})
