"""Parity before a promotion: while served inputs differ from what they should be, nothing moves.

A candidate that is better on the lake's rows need not be on the rows that the endpoint has.
"""

import datetime
import logging

from features.cli import SkippedError
from features.parity.results import Result, newest_results, require_share
from features.places import Place

logger = logging.getLogger(__name__)
RUNBOOK = "infra/runbooks/parity-broken.md"


def require_parity(
    reports: Place,
    *,
    dataset: str,
    max_unexplained: float,
    max_age: datetime.timedelta,
    is_required: bool,
    now: datetime.datetime,
) -> str:
    """What the newest results of a data set say.

    Args:
        reports: Where results are.
        dataset: The data set.
        max_unexplained: Share of candidates with an unexplained mismatch that is allowed.
        max_age: A result that was made longer ago says nothing.
        is_required: Hold where no result says anything.
        now: The moment.

    Returns:
        A sentence for the summary.

    Raises:
        SkippedError: The candidate is held: parity is broken, or nothing says that it is not.
        ValueError: The limit is none, or a result cannot be read.
    """
    require_share(max_unexplained)
    found = newest_results(reports, dataset)
    fresh = [one for one in found if now - one.made_at <= max_age]
    for one in fresh:
        if one.unexplained > max_unexplained:
            raise SkippedError(
                f"parity is broken: in {one.window} {one.unexplained:.4%} of the candidates have "
                f"an unexplained mismatch, at most {max_unexplained:.4%}; the candidate is held; "
                f"see {RUNBOOK}"
            )
    if fresh:
        return "; ".join(f"{one.window}: {one.unexplained:.4%} unexplained" for one in fresh)
    said = _nothing(found, max_age=max_age, now=now)
    if is_required:
        raise SkippedError(f"parity: {said}, and a result is required; the candidate is held")
    logger.warning("parity: %s; the candidate is not held", said)
    return said


def _nothing(found: list[Result], *, max_age: datetime.timedelta, now: datetime.datetime) -> str:
    if not found:
        return "no result; `python -m features parity` makes one"
    age, most = (span.total_seconds() / 3600 for span in (now - found[0].made_at, max_age))
    return f"the newest result, of {found[0].window}, is {age:.0f} hours old, over {most:g}"
