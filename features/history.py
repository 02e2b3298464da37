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
    from features.validation.due_steps import STEPS, due, mature

    schema, days = schema_of(request.dataset), request.days
    size = request.days_per_chunk
    chunks = [days[start : start + size] for start in range(0, len(days), size)]
    made: dict[str, int] = dict.fromkeys(STEPS, 0)
    for number, chunk in enumerate(chunks, start=1):
        steps = due(Lake(request.lake, schema.name), schema, chunk)
        logger.info(
            "chunk %d of %d, %s to %s: %s",
            *(number, len(chunks), chunk[0], chunk[-1], ", ".join(steps) or "is there"),
        )
        for step in steps:
            wanted = chunk
            if step == "examples":
                # The lake has the chunk's impressions by now.
                wanted = mature(Lake(request.lake, schema.name), schema, chunk)
            if wanted:
                _make(request, step, wanted, is_first=number == 1)
            made[step] += len(wanted)
    return {"days": len(days), "chunks": len(chunks), "days_made": made}


def _make(
    request: HistoryRequest, step: "Step", days: Sequence[datetime.date], *, is_first: bool
) -> None:
    """Run the commands of a step, as the DAG of a day does, for the days of a chunk."""
    of, lake, landing, docs = request.dataset, request.lake, request.landing, request.docs
    date, to = days[0], days[-1]
    if step == "examples":
        _run("examples", ExamplesRequest(dataset=of, lake=lake, date=date, to=to))
        return
    if step == "impressions":
        _run("ingest", IngestRequest(dataset=of, lake=lake, landing=landing, date=date, to=to))
    else:
        starts = request.first_day and is_first
        build = BuildRequest(
            dataset=of, lake=lake, landing=landing, date=date, to=to, first_day=starts
        )
        _run("build", build)
    check = ValidateRequest(dataset=of, lake=lake, docs=docs, date=date, to=to, table=step)
    _run("validate", check)


def _run(command: str, request: object) -> None:
    logger.info("%s", command)
    COMMANDS[command](request)
