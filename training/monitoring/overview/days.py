"""What is known of each day: the results that monitors, gate and policy left among the reports."""

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any

from features.parity.results import path_of as parity_path
from features.places import Place, read_object
from training.monitoring.quality.results import QualityDay, read_days

Result = Mapping[str, Any]
"""A JSON object of another job; empty where it wrote none."""
ONE_DAY = datetime.timedelta(days=1)
_DRIFT_SOURCES = ("log", "examples")
MOST_ALERTS = 10


@dataclasses.dataclass(frozen=True)
class Day:
    """What is known of one day; empty results where nothing was measured."""

    date: datetime.date
    parity: Result
    drift: Result
    drift_source: str
    """Of what drift was found: the log of answers, or examples; empty: of neither."""
    gate: Result
    policy: Result
    """The newest decision about the day."""
    quality: QualityDay | None


def days_until(last: datetime.date, number: int, *, dataset: str, reports: Place) -> list[Day]:
    """The days up to one, the oldest first.

    Args:
        last: The newest day.
        number: How many.
        dataset: Whose.
        reports: The folder of all reports.
    """
    first = last - (number - 1) * ONE_DAY
    quality = {one["day"]: one for one in read_days(reports, dataset, first, last)}
    return [
        _day(first + n * ONE_DAY, dataset, reports, quality.get(str(first + n * ONE_DAY)))
        for n in range(number)
    ]


def _day(date: datetime.date, dataset: str, reports: Place, quality: QualityDay | None) -> Day:
    own, day = reports / dataset, date.isoformat()
    drifts = {s: read_object(own / "drift" / s / day / "drift.json") for s in _DRIFT_SOURCES}
    source = next((name for name, found in drifts.items() if found), "")
    decided: Result = read_object(own / "policy" / f"{day}.json")
    return Day(
        date=date,
        parity=read_object(reports / parity_path(dataset, day, "json")),
        drift=drifts.get(source, {}),
        drift_source=source,
        gate=read_object(own / "gate" / day / "decision.json"),
        policy=decided.get("runs", [{}])[-1],
        quality=quality,
    )


def newest_alerts(dataset: str, reports: Place) -> list[Result]:
    """The alerts that were written last, the newest first; each with the ``file`` that it is in."""
    folder = reports / dataset / "alerts"
    if not folder.exists():
        return []
    files = [path for path in folder.iterdir() if path.name.endswith(".json")]
    newest = sorted(files, key=lambda path: (path.stat().st_mtime, path.name))[-MOST_ALERTS:]
    return [{**read_object(path), "file": path.name} for path in reversed(newest)]
