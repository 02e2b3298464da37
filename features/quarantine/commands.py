"""The commands of ``python -m features quarantine``: what is held, and how it is re-admitted."""

import datetime
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from features.cli import Command, FailedError, Summary
from features.datasets.catalog import schema_of
from features.day_commands import workspace_importing
from features.options import OfDays, from_flags, option
from features.places import Place
from features.requests import OfLake, OfReports, moment

if TYPE_CHECKING:
    import pyarrow as pa

    from features.lake.lake import Lake
    from features.validation.quarantine.mapping import Replacement


@from_flags
class ShowQuarantineRequest(OfLake, OfReports):
    """Show rows in quarantine: counts by day, rule and reason, and some rows."""

    table: str = option("of which table", default="impressions")
    date: datetime.date | None = option(
        "the first day (else the newest 14 that were checked)", default=None
    )
    to: datetime.date | None = option("the last day (else --date)", default=None)
    rule: str = option(
        "rows that this rule holds (else all), such as device:vocabulary", default=""
    )
    rows: int = option("most rows to show", default=5)
    trend: bool = option(
        "show the share of rows by rule and day instead, and write it as a page", default=False
    )

    def __post_init__(self) -> None:
        """ValueError for days that are no range, or a number of rows below zero."""
        if self.to and (self.date is None or self.to < self.date):
            raise ValueError(f"--to: {self.to}; not without --date, and not before it")
        if self.rows < 0:
            raise ValueError(f"--rows: {self.rows}; at least 0")


@from_flags
class ReadmitRequest(OfLake, OfReports, OfDays):
    """Correct impressions in quarantine; admit those that keep the rules now.

    They count from --available-at on. Prints the days of tables that are due because of it, and the
    commands that make them again. To do it twice changes nothing.
    """

    mapping: Path | None = option(
        "YAML file, by rule and column: value: the one in its place", metavar="FILE", default=None
    )
    file: Place | None = option(
        "corrected rows as .csv or .parquet: example_id, and columns to correct",
        metavar="FILE",
        default=None,
    )
    available_at: datetime.datetime | None = option(
        "from when the rows count, ISO 8601, UTC where no offset is given (else from now on)",
        parse=moment,
        metavar="TIME",
        default=None,
    )

    def __post_init__(self) -> None:
        """ValueError where nothing is named that corrects rows."""
        super().__post_init__()
        if not (self.mapping or self.file):
            raise ValueError("--mapping, --file: none; at least one of them says what is corrected")


def _show(request: ShowQuarantineRequest) -> Summary:
    from features.lake.lake import Lake
    from features.pages import site
    from features.validation.quarantine import held
    from features.validation.quarantine.held_page import held_page

    schema = schema_of(request.dataset)
    lake = Lake(request.lake, schema.name)
    days = _days_shown(request, lake)
    if request.trend:
        return _trend(request, lake, days)
    found = held.held_rows(lake, request.table, days, rule=request.rule)
    again = held.readmitted_rows(lake, days) if request.table == "impressions" else []
    if not found and (request.rule or not again):
        held.require_held(lake, request.table, days, request.rule)
    rows = held.sample(lake, request.table, days, rule=request.rule, num_rows=request.rows)
    title = f"{schema.name}: quarantine of {request.table}, {days[0]} to {days[-1]}"
    return {
        "table": request.table,
        "held": [{**one._asdict(), "day": str(one.day)} for one in found],
        "rows": rows,
        "readmitted": [
            {**one._asdict(), "day": str(one.day), "moment": one.moment.isoformat()}
            for one in again
        ],
        "markdown": site.text(held_page(title, found, again, rows)),
    }


def _days_shown(request: ShowQuarantineRequest, lake: "Lake") -> list[datetime.date]:
    """The days that are asked for: those that were checked, and others that have rows."""
    from features.lake.lake import QUARANTINE, day_range
    from features.validation.quarantine.held import TREND_DAYS

    known = sorted({*lake.days(request.table), *lake.days(f"{QUARANTINE}_{request.table}")})
    if request.date is None:
        return known[-TREND_DAYS:]
    return day_range(request.date, request.to or request.date)


def _trend(request: ShowQuarantineRequest, lake: "Lake", days: list[datetime.date]) -> Summary:
    from features.validation.quarantine.held import shares_by_rule
    from features.validation.quarantine.trend_page import write_trend_page

    schema = schema_of(request.dataset)
    shares = shares_by_rule(lake, request.table, days)
    if not any(lake.has(request.table, day) for day in days):
        span = f"{days[0]} to {days[-1]}" if days else "the newest days"
        raise ValueError(f"{schema.name}: {request.table}: no day of {span} was checked")
    page, text = write_trend_page(request.docs, schema, request.table, days, shares)
    by_rule = {
        rule: {str(day): share for day, share in of_day.items()} for rule, of_day in shares.items()
    }
    return {"table": request.table, "shares": by_rule, "report": page, "markdown": text}


def _readmit(request: ReadmitRequest) -> Summary:
    from features.lake.lake import Lake
    from features.validation.quarantine.held import days_to_readmit, ids_not_held

    schema, days = schema_of(request.dataset), request.days
    lake = Lake(request.lake, schema.name)
    # Before Spark starts: most mistakes are in the files.
    days = days_to_readmit(lake, days)
    replacements, corrected = _replacements(request), _corrected_rows(request)
    unknown = ids_not_held(lake, days, corrected) if corrected else []
    work = workspace_importing(request, "features.validation.quarantine.readmission")
    from features.validation.quarantine.readmission import readmit_days
    from features.validation.quarantine.readmit import Correction

    correction = Correction(
        replacements=replacements,
        rows=work.spark.createDataFrame(corrected) if corrected else None,
        source=" ".join(_named(path) for path in (request.mapping, request.file) if path),
        moment=request.available_at or _now(),
    )
    found = readmit_days(work, days, correction, request.docs)
    summary: Summary = {**found.summary, "ids_not_held": unknown, "markdown": found.in_words}
    if found.stopped_by:
        raise FailedError(found.stopped_by, summary)
    return summary


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def _replacements(request: ReadmitRequest) -> "Sequence[Replacement]":
    from features.spark.row_rules import names_of_warnings
    from features.validation.quarantine.mapping import read_mapping

    if request.mapping is None:
        return []
    schema = schema_of(request.dataset)
    return read_mapping(request.mapping, schema, names_of_warnings(schema))


def _corrected_rows(request: ReadmitRequest) -> "pa.Table | None":
    from features.validation.quarantine.corrected_file import read_corrected

    return read_corrected(request.file, schema_of(request.dataset)) if request.file else None


def _named(path: Path | Place) -> str:
    """A file by its name and a hash of its content."""
    return f"{path.name}@{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"


QUARANTINE_COMMANDS: dict[str, Command] = {
    "quarantine show": _show,
    "quarantine readmit": _readmit,
}
