"""The jobs that bring features online: a finished day, and the micro-batch push within a day."""

import datetime
import json
from collections.abc import Sequence
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from features.aggregates import label_delay_days, newest_rows, user_state
from features.jobs import Workspace, carry_days, declared_availability
from features.readers import READERS
from features.rules import Check, impression_rules
from features.schema import CREATED, DAY, FeatureTable, TableKind
from features.spark import feature_struct
from features.store import materialize, open_store, push
from features.tables import ONE_DAY, day_range

_WATERMARK = "push_watermark.json"


def materialize_days(
    work: Workspace, store_dir: Path, days: Sequence[datetime.date]
) -> dict[str, int]:
    """Bring the newest rows of finished days online; returns the rows offered for each table.

    A row that is older than the one online is offered too, and the store keeps the newer one.
    """
    store = open_store(work.schema, store_dir, work.lake.root.parent)
    written = {}
    for table in work.schema.tables:
        if table.kind is TableKind.STATE:
            rows = newest_rows(work.features(table, days).drop(DAY), _key(work, table))
            written[table.name] = _push_frame(work, store_dir, table, rows)
            continue
        is_daily = table.kind is TableKind.DAILY
        # A daily row becomes true at midnight after its day.
        start = _midnight(days[0] + ONE_DAY if is_daily else work.schema.epoch)
        end = _midnight(days[-1] + ONE_DAY if is_daily else work.schema.epoch)
        materialize(store, table, start, end)
        table_days = days[-1:] if is_daily else [work.schema.epoch]
        written[table.name] = sum(work.lake.manifest(table.name, day).rows for day in table_days)
    return written


def push_until(
    work: Workspace,
    landing: Path,
    store_dir: Path,
    *,
    until: datetime.datetime,
    since: datetime.datetime | None = None,
) -> dict[str, int | str]:
    """Bring the state of the users touched since the last push online, as of ``until``.

    The same Spark code as the daily build runs over what has landed of the days since then, on top
    of the lake's state of the days before; rows that break a rule are left out.

    Args:
        work: Session, schema and lake.
        landing: Where the impressions land; the last day may be there in part.
        store_dir: The Feast stores.
        until: Moment up to which rows must be countable; the clock is not read.
        since: Moment of the last push; the recorded one when None, at first the day's start.
    """
    mark = store_dir / work.schema.name / _WATERMARK
    if since is None and mark.exists():
        since = datetime.datetime.fromisoformat(json.loads(mark.read_text())["until"])
    since = min(since or _midnight(until.date()), until)
    pushed = 0
    for table in work.schema.tables_of(TableKind.STATE):
        rows = state_until(work, landing, table, since=since, until=until)
        pushed += _push_frame(work, store_dir, table, rows)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(json.dumps({"until": until.isoformat()}))
    return {"rows": pushed, "since": since.isoformat(), "until": until.isoformat()}


def state_until(
    work: Workspace,
    landing: Path,
    table: FeatureTable,
    *,
    since: datetime.datetime,
    until: datetime.datetime,
) -> DataFrame:
    """Newest state row of each user with a row that became countable in (since, until]."""
    schema = work.schema
    # A row countable after `since` may have happened up to one delay before it.
    first = (since - table.delay).date()
    landed = day_range(first - label_delay_days(schema), until.date())
    reader = READERS[schema.name]
    present = [
        day for day in landed if any((landing / schema.name / "impressions").glob(f"{day}.*"))
    ]
    raw = reader.read_impressions(work.spark, landing / schema.name, present)
    for rule in impression_rules(schema):
        if rule.check is not Check.UNIQUE:
            raw = raw.where(~rule.broken())
    rows = user_state(
        schema,
        table,
        impressions=raw.where(F.col("timestamp") <= F.lit(until)),
        carry=work.features(table, carry_days(work, table, first)),
        first_day=first,
        last_day=until.date(),
    )
    named = rows.withColumn(CREATED, declared_availability(table))
    countable = named.where(F.col(CREATED) <= F.lit(until)).where(F.col(CREATED) > F.lit(since))
    return newest_rows(countable.select(*feature_struct(schema, table).names), _key(work, table))


def _push_frame(work: Workspace, store_dir: Path, table: FeatureTable, rows: DataFrame) -> int:
    frame = rows.toPandas()
    if frame.empty:
        return 0
    for name in feature_struct(work.schema, table).names[1:3]:
        frame[name] = frame[name].dt.tz_localize("UTC")
    push(open_store(work.schema, store_dir, work.lake.root.parent), table, frame)
    return len(frame)


def _key(work: Workspace, table: FeatureTable) -> str:
    return work.schema.entity(table.role).name


def _midnight(day: datetime.date) -> datetime.datetime:
    return datetime.datetime.combine(day, datetime.time(), datetime.UTC)
