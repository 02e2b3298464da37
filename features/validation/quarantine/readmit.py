"""Rows in quarantine get other values, keep the rules now, and join the rows of their days.

Of each day the changes are published first, then the day: a job that is killed between is done
again, or its day is due. To do it twice changes nothing.
"""

import collections
import contextlib
import dataclasses
import datetime
from collections.abc import Mapping, Sequence

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from features.lake.candidate import Candidate
from features.lake.lake import IMPRESSIONS, IMPRESSIONS_RAW, READMITTED
from features.pipeline.ingestion.ingest import corrections
from features.pipeline.workspace import Workspace
from features.places import Place
from features.provenance.known import KnownLake
from features.provenance.staleness import changes
from features.schema import DAY, EXAMPLE_ID, Severity
from features.spark.row_rules import RULES, is_good, mark_broken_rules
from features.spark.session import impressions_struct
from features.validation.checks import check_impressions, rules_of_days
from features.validation.outcome import Outcome
from features.validation.quarantine.changes import (
    BROKEN,
    CHANGES,
    READMITTED_AT,
    SOURCE_OF_CHANGES,
    STRUCT,
    as_json,
    as_readmitted,
    changes_between,
)
from features.validation.quarantine.mapping import Replacement

_LANDED, _HELD, _BEFORE, _GIVEN = "__landed", "__held", "__before", "__given"
_IS_TOUCHED = "__is_touched"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Correction:
    """What corrects rows in quarantine."""

    replacements: Sequence[Replacement] = ()
    rows: DataFrame | None = None
    """By example id, the columns that have other values; they win over replacements."""
    source: str
    """Where it comes from: names and hashes of the files."""
    moment: datetime.datetime
    """From when the rows count."""


@dataclasses.dataclass(frozen=True)
class ReadmittedDay:
    """What became of a day's rows in quarantine."""

    day: datetime.date
    held: int
    """Rows that were in quarantine."""
    corrected: int
    """Those of them that the correction is about."""
    admitted: int
    still_broken: Mapping[str, int]
    """By rule, the corrected rows that break it."""
    outcome: Outcome | None
    """Of the day's check; None: nothing was to be published."""

    @property
    def published(self) -> int:
        """Rows that were admitted: none where the check stopped the day."""
        return 0 if self.is_stopped else self.admitted

    @property
    def is_stopped(self) -> bool:
        """Whether the check stopped the day: then nothing of it was published."""
        return self.outcome is not None and bool(self.outcome.critical)


def readmit(
    work: Workspace, day: datetime.date, correction: Correction, reports: Place
) -> ReadmittedDay:
    """Correct a day's rows in quarantine; publish the day with those that keep the rules now.

    Args:
        work: Session, schema and lake.
        day: Of the rows.
        correction: What they get.
        reports: Where Data Docs are written.

    Raises:
        ConflictError: Another job has replaced the day since this one began.
    """
    with contextlib.ExitStack() as caches:
        judged = _judged(work, day, correction).cache()
        caches.callback(judged.unpersist)
        counts = judged.groupBy(_IS_TOUCHED, RULES).count().collect()
        held = sum(found["count"] for found in counts)
        touched = [(found[RULES], found["count"]) for found in counts if found[_IS_TOUCHED]]
        broken: dict[str, int] = collections.Counter()
        for rules, count in touched:
            for rule in rules:
                broken[rule] += count
        admitted = sum(count for rules, count in touched if not rules)
        outcome = None
        if admitted:
            rows = judged.where(F.col(_IS_TOUCHED) & is_good())
            staged = _stage(work, rows, day, correction)
            outcome = check_impressions(work, [day], reports, readmitted=staged)
        elif _is_behind(work, day):  # a job that was killed did not come to it
            outcome = check_impressions(work, [day], reports)
    corrected = sum(count for _, count in touched)
    return ReadmittedDay(day, held, corrected, admitted, dict(broken), outcome)


