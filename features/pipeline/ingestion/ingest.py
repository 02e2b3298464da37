"""What has landed, as raw tables of the lake: impressions, and events of labels that come later.

A job is a pure function of its days and of what has landed of them.
"""

import dataclasses
import datetime
from collections.abc import Sequence

from pyspark.sql import DataFrame

from features.datasets.readers import reader_of
from features.labels.events import raw_events_table
from features.lake.candidate import Candidate
from features.lake.day_rows import Partition
from features.lake.lake import IMPRESSIONS, IMPRESSIONS_RAW, READMITTED
from features.pipeline.workspace import Workspace
from features.places import Place
from features.provenance.inputs import raw_tables
from features.provenance.landed import landed_below
from features.schema import EXAMPLE_ID
from features.spark.erased_rows import without_erased


def ingest(
    work: Workspace,
    landing: Place,
    days: Sequence[datetime.date],
    *,
    available_at: datetime.datetime | None = None,
) -> list[Partition]:
    """Write landed impressions and events of some days, typed, into the lake; as ``stage_landed``.

    Nothing is judged: whatever was there is replaced.
    """
    staged = stage_landed(work, landing, days, available_at=available_at)
    return [part for one in staged for part in work.lake.publish(one)]


def stage_landed(
    work: Workspace,
    landing: Place,
    days: Sequence[datetime.date],
    *,
    available_at: datetime.datetime | None = None,
) -> list[Candidate]:
    """Stage landed impressions and events of some days, typed.

    Rows of erased users up to their erasure are left out (``features.lake.erased``).

    Args:
        work: Session, schema and lake.
        landing: Where they have landed.
        days: Which days to take.
        available_at: From when they count, where they correct days that were used before: no
            feature row that is computed from them will count earlier.
    """
    reader, folder = reader_of(work.schema), landing / work.schema.name
    # Before it is read: what lands meanwhile is found to be other than what was read.
    landed = landed_below(work.schema, landing)
    found = {(table, day): landed(table, day) for table in raw_tables(work.schema) for day in days}
    frames = [(IMPRESSIONS_RAW, reader.read_days(work.spark, folder, days), [EXAMPLE_ID])]
    for label in work.schema.later_labels:
        events = reader.read_events(work.spark, label, folder, days)
        frames.append((raw_events_table(label), events, list(label.join)))
    work.lake.note_read(reader.versions)
    staged = []
    for table, frame, keys in frames:
        frame = without_erased(frame, work.lake.root, work.schema)
        moments = _moments(work, days, table, available_at)
        one = work.stage(frame, table, days, keys=["timestamp", *keys], corrected_at=moments)
        made_of = {day: {**one.made_of[day], **found[table, day]} for day in days}
        staged.append(dataclasses.replace(one, made_of=made_of))
    return staged


def _moments(
    work: Workspace,
    days: Sequence[datetime.date],
    table: str,
    available_at: datetime.datetime | None,
) -> dict[datetime.date, datetime.datetime]:
    if available_at:
        return dict.fromkeys(days, available_at)
    return corrections(work, days, table)


def corrections(
    work: Workspace, days: Sequence[datetime.date], table: str
) -> dict[datetime.date, datetime.datetime]:
    """For each corrected day, from when the correction counts; to run a day again keeps it."""
    lake = work.lake
    found = {day: lake.manifest(table, day).corrected_at for day in days if lake.has(table, day)}
    return {day: moment for day, moment in found.items() if moment}


def stage_impressions(
    work: Workspace, frame: DataFrame, days: Sequence[datetime.date], *, keys: Sequence[str]
) -> Candidate:
    """Stage impressions of some days with the corrections of the raw ones, and of single rows."""
    corrected_at = corrections(work, days, IMPRESSIONS_RAW)
    for day, moment in corrections(work, days, READMITTED).items():
        corrected_at[day] = max(moment, corrected_at.get(day, moment))
    return work.stage(frame, IMPRESSIONS, days, keys=keys, corrected_at=corrected_at)
