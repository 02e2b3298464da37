"""The check of landed days: all findings, as a page and for programs."""

import datetime
import itertools
from collections.abc import Sequence
from typing import NamedTuple

from features.datasets.schema_files.build import DataSet
from features.datasets.source_problems import problems_of_source
from features.draft.checks import days as days_of
from features.draft.checks import ids, labels, rules
from features.draft.checks.attributes import attribute_files
from features.draft.checks.events import with_events
from features.draft.checks.findings import Finding, Level, page
from features.draft.checks.landed import Landed, days_there, has_files, read
from features.draft.checks.later_labels import check_events
from features.draft.log.sample import connect
from features.places import Place
from features.spark.landing import impressions_file

_CHECKS = (
    days_of.missing_days,
    days_of.small_days,
    days_of.other_days,
    rules.broken_rules,
    rules.shared_requests,
    ids.repeated_examples,
    ids.small_tables,
    ids.busy_users,
    ids.empty_columns,
    ids.unseen_neutrals,
    labels.label_rates,
    labels.leaks,
)


class Checked(NamedTuple):
    """What was read, and what was found."""

    page: str
    days: tuple[datetime.date, ...]
    rows: int
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> list[Finding]:
        """What must be put right before anything is built."""
        return [one for one in self.findings if one.level is Level.ERROR]


def check(data_set: DataSet, landing: Place, days: Sequence[datetime.date] = ()) -> Checked:
    """Check landed days of a data set against its schema file.

    Args:
        data_set: What the file declares.
        landing: Folder in which all data sets land.
        days: Which days; none: the newest seven that have landed.

    Raises:
        ValueError: No day has landed, or a table or a topic cannot be read.
    """
    if problems := problems_of_source(data_set, landing):
        raise ValueError("; ".join(problems))
    landing = landing / data_set.schema.name
    if not days_there(data_set.source, landing, days):
        raise ValueError(_nothing(data_set, landing))
    with connect() as connection:
        landed, refused = read(connection, data_set, landing, days)
        if landed is None:
            head = [f"{data_set.schema.name}: no file of {landing} could be read"]
            return Checked(page(head, refused), (), 0, tuple(refused))
        landed, events = with_events(data_set, landing, landed)
        findings = (
            *refused,
            *itertools.chain(*(one(landed) for one in _CHECKS)),
            *itertools.chain(*map(check_events, events)),
            *attribute_files(data_set, landing, landed),
        )
        head = _head(data_set, landing, landed)
    rows = sum(landed.rows_by_day.values())
    return Checked(page(head, findings), tuple(landed.rows_by_day), rows, findings)


def _nothing(data_set: DataSet, landing: Place) -> str:
    source = data_set.source
    if not has_files(source):
        return f"--days: missing; of a {source.format} source, name the days to be read"
    where = impressions_file(landing, data_set.schema.first_day, source.landed_suffix)
    return f"landing {landing}: no day has landed; a day is a file such as {where}"


def _head(data_set: DataSet, landing: Place, landed: Landed) -> list[str]:
    rows = sum(landed.rows_by_day.values())
    days = list(landed.rows_by_day)
    return [
        f"{data_set.schema.name}: {rows:,} rows of {len(days)} days, {days[0]} to {days[-1]}",
        f"  schema   {data_set.path}",
        f"  landing  {landing}",
        *(f"  label    {words}" for words in labels.rates_in_words(landed)),
    ]
