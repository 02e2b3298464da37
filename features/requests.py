"""The requests of ``python -m features``: the flags of each command, and what it is for."""

import datetime
import os
from pathlib import Path
from typing import Literal

from features.datasets.catalog import known
from features.options import OfDataset, OfDay, OfDays, folder, from_flags, option
from features.places import Place


def moment(text: str) -> datetime.datetime:
    """A moment in ISO 8601, UTC where no offset is given."""
    found = datetime.datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)


@from_flags
class OfLake(OfDataset):
    """A request about the lake of a data set."""

    lake: Place = folder("lake", "the Parquet tables, one partition a day")


@from_flags
class OfLanding(OfLake):
    """A request about what has landed, and the lake."""

    landing: Place = folder("landing", "where the log lands, one file a day")


@from_flags
class _OfStore(OfLake):
    store: Place = folder("feast", "the Feast registry and online store")


@from_flags
class OfReports:
    """A request that writes pages."""

    docs: Place = folder("reports", "where reports and Data Docs are written")


@from_flags
class _Corrects:
    available_at: datetime.datetime | None = option(
        "for a correction of days that were used before: from when the new rows count, ISO 8601, "
        "UTC where no offset is given (else as declared)",
        parse=moment,
        metavar="TIME",
        default=None,
    )


@from_flags
class _Repeats:
    again: bool = option(
        "take days of which nothing has changed too, and those that somebody must decide on",
        default=False,
    )


@from_flags
class FetchRequest(OfDataset):
    """Get a log and land it, one file a day."""

    landing: Place = folder("landing", "where the log lands, one file a day")
    rows: int = option("generated logs only", default=100_000)
    users: int = option("generated logs only", default=2_000)
    items: int = option("generated logs only", default=1_000)
    days: int = option("generated logs only", default=30)
    seed: int = option("generated logs only", default=0)


@from_flags
class IngestRequest(OfLanding, OfDays, _Corrects, _Repeats):
    """Bring landed impressions into the lake.

    A day that is there as it has landed is left alone. One that landed again with other rows is
    taken where nobody has learnt what follows from the old ones; else exit code 1.
    """


@from_flags
class ValidateRequest(OfLake, OfReports, OfDays):
    """Check rows; stop, quarantine or report."""

    table: Literal["impressions", "features"] = option("what to check")


@from_flags
class BuildRequest(OfLanding, OfDays, _Corrects, _Repeats):
    """Compute the feature tables, from the first day on of which an input has changed."""

    first_day: bool = option(
        "the lake begins with --date: no features of the day before are needed", default=False
    )


@from_flags
class HistoryRequest(OfLanding, OfReports, OfDays):
    """Make examples of past days: ingest, validate, build, validate, examples, some days at a time.

    Days of which nothing has changed are left as they are. So a run that was killed goes on where
    it stopped: run it again.
    """

    again: bool = option(
        "take days that landed again with other rows, although rankers have learnt the old ones",
        default=False,
    )

    days_per_chunk: int = option("days that each of these jobs takes at once", default=28)
    first_day: bool = option(
        "the lake begins with --date: no features of the day before are needed", default=False
    )

    def __post_init__(self) -> None:
        """ValueError for a range that ends before it begins, or a chunk without a day."""
        super().__post_init__()
        if self.days_per_chunk < 1:
            raise ValueError(f"--days-per-chunk: {self.days_per_chunk}; at least 1")


@from_flags
class ApplyRequest(_OfStore):
    """Register the schema's objects with Feast."""


@from_flags
class MaterializeRequest(_OfStore, OfDays):
    """Bring finished days online."""


@from_flags
class PushRequest(OfLanding, _OfStore, OfReports):
    """Bring users online within a day.

    Reads what has landed since the newest built day: days, and parts of days under intraday/. May
    be repeated: what was pushed before is offered again with the same values.
    """

    until: datetime.datetime | None = option(
        "push rows true by then (else by now)", parse=moment, default=None
    )
    follow: bool = option("keep running; push whenever impressions land", default=False)
    first_day: datetime.date | None = option(
        "first day to take from landing (else the one after the newest built day)", default=None
    )
    replay: bool = option(
        "with --follow: take the time of the newest impression as now, instead of the clock",
        default=False,
    )
    interval: float = option(
        "between two polls of the landing folder", metavar="SECONDS", default=2.0
    )
    metrics_host: str = option("address of the port for Prometheus", default="127.0.0.1")
    metrics_port: int = option(
        "port for Prometheus, with --follow; 0: none",
        default_factory=lambda: int(os.environ.get("RANKING_PUSH_PORT") or 8083),
    )

    def __post_init__(self) -> None:
        """ValueError for a time with --follow."""
        if self.follow and self.until:
            raise ValueError("--until: not with --follow, which runs until a signal stops it")


