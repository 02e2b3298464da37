"""Which answers are logged: by the id that the server gives each, which no caller can choose.

An answer's draw is a number from 0 to 1 that follows from its id alone. All that is done to a share
of the answers is done to those with the lowest draws: so what a shadow scores is logged too, and it
is known how probable it was that an answer is logged.
"""

import hashlib
from typing import NamedTuple

from training.registry.aliases import CANARY


class Inclusion(NamedTuple):
    """Why an answer is logged, and how probable that was."""

    stratum: str
    probability: float


def draw(answer_id: str) -> float:
    """Where an answer stands among all: a number from 0 on and below 1, by a hash of its id."""
    digest = hashlib.blake2b(answer_id.encode(), digest_size=8).digest()
    # The 53 bits that a float holds: of all 64, the largest would be rounded to 1.
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def inclusion(
    answer_id: str, *, share: float, role: str, is_degraded: bool, mirrored: float
) -> Inclusion | None:
    """Whether an answer is logged; None: it is not.

    Args:
        answer_id: Its id.
        share: Of the answers that are logged, 0 to 1; with 0 none is.
        role: In which role the version that answered was chosen.
        is_degraded: Whether the answer is degraded.
        mirrored: Share of the answers that a shadow scores, 0 to 1: they are logged for comparison.
    """
    if not share:
        return None
    if role == CANARY:
        return Inclusion(CANARY, 1.0)
    if is_degraded:
        return Inclusion("degraded", 1.0)
    probability = max(share, mirrored)
    return Inclusion("sampled", probability) if draw(answer_id) < probability else None
