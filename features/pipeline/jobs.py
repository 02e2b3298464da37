"""The Spark jobs between the log in the lake and the training examples, one function each.

A job is a pure function of its days and its inputs: it replaces the partitions of these days and
nothing else, and reads no clock. A range of days gives the same rows as day by day.
Feature rows are staged: no version of a table has them until they are judged and published.
"""

import contextlib
import datetime
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from features.labels.corrections import newest_correction
from features.labels.immature import (
    EVENT_DELAY,
    ImmatureExamples,
    delays_by_step,
    known_rows,
    known_shares,
)
from features.lake.candidate import Candidate, joined
from features.lake.day_rows import Partition
from features.lake.lake import EXAMPLES, IMMATURE_EXAMPLES, IMPRESSIONS, ONE_DAY, day_range
from features.pipeline.aggregates import is_positive, midnight
from features.pipeline.attributes import as_published, stage_attributes
from features.pipeline.availability import with_availability
from features.pipeline.builds import discard_build, list_build
from features.pipeline.end_of_day import (
    StatePartitions,
    drop_ends_of_days,
    num_rows,
    state_partitions,
    states,
    write_end_of_day,
)
from features.pipeline.point_in_time import join_as_of
from features.pipeline.tables.keys import in_order_of_keys, key_value
from features.pipeline.tables.rows import daily_rows, first_input, state_rows
from features.pipeline.workspace import (
    TO_FEATURES,
    TO_IMPRESSIONS,
    Workspace,
    require_day_before,
    require_days,
    require_events,
    require_examples_before,
    visible_days,
)
from features.places import Place
from features.provenance.inputs import computed_tables
from features.provenance.landed import landed_attributes
from features.schema import (
    CREATED,
    DAY,
    EVENT_TIMESTAMP,
    EXAMPLE_ID,
    LABEL,
    FeatureTable,
    TableKind,
)
from features.schema.keys import attributes_read
from features.spark.session import feature_struct


def build(
    work: Workspace,
    landing: Place,
    days: Sequence[datetime.date],
    *,
    available_at: datetime.datetime | None = None,
    is_first: bool = False,
    listed_as: Sequence[datetime.date] = (),
) -> list[Candidate]:
    """Stage feature rows of some days, for every table of the schema, and list them.

    Nothing is live yet. A build of the same days that was not published gives way.

    Args:
        work: Session, schema and lake.
        landing: Where the attributes have landed.
        days: Days of which to compute rows, in order.
        available_at: From when the rows can be counted on, for a correction of days that were
            published before: the rows published then stay, so that what a model saw is known.
            None: as declared, from the event plus the table's delay; of impressions that were
            ingested as a correction, from that moment on.
        is_first: The lake begins with these days, and builds on none before.
        listed_as: The days of the job, where some of them need no build; none: ``days``.

    Returns:
        A candidate for each table; none of attributes that have not changed.

    Raises:
        ValueError: A day is missing or was made by another schema; names the command to run.
    """
    require_days(work.lake, work.schema, [IMPRESSIONS], days, TO_IMPRESSIONS)
    require_day_before(work.lake, work.schema, days, is_first=is_first)
    _require_events(work, days)
    tables, attributes = work.schema.tables, landed_attributes(work.schema, landing)
    with contextlib.ExitStack() as previews:
        staged: dict[str, Candidate | None] = {}
        # Keys and histories of attributes need those that are new with this build.
        need = [table for table in tables if attributes_read(work.schema, table)]
        for some in ([table for table in tables if table not in need], need):
            staged |= _stage_tables(work, landing, some, days, available_at)
            for table in some if need else ():
                if table.kind is TableKind.ATTRIBUTES and (one := staged[table.name]):
                    previews.enter_context(work.lake.preview(as_published(work, one)))
    found = [one for table in tables if (one := staged[table.name])]
    return list_build(work, found, listed_as or days, attributes=attributes)


