"""The request of the command ``daily``."""

from features.options import OfDay, count, from_flags, option
from training.experiments.daily.policies import POLICIES
from training.requests import OfRecipe, ReadsLake, Reports


def _policies(text: str) -> tuple[str, ...]:
    """Names of policies, in this order, each once."""
    names = tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in POLICIES]:
        raise ValueError(f"{unknown}: policies are {sorted(POLICIES)}")
    return names


@from_flags
class DailyRequest(Reports, OfRecipe, OfDay, ReadsLake):
    """Compare what a daily run may do, and say what the age of a model costs.

    Rates, passes, batches, replay, recalibration, from scratch, never: each policy predicts the
    last days one by one, and then learns them in its way.
    """

    days: int = option("days to predict, to --date", parse=count, default=28)
    seeds: int = option("runs of each policy", parse=count, default=3)
    policies: tuple[str, ...] = option(
        "besides the recipe's own, with commas between (else all)",
        metavar="NAMES",
        parse=_policies,
        default=tuple(POLICIES),
    )
