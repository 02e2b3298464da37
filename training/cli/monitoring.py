"""The commands of ``python -m training`` that look at what was served.

What is slow to import is imported in the command that needs it.
"""

from features.cli import Command, Summary
from features.datasets.catalog import schema_of
from training.monitoring.quality_request import QualityRequest


def _quality(request: QualityRequest) -> Summary:
    from training.monitoring.quality.job import measure_quality

    return measure_quality(schema_of(request.dataset), request)


MONITORING: dict[str, Command] = {"quality": _quality}
"""In the order of ``--help``."""
