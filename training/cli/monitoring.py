"""The commands of ``python -m training`` that look at what was served.

What is slow to import is imported in the command that needs it.
"""

import dataclasses
import datetime
import logging
from collections.abc import Callable

from features.cli import Command, SkippedError, Summary
from features.datasets.catalog import schema_of
from features.options import OfDay, count, from_flags, option
from training.cli.drift import DriftRequest, drift, is_looked_at
from training.cli.registry_requests import FamilyRequest
from training.monitoring.quality_request import QualityRequest
from training.requests import ReadsLake

logger = logging.getLogger(__name__)
_DAYS_DUE = 7


@from_flags
class OverviewRequest(OfDay, FamilyRequest, ReadsLake):
    """Write the page of what all monitors found until a day, as the schedule's UI shows it."""

    days: int = option("how many are shown", parse=count, default=28)


def _quality(request: QualityRequest) -> Summary:
    from training.monitoring.quality.job import measure_quality
    from training.monitoring.quality.results import DAY_FILE, day_folder

    schema = schema_of(request.dataset)

    def measure(day: datetime.date) -> Summary:
        return measure_quality(schema, dataclasses.replace(request, date=day))

    def has(day: datetime.date) -> bool:
        return (request.reports / day_folder(schema.name, day) / DAY_FILE).exists()

    return oldest_due(request.date, has, measure) if request.due else measure(request.date)


def _drift(request: DriftRequest) -> Summary:
    def compare(day: datetime.date) -> Summary:
        return drift(dataclasses.replace(request, date=day))

    def has(day: datetime.date) -> bool:
        return is_looked_at(request, day)

    return oldest_due(request.date, has, compare) if request.due else compare(request.date)


def oldest_due(
    date: datetime.date,
    has: Callable[[datetime.date], bool],
    work: Callable[[datetime.date], Summary],
) -> Summary:
    """Work for the oldest day of the week before a date that waits and has something to look at.

    Args:
        date: The day after the newest that can be due.
        has: Whether a day has its result.
        work: What is done for a day; SkippedError where it has nothing to look at.

    Raises:
        SkippedError: No day waits.
        ValueError: None could be looked at, and the oldest for this reason.
    """
    failed: ValueError | None = None
    for back in range(_DAYS_DUE, 0, -1):
        day = date - datetime.timedelta(days=back)
        if has(day):
            continue
        try:
            return work(day)
        except SkippedError as reason:
            logger.info("%s: %s", day, reason)
        except ValueError as error:
            # A day that cannot be looked at does not keep later ones waiting.
            logger.warning("%s: %s", day, error)
            failed = failed or error
    if failed is not None:
        raise failed
    raise SkippedError(f"no day of the week before {date} is due")


def _overview(request: OverviewRequest) -> Summary:
    from features.lake.lake import EXAMPLES, Lake
    from features.pages import site
    from features.push.ages import daily_tables
    from training.monitoring.overview.days import days_until, newest_alerts
    from training.monitoring.overview.page import Freshness, overview_page, overview_path
    from training.registry.family_tree import family
    from training.registry.mlflow_registry import Registry

    schema = schema_of(request.dataset)
    lake = Lake(request.lake, schema.name)
    page = overview_page(
        schema.name,
        days_until(request.date, request.days, dataset=schema.name, reports=request.reports),
        tables=[
            Freshness.of(
                name,
                next(iter(lake.days(name)[-1:]), None),
                _moment(request.date),
                final_after_days=schema.maturity_days if name == EXAMPLES else 0,
            )
            for name in daily_tables(schema)
        ],
        members=family(
            schema,
            Registry(request.tracking, schema.name),
            checkpoints=request.checkpoints,
            artifacts=request.artifacts,
        ),
        alerts=newest_alerts(schema.name, request.reports),
    )
    report = site.write(page, request.reports, overview_path(schema.name))
    return {"dataset": schema.name, "date": request.date.isoformat(), "report": report}


def _moment(date: datetime.date) -> datetime.datetime:
    """Now; of a day long past the moment at which its tables were due."""
    end = datetime.datetime.combine(date, datetime.time(), datetime.UTC) + datetime.timedelta(
        days=2
    )
    return min(datetime.datetime.now(datetime.UTC), end)


MONITORING: dict[str, Command] = {"drift": _drift, "quality": _quality, "overview": _overview}
"""In the order of ``--help``."""
