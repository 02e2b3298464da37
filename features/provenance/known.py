"""What is known of the days of tables: their rows by a hash, and what these were made of."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Protocol

from features.lake.day_rows import Inputs, Partition
from features.lake.lake import Lake


@dataclasses.dataclass(frozen=True)
class Made:
    """A day of a table."""

    content: str
    """Hash of the rows; of corrected ones also from when they count."""
    fingerprint: str = ""
    inputs: Inputs | None = None
    """What it was made of; None: not recorded."""


class Known(Protocol):
    """The tables of a data set, in a lake or made by hand."""

    def days(self, table: str) -> Sequence[datetime.date]:
        """Days that a table has, oldest first."""

    def made(self, table: str, day: datetime.date) -> Made:
        """One of them."""

    def content(self, table: str, day: datetime.date) -> str:
        """Its rows alone."""


class KnownLake:
    """The tables of a lake, as its job sees them."""

    def __init__(self, lake: Lake) -> None:
        """Read nothing yet."""
        self._lake = lake

    def days(self, table: str) -> Sequence[datetime.date]:
        """As ``Known``."""
        return self._lake.days(table)

    def made(self, table: str, day: datetime.date) -> Made:
        """As ``Known``."""
        found = self._lake.snapshot(table)
        return made_of_partition(found.partition(day), found.made_of(day))

    def content(self, table: str, day: datetime.date) -> str:
        """As ``Known``; the log is not read for it."""
        return made_of_partition(self._lake.snapshot(table).partition(day), None).content

    def load(self, tables: Sequence[str]) -> None:
        """Read what all files of some tables say side by side: in an object store each waits."""
        for table in tables:
            found = self._lake.snapshot(table)
            found.partitions(found.days)


class KnownDays:
    """Days that were made by hand, in front of others or of none."""

    def __init__(
        self, made: Mapping[str, Mapping[datetime.date, Made]], others: Known | None = None
    ) -> None:
        """Args: days by table, and what has the days that are not named there."""
        self._made, self._others = made, others

    def days(self, table: str) -> Sequence[datetime.date]:
        """As ``Known``."""
        others = self._others.days(table) if self._others else ()
        return sorted({*self._made.get(table, ()), *others})

    def made(self, table: str, day: datetime.date) -> Made:
        """As ``Known``."""
        if day in (own := self._made.get(table, {})):
            return own[day]
        assert self._others is not None, f"{table}: no {day}"
        return self._others.made(table, day)

    def content(self, table: str, day: datetime.date) -> str:
        """As ``Known``."""
        own = self._made.get(table, {})
        return (
            own[day].content if day in own or not self._others else self._others.content(table, day)
        )


def made_of_partition(part: Partition, inputs: Inputs | None) -> Made:
    """A day as its files and the log say."""
    since = f" since {part.corrected_at.isoformat()}" if part.corrected_at else ""
    # What was made of rows that were erased since then is not stale: they are not to come back.
    return Made((part.stands_for or part.content_hash) + since, part.fingerprint, inputs)
