"""The requests about what there is of rankers: the family, and what nothing needs."""

from features.options import OfDataset, from_flags, option, whole
from training.registry.aliases import ANCHOR_DAYS
from training.requests import OfArtifacts, OfCheckpoints, ReadsLake, Reports, Tracks


@from_flags
class FamilyRequest(Reports, Tracks, OfArtifacts, OfCheckpoints, OfDataset):
    """Print the family of the rankers: who was trained, or grew, from whom."""


@from_flags
class PruneRequest(Tracks, OfArtifacts, OfCheckpoints, ReadsLake):
    """Drop checkpoints, artifacts and pins of examples that nothing needs."""

    keep: int = option("newest to keep of each", default=10)
    anchor_days: int = option(
        "keep the artifacts of champions as old as the gate's anchor",
        parse=whole,
        metavar="DAYS",
        default=ANCHOR_DAYS,
    )
