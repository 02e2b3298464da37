"""What has landed, beside what the raw tables say that they were made of."""

import datetime

from features.datasets.readers import reader_of
from features.lake.commit import is_rewrite
from features.lake.day_rows import Inputs
from features.lake.lake import ONE_DAY, Lake
from features.places import Place
from features.provenance.inputs import (
    CODE,
    CODE_VERSIONS,
    computed_tables,
    label_of,
    raw_tables,
)
from features.provenance.staleness import Landed
from features.schema import Schema, TableKind


def landed_below(schema: Schema, landing: Place) -> Landed:
    """Hashes of what lies in a data set's landing folder, a day read once."""
    reader, folder = reader_of(schema), landing / schema.name
    read: dict[tuple[str, datetime.date], Inputs] = {}

    def landed(table: str, day: datetime.date) -> Inputs:
        if (table, day) not in read and table in raw_tables(schema):
            read[table, day] = reader.landed_inputs(folder, day, label_of(schema, table))
        return read.get((table, day), {})

    return landed


ATTRIBUTES = "attributes"
"""Of a commit: the attributes that its build has seen."""


def landed_attributes(schema: Schema, landing: Place) -> dict[str, str]:
    """What attributes are made of as they have landed; nothing where that is not known."""
    found = reader_of(schema).attribute_inputs(landing / schema.name)
    return {CODE: str(CODE_VERSIONS["features"]), **found} if found else {}


def are_attributes_seen(lake: Lake, schema: Schema, landing: Place, day: datetime.date) -> bool:
    """Whether a build of a day would find the attributes that an earlier build of it has found.

    Where a later day has seen attributes it would add none, whatever has landed.
    """
    tables = [table.name for table in schema.tables_of(TableKind.ATTRIBUTES)]
    if all(lake.days_between(table, day + ONE_DAY, datetime.date.max) for table in tables):
        return True
    there = landed_attributes(schema, landing)
    seen = [_commit_of(lake, table, day).get(ATTRIBUTES) for table in computed_tables(schema)]
    return bool(there) and bool(seen) and all(one == there for one in seen)


def _commit_of(lake: Lake, table: str, day: datetime.date) -> dict[str, object]:
    """What the log says of the commit that has made the rows of a day."""
    for one in lake.snapshot(table).history():
        made = one.get("content_hashes")
        # Who erases a user rewrites a day, and makes nothing.
        if isinstance(made, dict) and str(day) in made and not is_rewrite(one):
            return one
    return {}
