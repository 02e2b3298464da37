"""The log of a demo: brought from where it lies, and the days of it that the demo takes."""

import datetime
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from features.datasets.readers import reader_of
from features.places import Place, put_whole, remove_folder, uri
from features.schema import Schema
from features.spark.landing import has_landed, impressions_file, is_whole

ONE_DAY = datetime.timedelta(days=1)
USUAL_DAILY = 3
"""Days that Airflow runs, where the log has enough and nobody asks for another number."""
_FOLDERS = ("impressions", "labels")
"""What a log consists of, besides the files of users and items next to them."""


class Span(NamedTuple):
    """The days of a demo."""

    history: tuple[datetime.date, datetime.date]
    """First and last day that are built as one range."""
    days: list[datetime.date]
    """Those that Airflow runs after it, one by one."""


def require_log(source: Place) -> None:
    """ValueError where a folder is no log: it has no ``impressions``."""
    if not (source / "impressions").is_dir():
        raise ValueError(
            f"--landing {source}: has no folder impressions; the log is a file a day, "
            "impressions/YYYY-MM-DD.<format>, and next to that folder users and items"
        )


def bring(source: Place, landing: Place) -> None:
    """Copy a log to where it lands, in place of one that an earlier demo has brought.

    Nothing is done where that is the same folder, by whichever way it is named.
    """
    if _whole_name(source) == _whole_name(landing):
        return
    remove_folder(landing)
    for entry in sorted(source.iterdir()):
        if entry.name in _FOLDERS:
            _copy(entry, landing / entry.name)
        elif entry.is_file() and not entry.name.startswith("."):
            put_whole(landing / entry.name, entry.read_bytes())


def _whole_name(folder: Place) -> str:
    return uri(folder.resolve()) if isinstance(folder, Path) else uri(folder)


def _copy(folder: Place, target: Place) -> None:
    if isinstance(folder, Path) and isinstance(target, Path):
        shutil.copytree(folder, target)
        return
    for file in folder.rglob("*"):
        if file.is_file():
            part = uri(file).removeprefix(f"{uri(folder)}/")
            put_whole(target / part, file.read_bytes())


def landed_days(schema: Schema, landing: Place) -> list[datetime.date]:
    """The days of the data set that have landed whole, in order.

    Raises:
        ValueError: There is none, or one of those between the first and the newest is missing.
    """
    reader = reader_of(schema)
    suffix = reader.suffix
    days = sorted(
        day
        for path in (landing / "impressions").glob(f"*.{suffix}")
        if (day := _day_of(path.name.removesuffix(f".{suffix}")))
        and schema.first_day <= day <= (schema.last_day or day)
        and has_landed(path, reader.marker)
        and all(is_whole(file) for file in reader.event_files(landing, day))
    )
    where = impressions_file(landing, schema.first_day, suffix)
    if not days:
        raise ValueError(
            f"dataset {schema.name}: no day has landed; a day is a file such as {where}, for its "
            "first_day; --landing names the folder of a log that lies elsewhere"
        )
    num_days = (days[-1] - schema.first_day).days + 1
    all_days = [schema.first_day + n * ONE_DAY for n in range(num_days)]
    if missing := sorted({*all_days} - {*days}):
        raise ValueError(
            f"dataset {schema.name}: {len(missing)} of the {num_days} days from its first_day "
            f"{schema.first_day} to {days[-1]} have not landed, the first is {missing[0]} "
            f"({impressions_file(landing, missing[0], suffix)}); a day on which nothing happened "
            "is a file without rows"
        )
    return days


def span_of(schema: Schema, landed: Sequence[datetime.date], daily: int | None) -> Span:
    """How many of the landed days are history, and which Airflow runs.

    Args:
        schema: Its newest ``holdout_days`` of the history are for the gate.
        landed: All days, in order.
        daily: How many Airflow runs; None: as is usual, or fewer where the log is short.

    Raises:
        ValueError: The log has too few days: one to train on, those held out, one for Airflow.
    """
    held_out = schema.holdout_days + schema.maturity_days
    most = len(landed) - held_out - 1
    # Of a short log a quarter: the first ranker needs the rest to be shown to be good.
    usual = min(USUAL_DAILY, max(1, len(landed) // 4), max(most, 1))
    number = usual if daily is None else daily
    if most < 1 or not 1 <= number <= most:
        raise ValueError(
            f"dataset {schema.name}: {len(landed)} days have landed, of which the first is to "
            f"train on and {held_out} to judge on and to wait for labels (holdout_days, and the "
            f"label's window and delay); that leaves "
            f"{max(most, 0)} for Airflow, and --daily is {number}"
        )
    return Span((landed[0], landed[-number - 1]), list(landed[-number:]))


def _day_of(text: str) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        return None
