"""What lets a day's candidate go on: the gate's decision, and parity."""

import datetime

from serving.cli.requests import OfCandidate


def decision_of(request: OfCandidate) -> dict[str, object]:
    """What the gate decided on a day, and under ``parity`` what the newest results say.

    Raises:
        SkippedError: The gate decided not to promote, or parity is broken.
        ValueError: There is no decision.
    """
    from serving.release.parity import require_parity
    from serving.release.promotion import read_decision

    assert request.dataset is not None
    assert request.date is not None
    decision = read_decision(
        request.reports, dataset=request.dataset, day=request.date, is_upscaled=request.upscaled
    )
    said = require_parity(
        request.reports,
        dataset=request.dataset,
        max_unexplained=request.max_unexplained,
        max_age=datetime.timedelta(hours=request.max_parity_age_hours),
        is_required=request.require_parity,
        now=datetime.datetime.now(datetime.UTC),
    )
    return {**decision, "parity": said}
