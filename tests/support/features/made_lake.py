"""A lake whose days are made by a rule instead of Spark: the hash of a day is one of its inputs."""

import datetime
from collections.abc import Iterable

from features.lake.lake import EXAMPLES, ONE_DAY
from features.provenance.inputs import fingerprint_of, inputs_of, raw_tables, tables_in_order
from features.provenance.known import KnownDays, Made
from features.provenance.staleness import stale_days
from features.schema import Schema
from features.schema.fingerprints import digest

DAYS = [datetime.date(2025, 3, 1) + n * ONE_DAY for n in range(8)]
Key = tuple[str, datetime.date]


class MadeLake:
    """All days of a data set, from what has landed to examples."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.made: dict[str, dict[datetime.date, Made]] = {}
        self.known = KnownDays(self.made)
        self.files = {(table, day): "as first" for table in raw_tables(schema) for day in DAYS}
        self.make(self.keys())

    def keys(self) -> list[Key]:
        """Every day of every table, in the order in which they are made."""
        mature = DAYS[: len(DAYS) - self.schema.maturity_days]
        return [
            (table, day)
            for table in tables_in_order(self.schema)
            for day in (mature if table == EXAMPLES else DAYS)
        ]

    def landed(self, table: str, day: datetime.date) -> dict[str, str]:
        return {"landed": self.files[table, day]} if (table, day) in self.files else {}

    def make(self, keys: Iterable[Key]) -> None:
        """Make some days again of what is there now."""
        for table, day in keys:
            inputs = dict(inputs_of(self.schema, self.known, table, day) or {})
            inputs |= self.landed(table, day)
            made = Made(digest(inputs), fingerprint_of(self.schema, table), inputs)
            self.made.setdefault(table, {})[day] = made

    def stale(self, schema: Schema | None = None) -> dict[str, list[datetime.date]]:
        """Stale days by table."""
        found: dict[str, list[datetime.date]] = {}
        for one in stale_days(schema or self.schema, self.known, landed=self.landed):
            found.setdefault(one.table, []).append(one.day)
        return found

    def contents(self) -> dict[Key, str]:
        return {(table, day): self.made[table][day].content for table, day in self.keys()}