@from_flags
class ExamplesRequest(OfLake, OfDays, _Repeats):
    """Join impressions with features, of days of which an input has changed."""


@from_flags
class PruneRequest(OfLake, OfDay):
    """Drop days, files and candidates that nothing needs."""

    keep_days: int = option("days to keep", default=400)
    grace_hours: int = option(
        "keep files and candidates that are younger: more than the longest job takes", default=48
    )


@from_flags
class TablesRequest:
    """Say what the lake's tables hold: versions, files, days, last commits, pins."""

    lake: Path = folder("lake", "the Parquet tables, one partition a day")
    dataset: str | None = option(
        "the data set (else all)", metavar="NAME", parse=known, default=None
    )
    date: datetime.date | None = option(
        "day against which the age of the newest rows is told", default=None
    )


@from_flags
class DescribeRequest:
    """Say what a data set is: columns, tables, inputs, fingerprints; without one, list all."""

    dataset: str | None = option("the data set", metavar="NAME", parse=known, default=None)
    schema: Path | None = option(
        "a schema file instead, wherever it is", metavar="FILE", default=None
    )
    json: bool = option("print one JSON object for a program", default=False)
    markdown: bool = option("print its page of the feature reference", default=False)

    def __post_init__(self) -> None:
        """ValueError for a data set and a file, for two forms, or for a page of all."""
        if self.dataset and self.schema:
            raise ValueError(f"--schema {self.schema}: not with --dataset {self.dataset}")
        if self.json and self.markdown:
            raise ValueError("--markdown: not with --json")
        if self.markdown and not (self.dataset or self.schema):
            raise ValueError("--markdown: of one data set; `document` writes the page of all")


@from_flags
class InitRequest:
    """Draft the schema file of a log, with a comment at each guess.

    Exit code 1 where the log does not say something: the file asks it at a TODO.
    """

    source: tuple[Place, ...] = option(
        "files of one format (csv, tsv, jsonl, parquet, also .gz and .zst), folders of them, or a "
        "Delta table",
        flag="--from",
        metavar="PLACE",
    )
    name: str | None = option("name of the data set (else the file's)", default=None)
    output: Path | None = option(
        "the file to write (else NAME.yaml in this folder)", metavar="FILE", default=None
    )
    items: Place | None = option("a file with what is known of items", default=None)
    users: Place | None = option("a file with what is known of users", default=None)
    rows: int = option("most rows to read", default=2_000_000)


@from_flags
class LandRequest:
    """Land a log as one file a day.

    Rows go to the files of their days, UTC; a day between without rows gets a file without rows.
    """

    schema: Path = option("the schema file", metavar="FILE")
    source: tuple[Place, ...] = option(
        "files of one format, folders of them, or a Delta table", flag="--from", metavar="PLACE"
    )
    landing: Place = folder("landing", "where the log lands, one file a day")


@from_flags
class CheckRequest:
    """Say what would go wrong with landed days, before anything is built of them.

    Exit code 1 where something must be put right first.
    """

    schema: Path = option("the schema file", metavar="FILE")
    landing: Place = folder("landing", "where the log lands, one file a day")
    days: tuple[datetime.date, ...] = option(
        "the days to read (else the newest seven that have landed)", default=()
    )


@from_flags
class SchemaJsonRequest:
    """Write the JSON schema of schema files, by which editors complete and check them."""

    output: Path = option("the file to write", default=Path("features/datasets/schema.json"))


@from_flags
class SchemaYamlRequest:
    """Write a schema file in Python as YAML, which DAG files read instead of running it."""

    schema: Path = option("the schema file, a Python file", metavar="FILE")
    output: Path | None = option(
        "the file to write (else NAME.py.yaml next to it)", metavar="FILE", default=None
    )


@from_flags
class DocumentRequest:
    """Write the feature reference."""

    output: Path = option("the page to write", default=Path("docs/features.md"))
