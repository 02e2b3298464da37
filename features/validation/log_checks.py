"""Checks of a log beside its rows: events of labels that come later, what they make, requests.

An event that says not when, of what, or on which day it is goes to quarantine, with file and line;
too many of them stop the day, as with impressions.
"""

import contextlib
import dataclasses
import datetime
from collections.abc import Sequence

from pyspark.sql import functions as F

from features.labels.events import events_struct, events_table, raw_events_table
from features.lake.lake import IMPRESSIONS, ONE_DAY, QUARANTINE
from features.pipeline.aggregates import is_positive
from features.pipeline.ingestion.ingest import corrections
from features.pipeline.workspace import Workspace, require_current
from features.places import Place
from features.schema import DAY, SOURCE, Label
from features.spark.row_rules import event_rules, is_good, mark_broken_rules, routing
from features.spark.session import impressions_struct, struct_of
from features.validation.expectations import SMALLEST_DAY_FOR_LABEL_RATE, Suite, update_docs
from features.validation.outcome import Outcome


def check_events(
    work: Workspace, label: Label, days: Sequence[datetime.date], reports: Place
) -> Outcome:
    """Check the events of some days; publish the good ones and the quarantine, or stop the days."""
    schema, lake, table = work.schema, work.lake, events_table(label)
    raw_table, struct = raw_events_table(label), events_struct(schema, label)
    require_current(lake, schema, raw_table, days)
    landed = struct_of(schema.event_columns(label)).add(SOURCE[0], "string").add(SOURCE[1], "long")
    rules, names = event_rules(schema, label), [*struct.names, DAY]
    with contextlib.ExitStack() as stack:
        raw = lake.read(work.spark, raw_table, landed, days)
        marked = mark_broken_rules(raw, rules).cache()
        stack.callback(marked.unpersist)
        routed, good = routing(marked, rules, days), marked.where(is_good()).select(*names)
        moments = corrections(work, days, raw_table)
        staged = [work.stage(good, table, days, keys=struct.names, corrected_at=moments)]
        quarantine = f"{QUARANTINE}_{table}"
        if any(routed.quarantined.values()) or lake.days_between(quarantine, days[0], days[-1]):
            bad = marked.where(~is_good())
            staged.insert(0, work.stage(bad, quarantine, days, keys=struct.names))
        suite = Suite(schema, table, struct, reports)
        suite.define(rules, routed)
        outcome = suite.run(good)
    update_docs([suite])
    if not outcome.critical:
        for one in staged:
            lake.publish(one)
    return dataclasses.replace(outcome, files=[file.path for file in staged[-1].files])


def split_requests(work: Workspace, days: Sequence[datetime.date]) -> list[str]:
    """Requests with rows on two days, in words.

    They belong to the day of their first row: a holdout that begins with the second day leaves out
    what it has of them.
    """
    request = work.schema.request
    if request is None:
        return []
    read = work.lake.days_between(IMPRESSIONS, days[0] - ONE_DAY, days[-1])
    struct = impressions_struct(work.schema)
    rows = work.lake.read(work.spark, IMPRESSIONS, struct, read).select(request.name, DAY)
    of_days = rows.groupBy(request.name).agg(F.countDistinct(DAY).alias("days"))
    split = of_days.where(F.col("days") > 1)
    found = split.agg(F.count("*").alias("count"), F.min(request.name).alias("first")).first()
    if found is None or not found["count"]:
        return []
    return [f"{request.name}: {found['count']} requests have rows on two days, as {found['first']}"]


def check_mature_rates(
    work: Workspace, days: Sequence[datetime.date]
) -> tuple[list[str], list[str]]:
    """What must stop the days, and what is only reported, of the labels that they make mature.

    Of a target that comes later the share of positives is known some days after an impression: it
    is judged with the day whose events complete it.
    """
    schema, limits = work.schema, work.schema.limits
    wanted = {day - schema.maturity_days * ONE_DAY for day in days}
    mature = [day for day in work.lake.days(IMPRESSIONS) if day in wanted]
    if not (schema.maturity_days and mature):
        return [], []
    share = F.avg(is_positive(schema.label)).alias("share")
    of_days = work.impressions(mature).groupBy(DAY).agg(F.count("*").alias("rows"), share)
    critical: list[str] = []
    reported: list[str] = []
    for found in of_days.orderBy(DAY).collect():
        if limits.min_positive_rate <= found.share <= limits.max_positive_rate:
            continue
        sentence = (
            f"label {schema.label.name} of {found.day}: share of positives {found.share:.4g} of "
            f"{found.rows} rows; from {limits.min_positive_rate:g} to {limits.max_positive_rate:g}"
        )
        is_critical = found.rows >= SMALLEST_DAY_FOR_LABEL_RATE
        (critical if is_critical else reported).append(sentence)
    return critical, reported
