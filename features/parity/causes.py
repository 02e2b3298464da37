"""Why an input was another one: the causes, and how the evidence is weighed."""

import dataclasses
import enum

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


class Cause(enum.StrEnum):
    """Of a mismatch, as reports and tables name it."""

    LATE_PUSH = "late_push"
    TIME_TO_LIVE = "time_to_live"
    DEFAULT = "default"
    ENCODER = "encoder"
    CACHE = "cache"
    STORE_DOWN = "store_down"
    CORRECTION = "correction"
    PAST_MOMENT = "past_moment"
    UNEXPLAINED = "unexplained"


CAUSES = list(Cause)
MEANINGS = {
    Cause.LATE_PUSH: "the store had an earlier row of the lake's, or not yet the first one: a push "
    "or a daily build came after the row counts",
    Cause.TIME_TO_LIVE: "both have the same row, and only one side takes it for expired",
    Cause.DEFAULT: "the store had no row, or no value in it, so the model got the default",
    Cause.ENCODER: "equal values, and other inputs: another encoder or schema fingerprint",
    Cause.CACHE: "the endpoint's items in memory were last compared with the store before the row "
    "was due there",
    Cause.STORE_DOWN: "the store did not answer in time, and the answer says so",
    Cause.CORRECTION: "the lake had what was served, and has made the row anew since",
    Cause.PAST_MOMENT: "the caller asked for a moment of which the store keeps no row any more",
    Cause.UNEXPLAINED: "none of these: what was served was never in the lake",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known of M rows of one table that differ, each as a mask."""

    is_store_down: Mask
    """The answer says that the store gave nothing."""
    is_unknown: Mask
    """No row was served, of which the as-of join has one."""
    is_same_row: Mask
    """Both have a row of the same two times."""
    is_older: Mask
    """The served row is older than that of the as-of join, or there was none."""
    is_expiry: Mask
    """Only one side takes its row for expired."""
    is_past: Mask
    """The time was given, and the served row, which counts only after it, counted when read."""
    is_before_due: Mask
    """Items came from memory, compared with the store before the row was due there."""
    is_held: Mask
    """The lake has the served row, with its values."""
    was_held: Mask
    """The lake had it when the answer was read, with its values."""
    is_made_since: Mask
    """The lake's row was not in its day when the answer was read, and the day was there."""
    has_earlier: Mask
    """The key had a row before that of the as-of join."""


def causes_of(seen: Evidence) -> list[Cause]:
    """The cause of each row's mismatch: the first that holds."""
    is_gone = seen.was_held & ~seen.is_held
    is_remade = is_gone | (seen.is_older & seen.is_made_since)
    # Nothing was right, too, before the key had its first row.
    is_earlier = np.where(seen.is_unknown, ~seen.has_earlier, seen.is_held)
    found = {
        Cause.STORE_DOWN: seen.is_store_down,
        Cause.TIME_TO_LIVE: seen.is_same_row & seen.is_expiry,
        Cause.PAST_MOMENT: seen.is_past,
        Cause.CORRECTION: is_remade,
        Cause.CACHE: seen.is_older & seen.is_before_due,
        Cause.LATE_PUSH: seen.is_older & is_earlier,
        Cause.DEFAULT: seen.is_unknown,
    }
    causes = [*found, Cause.UNEXPLAINED]
    chosen = np.select(list(found.values()), range(len(found)), default=len(found))
    return [causes[place] for place in chosen.tolist()]
