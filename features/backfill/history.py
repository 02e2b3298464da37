"""Past days from the landed log to examples: the daily jobs, chunk by chunk, and only what is due.

A chunk is some days in a row.
"""

import datetime
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from features.cli import Summary
from features.commands import COMMANDS
from features.datasets.catalog import schema_of
from features.requests import (
    BuildRequest,
    ExamplesRequest,
    HistoryRequest,
    IngestRequest,
    ValidateRequest,
)

if TYPE_CHECKING:
    from features.validation.due_steps import Step

logger = logging.getLogger(__name__)


def history(request: HistoryRequest) -> Summary:
    """Make what is due of each chunk, in their order."""
    from features.lake.lake import Lake
    from features.provenance.landed import landed_below
    from features.provenance.learnt import unlearnt_days
    from features.validation.due_steps import STEPS, behind, due, mature

    schema, days = schema_of(request.dataset), request.days
    landed = landed_below(schema, request.landing)
    size = request.days_per_chunk
    chunks = [days[start : start + size] for start in range(0, len(days), size)]
    made: dict[str, set[datetime.date]] = {step: set() for step in STEPS}
    for number, chunk in enumerate(chunks, start=1):
        steps = due(Lake(request.lake, schema.name), schema, chunk, landed=landed)
        logger.info(
            "chunk %d of %d, %s to %s: %s",
            *(number, len(chunks), chunk[0], chunk[-1], ", ".join(steps) or "is there"),
        )
        for step in steps:
            # The lake has by now what the step before has made.
            lake, wanted = Lake(request.lake, schema.name), chunk
            if step == "impressions":
                # What landed of other days need not be there any more.
                stale = behind(lake, schema, chunk, step, landed=landed)
                wanted = [day for day in chunk if stale and stale[0] <= day <= stale[-1]]
            elif step == "examples":
                wanted = mature(lake, schema, chunk)
            if wanted:
                made[step] |= _make(request, step, wanted, is_first=number == 1)
    lake = Lake(request.lake, schema.name)
    # Also those that a run has made which was killed before it could say so.
    to_learn = made["examples"] | {*unlearnt_days(lake.root, mature(lake, schema, days))}
    return {
        "days": len(days),
        "chunks": len(chunks),
        "days_made": {step: len(of_step) for step, of_step in made.items()},
        "to_learn": sorted(map(str, to_learn)),
        "unchanged": [str(day) for day in days if not any(day in found for found in made.values())],
    }


def _make(
    request: HistoryRequest, step: "Step", days: Sequence[datetime.date], *, is_first: bool
) -> set[datetime.date]:
    """Run the commands of a step, as the DAG of a day does; returns the days that were made."""
    of, lake, landing, docs = request.dataset, request.lake, request.landing, request.docs
    date, to = days[0], days[-1]
    if step == "examples":
        done = _run("examples", ExamplesRequest(dataset=of, lake=lake, date=date, to=to))
        return {*days} - _unchanged(done)
    if step == "impressions":
        ingest = IngestRequest(
            dataset=of, lake=lake, landing=landing, date=date, to=to, again=request.again
        )
        done = _run("ingest", ingest)
    else:
        starts = request.first_day and is_first
        build = BuildRequest(
            dataset=of, lake=lake, landing=landing, date=date, to=to, first_day=starts
        )
        done = _run("build", build)
    check = ValidateRequest(dataset=of, lake=lake, docs=docs, date=date, to=to, table=step)
    _run("validate", check)
    return {*days} - _unchanged(done)


def _run(command: str, request: object) -> Summary:
    logger.info("%s", command)
    return COMMANDS[command](request)


def _unchanged(summary: Summary) -> set[datetime.date]:
    """The days that a command has left as they were."""
    named = summary["unchanged"]
    assert isinstance(named, list)
    return set(map(datetime.date.fromisoformat, named))