def _require_events(work: Workspace, days: Sequence[datetime.date]) -> None:
    """Require the events of all impressions whose labels a build counts."""
    computed = [table for table in work.schema.tables if table.kind is not TableKind.ATTRIBUTES]
    if computed and work.schema.later_labels:
        since = min(first_input(work, table, days[0]) for table in computed)
        read = work.lake.days_between(IMPRESSIONS, since, days[-1])
        require_events(work.lake, work.schema, work.schema.later_labels, read)


def publish_features(
    work: Workspace, staged: Sequence[Candidate], days: Sequence[datetime.date]
) -> list[Partition]:
    """Let the lake have what a build of some days has staged; nothing is judged here.

    The states at the end of the last day are written too; those of these days and later ones go
    first, since they rest on the rows before.

    Raises:
        ConflictError: Another job has replaced one of the days since the build began.
    """
    published = []
    # A push that finds new states reads the attributes with them.
    for one in sorted(staged, key=lambda one: one.table in computed_tables(work.schema)):
        table = work.schema.table(one.table)
        if table.kind is TableKind.STATE:
            drop_ends_of_days(work, table, one.days[0])
        published += work.lake.publish(one)
        if table.kind is TableKind.STATE:
            write_end_of_day(work, table, one.days[-1])
    discard_build(work, days)
    return published


def _stage_tables(
    work: Workspace,
    landing: Place,
    tables: Sequence[FeatureTable],
    days: Sequence[datetime.date],
    available_at: datetime.datetime | None,
) -> dict[str, Candidate | None]:
    """Stage tables that do not depend on each other, by their names."""
    # On small days Spark plans longer than it computes.
    with ThreadPoolExecutor(max_workers=max(1, len(tables))) as pool:
        found = pool.map(lambda one: _stage_table(work, landing, one, days, available_at), tables)
        return {table.name: one for table, one in zip(tables, found, strict=True)}


def _stage_table(
    work: Workspace,
    landing: Place,
    table: FeatureTable,
    days: Sequence[datetime.date],
    available_at: datetime.datetime | None,
) -> Candidate | None:
    if table.kind is TableKind.ATTRIBUTES:
        return stage_attributes(work, landing, table, days, available_at=available_at)
    return _stage_computed(work, table, days, available_at, settled=days[0] - ONE_DAY)


def _stage_computed(
    work: Workspace,
    table: FeatureTable,
    days: Sequence[datetime.date],
    available_at: datetime.datetime | None,
    *,
    settled: datetime.date,
) -> Candidate:
    """Stage days of a table; ``settled`` is the last day before those that the build replaces."""
    corrected = newest_correction(
        work.lake, work.schema, first_input(work, table, days[0]), days[-1]
    )
    if corrected and len(days) > 1:
        # A correction is known from its own day on, and counts from another moment for each day.
        with contextlib.ExitStack() as earlier:
            parts = []
            for day in days:
                parts.append(_stage_computed(work, table, [day], available_at, settled=settled))
                earlier.enter_context(work.lake.preview(parts[-1]))
        return joined(parts)
    moment = max(filter(None, (available_at, corrected)), default=None)
    if moment and moment <= table.first_visible(days[0]):
        moment = None  # it was known before any row of these days counts
    known_by = moment or table.first_visible(days[0])
    if table.kind is TableKind.STATE:
        rows = state_rows(work, table, days, known_by, settled=settled)
    else:
        rows = daily_rows(work, table, days, known_by)
    key = work.schema.key_of(table).name
    names = [*feature_struct(work.schema, table).names, DAY]
    frame = with_availability(work, table, rows, days, moment).select(*names)
    return work.stage(frame, table.name, days, keys=[key, EVENT_TIMESTAMP, CREATED])


