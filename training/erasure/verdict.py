"""Whether a model should be trained from scratch, because of what was erased since it was."""

from typing import TypedDict

from features.lake.erased import erased_users
from features.lake.snapshot import snapshot
from features.places import Place
from features.provenance.learnt import EXAMPLES, all_learnt


class Verdict(TypedDict):
    """The rule, its number and what follows."""

    erased_examples: int
    """Since the newest training from scratch, of all users."""
    share_percent: float
    """Of the examples that there are and were."""
    limit_percent: float
    retrain: str
    """``now``, ``scheduled`` or ``no``."""
    text: str


def verdict(lake: Place, *, limit_percent: float) -> Verdict:
    """Judge by the examples that were erased after the newest training from scratch.

    That training read a version of the examples; an erasure has noted from which version on its
    rows are gone.

    Args:
        lake: The tables of the data set.
        limit_percent: Share of the examples above which to train from scratch at once.
    """
    steps = [step for one in all_learnt(lake) for step in one.steps]
    fresh = [step.version for step in steps if step.parent is None and step.version is not None]
    since = max(fresh, default=-1)
    parts = [part for one in erased_users(lake) for part in one.examples]
    erased = sum(part.rows for part in parts if part.version > since)
    total = erased + snapshot(lake / EXAMPLES).num_rows
    share = 100 * erased / total if total else 0.0
    retrain = "no" if not erased else "now" if share > limit_percent else "scheduled"
    said = {
        "no": "nothing was erased since the newest training from scratch",
        "now": "train from scratch now",
        "scheduled": "the next training from scratch, whenever it is, is enough",
    }
    return Verdict(
        erased_examples=erased,
        share_percent=round(share, 4),
        limit_percent=limit_percent,
        retrain=retrain,
        text=f"{share:.4g} % of the examples erased since then (limit {limit_percent:g} %): "
        f"{said[retrain]}",
    )
