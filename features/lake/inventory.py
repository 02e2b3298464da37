"""What a lake holds, table by table: versions, files, days, who wrote last, what pins what."""

import datetime
from typing import TypedDict

from deltalake import DeltaTable

from features.lake.candidate import candidates
from features.lake.commit import vacuum
from features.lake.pins import pins
from features.lake.snapshot import open_table, snapshot, tables
from features.places import Place

_ONE_DAY = datetime.timedelta(days=1)


class LastCommit(TypedDict):
    """Who made the newest version of a table."""

    job: str
    run: str
    at: str
    inputs: dict[str, int]
    """Versions of the tables that the rows were made from."""


class Table(TypedDict):
    """The state of one table."""

    version: int
    versions: int
    """How many the log still names."""
    files: int
    bytes: int
    """Of the newest version."""
    superseded_bytes: int
    """What a vacuum without a grace time would free."""
    rows: int
    first_day: str | None
    last_day: str | None
    missing_days: list[str]
    """Between the first and the last."""
    content_hash: str | None
    fingerprint: str | None
    """Both of the newest day."""
    last_commit: LastCommit
    age_days: int | None
    """From the newest day to the day that was asked for."""
    pins: dict[str, int]
    candidates: list[str]


def inventory(lake: Place, *, today: datetime.date | None = None) -> dict[str, Table]:
    """The tables of a data set.

    Args:
        lake: The data set's folder.
        today: The day against which the newest day's age is told; None: it is not.

    Raises:
        ValueError: A pin cannot be read.
    """
    found = {}
    for name in tables(lake):
        table = open_table(lake / name)
        if table is not None:
            found[name] = _table(lake, name, table, today)
    return found


def _table(lake: Place, name: str, table: DeltaTable, today: datetime.date | None) -> Table:
    newest = snapshot(lake / name, table.version())
    held = pins(lake, name)
    history = table.history()
    # A vacuum is a commit too, and nobody's of ours.
    last = next((one for one in history if "token" in one), {})
    days = newest.days
    day = newest.partition(days[-1]) if days else None
    superseded = vacuum(
        lake / name, hours=0, keep_versions=[pin.version for pin in held], dry_run=True
    )
    return Table(
        version=newest.version,
        versions=len(history),
        files=sum(len(newest.files(day)) for day in days),
        bytes=newest.num_bytes,
        superseded_bytes=superseded.num_bytes,
        rows=newest.num_rows,
        first_day=str(days[0]) if days else None,
        last_day=str(days[-1]) if days else None,
        missing_days=_missing(days),
        content_hash=day.content_hash if day else None,
        fingerprint=day.fingerprint if day else None,
        last_commit=LastCommit(
            job=last.get("job") or "unknown",
            run=last.get("run") or "unknown",
            at=_moment(last.get("timestamp", 0)),
            inputs=last.get("inputs", {}),
        ),
        age_days=(today - days[-1]).days if today and days else None,
        pins={pin.name: pin.version for pin in held},
        candidates=candidates(lake, name),
    )


def _missing(days: list[datetime.date]) -> list[str]:
    there = set(days)
    between = range((days[-1] - days[0]).days) if days else range(0)
    every = (days[0] + n * _ONE_DAY for n in between)
    return [str(day) for day in every if day not in there]


def _moment(milliseconds: int) -> str:
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    return moment.isoformat(timespec="seconds")


def in_words(dataset: str, found: dict[str, Table]) -> str:
    """The tables of a data set, a line each."""
    if not found:
        return f"{dataset}: no table"
    lines = [
        ("table", "version", "files", "MB", "superseded MB", "rows", "days", "last commit", "pins"),
        *(
            (
                name,
                f"{table['version']} of {table['versions']}",
                str(table["files"]),
                f"{table['bytes'] / 1e6:.1f}",
                f"{table['superseded_bytes'] / 1e6:.1f}",
                f"{table['rows']:,}",
                _days_in_words(table),
                f"{table['last_commit']['job']} {table['last_commit']['at'][:16]}",
                f"{len(table['pins'])}",
            )
            for name, table in found.items()
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join([f"{dataset}:", *rows])


def _days_in_words(table: Table) -> str:
    if table["first_day"] is None:
        return "none"
    words = f"{table['first_day']} to {table['last_day']}"
    if table["missing_days"]:
        words += f", {len(table['missing_days'])} missing"
    if table["age_days"] is not None:
        words += f", {table['age_days']} days old"
    return words
