"""How old events of lineage go."""

import datetime
import re

from features.lineage.settings import AIRFLOW_EVENTS, events_folder
from features.places import Place, remove_folder

_DAY = re.compile(r"(?:event-)?(\d{4})-?(\d{2})-?(\d{2})(?:-|$)")
"""Of a folder of jobs' events, and of a file of Airflow's."""


def remove_events(before: datetime.date, where: Place | None = None) -> int:
    """Remove events of days before one; returns how many files and folders that were.

    Args:
        before: The first day that stays.
        where: The folder of all events; None: that of the root.
    """
    folder, removed = where or events_folder(), 0
    for path in [*_listed(folder), *_listed(folder / AIRFLOW_EVENTS)]:
        found = _DAY.match(path.name)
        if found and "-".join(found.groups()) < before.isoformat():
            remove_folder(path) if path.is_dir() else path.unlink(missing_ok=True)
            removed += 1
    return removed


def _listed(folder: Place) -> list[Place]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