def _is_behind(work: Workspace, day: datetime.date) -> bool:
    """Whether changes were published and the day with them was not."""
    found = changes(work.schema, KnownLake(work.lake), IMPRESSIONS, day)
    return any(one.input.startswith(READMITTED) for one in found)


def _judged(work: Workspace, day: datetime.date, correction: Correction) -> DataFrame:
    """The rows in quarantine as corrected, with the rules that they break then.

    The rules see all rows of the day, for some compare rows with others; critical ones count too,
    since one of these rows must not stop the day.
    """
    struct = impressions_struct(work.schema)
    fields = [field for field in struct if field.name != EXAMPLE_ID]
    names = [field.name for field in fields]
    raw = work.impressions([day], IMPRESSIONS_RAW).withColumn(_LANDED, F.struct(*names))
    rows = as_readmitted(work, raw, [day])
    held = mark_broken_rules(rows, rules_of_days(work, rows, [day]))
    held = held.withColumnRenamed(RULES, _HELD).drop("reasons")
    before = held.withColumn(_BEFORE, F.struct(*names))
    corrected = _corrected(before, correction, names)
    rules = [
        dataclasses.replace(rule, severity=Severity.WARNING)
        for rule in rules_of_days(work, corrected, [day])
        if rule.severity is not Severity.INFO
    ]
    marked = mark_broken_rules(corrected, rules).where(F.size(_HELD) > 0)
    marked = marked.withColumns(
        {
            _IS_TOUCHED: as_json(F.col(_BEFORE)) != as_json(F.struct(*names)),
            CHANGES: changes_between(F.col(_LANDED), fields),
        }
    )
    return marked.select(EXAMPLE_ID, CHANGES, _HELD, _IS_TOUCHED, RULES)


def _corrected(held: DataFrame, correction: Correction, names: Sequence[str]) -> DataFrame:
    """Marked rows of a day; those that break a rule with the values of a correction."""
    values = {name: _replaced(name, correction.replacements) for name in names}
    columns = held.columns
    if correction.rows is None:
        return held.withColumns(values)
    given = [name for name in correction.rows.columns if name != EXAMPLE_ID]
    renamed = correction.rows.select(EXAMPLE_ID, F.struct(*given).alias(_GIVEN))
    joined = held.join(F.broadcast(renamed), EXAMPLE_ID, how="left")
    is_given = F.col(_GIVEN).isNotNull() & (F.size(_HELD) > 0)
    for name in given:
        values[name] = F.when(is_given, F.col(_GIVEN)[name]).otherwise(values[name])
    return joined.withColumns(values).select(*columns)


def _replaced(name: str, replacements: Sequence[Replacement]) -> SparkColumn:
    """A column with the values that replace others in rows that broke a rule."""
    of_column = [one for one in replacements if one.column == name]
    value = F.col(name)
    if not of_column:
        return value
    when: SparkColumn | None = None
    for one in of_column:
        is_it = F.array_contains(_HELD, one.rule) & value.eqNullSafe(F.lit(one.value))
        by = F.lit(one.by)
        when = F.when(is_it, by) if when is None else when.when(is_it, by)
    return value if when is None else when.otherwise(value)


def _stage(
    work: Workspace, rows: DataFrame, day: datetime.date, correction: Correction
) -> Candidate:
    """Stage changes of a day, next to those that were made before."""
    moment = F.lit(correction.moment)
    new = rows.select(
        EXAMPLE_ID,
        CHANGES,
        F.col(_HELD).alias(BROKEN),
        F.lit(correction.source).alias(SOURCE_OF_CHANGES),
        moment.alias(READMITTED_AT),
    ).withColumn(DAY, F.lit(day))
    days = [day] if work.lake.has(READMITTED, day) else []
    before = work.lake.read(work.spark, READMITTED, STRUCT, days)
    kept = before.join(new.select(EXAMPLE_ID), EXAMPLE_ID, how="left_anti")
    moments = [correction.moment, *corrections(work, days, READMITTED).values()]
    return work.lake.stage(
        new.unionByName(kept),
        READMITTED,
        [day],
        keys=[EXAMPLE_ID],
        corrected_at={day: max(moments)},
    )