def examples(work: Workspace, days: Sequence[datetime.date]) -> list[Partition]:
    """Training examples: the impressions of some days with the features visible at each.

    Raises:
        RunbookError: A day is missing: of impressions, features or, until their labels are final,
            of the days after; names the command to run.
    """
    schema = work.schema
    _require_features(work, days)
    require_examples_before(work.lake, schema, days)
    _require_mature(work, days)
    impressions = work.impressions(days).withColumn(LABEL, is_positive(schema.label))
    joined = _with_features(work, impressions, days)
    return work.replace(joined, EXAMPLES, days, keys=["timestamp", EXAMPLE_ID])


def immature_examples(work: Workspace, day: datetime.date) -> ImmatureExamples:
    """What the run of a day may learn beside mature days: newer rows, as far as they are known.

    They are the rows after the days that it trains on, through the last day whose events are there:
    those held out, and those whose label is not final. Its day's partition has them all.

    Args:
        work: Of a schema whose target declares ``immature``.
        day: The newest day whose labels are final.

    Raises:
        RunbookError: As ``examples``.
    """
    schema, lake = work.schema, work.lake
    immature, held_out = schema.label.immature, schema.holdout_days
    if immature is None:
        raise ValueError(f"label {schema.label.name}: declares no immature; only mature is learnt")
    last = day + schema.maturity_days * ONE_DAY
    days = lake.days_between(IMPRESSIONS, day - (held_out - 1) * ONE_DAY, last)
    _require_features(work, days)
    _require_mature(work, [day])
    of_delays = lake.days_between(IMPRESSIONS, day - (immature.delay_days - 1) * ONE_DAY, day)
    mature = work.impressions(of_delays, delay_column=EVENT_DELAY)
    delays = delays_by_step(mature, schema.label)
    shares = known_shares(delays)
    rows = work.impressions(days, delay_column=EVENT_DELAY)
    rows = known_rows(rows, schema, shares, until=midnight(last + ONE_DAY))
    joined = _with_features(work, rows, days).withColumn(DAY, F.lit(day))
    (written,) = work.replace(joined, IMMATURE_EXAMPLES, [day], keys=["timestamp", EXAMPLE_ID])
    return ImmatureExamples(partition=written, num_delays=sum(delays), known_shares=shares)


def _require_features(work: Workspace, days: Sequence[datetime.date]) -> None:
    """Require impressions of some days and the features of each."""
    require_days(work.lake, work.schema, [IMPRESSIONS], days, TO_IMPRESSIONS)
    require_days(work.lake, work.schema, computed_tables(work.schema), days, TO_FEATURES)


def _with_features(
    work: Workspace, impressions: DataFrame, days: Sequence[datetime.date]
) -> DataFrame:
    """Labelled impressions of some days with the features visible at each."""
    schema = work.schema
    # Other labels that come later may not be final yet, and would make rows depend on when.
    joined = impressions.drop(*(label.column for label in schema.later_labels))
    num_impressions = sum(work.lake.manifest(IMPRESSIONS, day).rows for day in days)
    for table in in_order_of_keys(schema):
        found = _visible(work, table, days)
        joined = join_as_of(
            joined.withColumn(table.of, key_value(table)) if table.by else joined,
            states(work, found).drop(DAY),
            table,
            key=schema.key_of(table).name,
            time="timestamp",
            since=midnight(days[0]),
            is_smaller=num_rows(work, found) < num_impressions,
        )
        joined = joined.drop(table.of) if table.by else joined
    return joined


def _require_mature(work: Workspace, days: Sequence[datetime.date]) -> None:
    if work.schema.maturity_days:
        until = day_range(days[0], days[-1] + work.schema.maturity_days * ONE_DAY)
        require_days(work.lake, work.schema, [IMPRESSIONS], until, TO_IMPRESSIONS)
        require_events(work.lake, work.schema, [work.schema.label], until)


def _visible(
    work: Workspace, table: FeatureTable, days: Sequence[datetime.date]
) -> StatePartitions:
    """Where the rows are that can be the newest at an impression of some days."""
    first, last = days[0], days[-1]
    if table.kind is not TableKind.STATE:
        return [(table, visible_days(work, table, first, last))]
    return state_partitions(work, table, first, last)
