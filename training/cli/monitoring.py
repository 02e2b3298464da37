"""The commands of ``python -m training`` that look at what was served.

What is slow to import is imported in the command that needs it.
"""

from features.cli import Command, Summary
from features.datasets.catalog import schema_of
from features.options import OfDay, count, from_flags, option
from training.cli.drift import drift
from training.monitoring.quality.requests import QualityRequest
from training.requests import FamilyRequest, ReadsLake


@from_flags
class OverviewRequest(OfDay, FamilyRequest, ReadsLake):
    """Write the page of what all monitors found until a day, as the schedule's UI shows it."""

    days: int = option("how many are shown", parse=count, default=28)


def _quality(request: QualityRequest) -> Summary:
    from training.monitoring.quality.job import measure_quality

    return measure_quality(schema_of(request.dataset), request)


def _overview(request: OverviewRequest) -> Summary:
    from features.lake.lake import Lake
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
            Freshness(name, next(iter(lake.days(name)[-1:]), None)) for name in daily_tables(schema)
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


MONITORING: dict[str, Command] = {"drift": drift, "quality": _quality, "overview": _overview}
"""In the order of ``--help``."""
