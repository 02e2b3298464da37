"""The rules that rows must keep, derived from the schema, and where rows go that break a warning.

Each rule is evaluated once. Warnings are Spark predicates here, over the rows that come in: they
route them. All other rules are Great Expectations' (``features.validation.expectations``), over the
rows that would be published.
"""

import collections
import dataclasses
import datetime
import enum
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from features.schema import (
    CREATED,
    DAY,
    EVENT_TIMESTAMP,
    EXAMPLE_ID,
    REQUEST_TIME,
    Column,
    Dtype,
    FeatureTable,
    Label,
    Schema,
    Severity,
)

RULES, REASONS = "rules", "reasons"
"""Columns that ``mark_broken_rules`` adds: of the warnings that a row breaks."""
_SHOWN_VALUES = 20
"""Of those that break a warning."""
_FEW_QUARANTINED = 5
"""So many rows of a day may go to quarantine whatever their share: a small day has such."""


class Check(enum.StrEnum):
    """What a rule demands."""

    PRESENT = "present"
    RANGE = "range"
    VOCABULARY = "vocabulary"
    LENGTH = "length"
    ELEMENTS = "elements"
    NUMBERS = "numbers"
    DAY = "day"
    UNIQUE = "unique"
    FREQUENCY = "frequency"
    ONE_USER = "one_user"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """One demand on the rows of a table."""

    check: Check
    columns: tuple[str, ...]
    severity: Severity
    reason: str
    minimum: float | None = None
    maximum: float | None = None
    values: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The rule's name in reports and in quarantine."""
        return f"{'+'.join(self.columns)}:{self.check}"

    def broken(self) -> SparkColumn:
        """True for the rows that break the rule, false for all others."""
        value = F.col(self.columns[0])
        predicates = {
            Check.PRESENT: lambda: value.isNull(),
            Check.RANGE: lambda: self._outside(value),
            Check.VOCABULARY: lambda: ~value.isin(*self.values),
            Check.LENGTH: lambda: self._is_too_long_or_short(F.size(value)),
            Check.ELEMENTS: lambda: self._unknown_elements(value),
            Check.NUMBERS: lambda: F.exists(value, self._is_no_number),
            Check.DAY: lambda: F.to_date(value) != F.col(DAY),
            Check.UNIQUE: lambda: F.count("*").over(Window.partitionBy(*self.columns)) > 1,
            Check.FREQUENCY: lambda: _of_day(value).isin(*self.values),
            Check.ONE_USER: lambda: _least(value, self.columns[1]) != _most(value, self.columns[1]),
        }
        return F.coalesce(predicates[self.check](), F.lit(False))  # a Spark literal

    def _outside(self, value: SparkColumn) -> SparkColumn:
        outside = F.lit(False)  # a Spark literal
        if self.minimum is not None:
            outside = outside | (value < self.minimum)
        if self.maximum is not None:
            outside = outside | (value > self.maximum)
        return outside | F.isnan(value.cast("double"))

    def _is_too_long_or_short(self, size: SparkColumn) -> SparkColumn:
        longest = size > F.lit(self.maximum)
        # Without a size the list is missing, which is another rule's.
        return longest if self.minimum is None else longest | ((size >= 0) & (size < self.minimum))

    def _is_no_number(self, element: SparkColumn) -> SparkColumn:
        return element.isNull() | self._outside(element) | (F.abs(element) == float("inf"))

    def _unknown_elements(self, value: SparkColumn) -> SparkColumn:
        unknown = F.filter(value, lambda element: ~element.isin(*self.values) | element.isNull())
        return F.size(unknown) > 0


def impression_rules(schema: Schema) -> list[Rule]:
    """Rules of the raw impressions."""
    rules = [
        _unique((EXAMPLE_ID,)),
        _present(EXAMPLE_ID, Severity.CRITICAL),
        Rule(
            check=Check.DAY,
            columns=(REQUEST_TIME.name,),
            severity=Severity.WARNING,
            reason="the moment is on another day than the partition",
        ),
    ]
    if schema.request and schema.user:
        one_user = Rule(
            check=Check.ONE_USER,
            columns=(schema.user.name, schema.request.name),
            severity=Severity.WARNING,
            reason="the request has rows of several users",
        )
        rules.append(one_user)
    return rules + _column_rules(schema.impression_columns())


def event_rules(schema: Schema, label: Label) -> list[Rule]:
    """Rules of the events of a label that comes later: an event that breaks one counts nowhere."""
    columns = schema.event_columns(label)
    other_day = Rule(
        check=Check.DAY,
        columns=(REQUEST_TIME.name,),
        severity=Severity.WARNING,
        reason="the event is on another day than its file",
    )
    as_warnings = (dataclasses.replace(one, severity=Severity.WARNING) for one in columns)
    return [other_day, *_column_rules(tuple(as_warnings))]


def frequency_rule(user: Column, raw: DataFrame, *, max_rows: int) -> Rule:
    """A warning for all rows of each user who has too many on a day.

    Args:
        user: The user's id.
        raw: Raw impressions of the days; counted at once.
        max_rows: Most rows of one user on a day.
    """
    known = raw.where(F.col(user.name).isNotNull())  # a missing id is another rule's
    counts = known.groupBy(_of_day(F.col(user.name)).alias("user")).count()
    return Rule(
        check=Check.FREQUENCY,
        columns=(user.name,),
        severity=Severity.WARNING,
        reason=f"more than {max_rows} rows of one user on a day",
        maximum=max_rows,
        values=tuple(row.user for row in counts.where(F.col("count") > max_rows).collect()),
    )


def _least(value: SparkColumn, key: str) -> SparkColumn:
    return F.min(value).over(Window.partitionBy(key))


def _most(value: SparkColumn, key: str) -> SparkColumn:
    return F.max(value).over(Window.partitionBy(key))


def _of_day(value: SparkColumn) -> SparkColumn:
    return F.concat_ws(" ", F.col(DAY), value)


def feature_rules(schema: Schema, table: FeatureTable) -> list[Rule]:
    """Rules of a feature table."""
    key = schema.key_of(table)
    rules = [
        _unique((key.name, EVENT_TIMESTAMP, CREATED)),
        *(_present(name, Severity.CRITICAL) for name in (EVENT_TIMESTAMP, CREATED)),
    ]
    return rules + _column_rules((key, *table.columns))


def _column_rules(columns: Sequence[Column]) -> list[Rule]:
    return [rule for column in columns for rule in _rules_of(column)]


def _rules_of(column: Column) -> Iterator[Rule]:
    def rule(check: Check, reason: str, **limits: Any) -> Rule:
        names, severity = (column.name,), column.severity
        return Rule(check=check, columns=names, severity=severity, reason=reason, **limits)

    low, high, words = column.minimum, column.maximum, column.vocabulary
    if not column.is_nullable:
        yield _present(column.name, column.severity)
    if column.dtype.is_list:
        longest = column.max_length
        if column.dtype is Dtype.FLOAT64_LIST:
            yield rule(Check.LENGTH, f"not {longest} values", minimum=longest, maximum=longest)
            yield rule(Check.NUMBERS, "missing, infinite or outside", minimum=low, maximum=high)
        else:
            yield rule(Check.LENGTH, f"more than {longest} values", maximum=longest)
    elif low is not None or high is not None:
        reason = f"outside {low} to {high} {column.unit}".rstrip()
        yield rule(Check.RANGE, reason, minimum=low, maximum=high)
    if words:
        check = Check.ELEMENTS if column.dtype.is_list else Check.VOCABULARY
        yield rule(check, f"not one of the {len(words)} known values", values=words)


def _present(name: str, severity: Severity) -> Rule:
    reason = "missing, or it could not be read as its type"
    return Rule(check=Check.PRESENT, columns=(name,), severity=severity, reason=reason)


def _unique(names: tuple[str, ...]) -> Rule:
    reason = "more than one row has this key"
    return Rule(check=Check.UNIQUE, columns=names, severity=Severity.CRITICAL, reason=reason)


def warnings(rules: Sequence[Rule]) -> list[Rule]:
    """Those by which rows go to quarantine."""
    return [rule for rule in rules if rule.severity is Severity.WARNING]


def names_of_warnings(schema: Schema) -> list[str]:
    """The rules by which impressions go to quarantine, that on rows of one user included."""
    named = [rule.name for rule in warnings(impression_rules(schema))]
    return [*named, *([f"{schema.user.name}:{Check.FREQUENCY}"] if schema.user else [])]


def mark_broken_rules(frame: DataFrame, rules: Sequence[Rule]) -> DataFrame:
    """The rows with the names and the reasons of the warnings that each breaks."""

    def broken(value_of: Any) -> Any:
        found = [F.when(rule.broken(), F.lit(value_of(rule))) for rule in warnings(rules)]
        return F.array_compact(F.array(*found)) if found else F.array().cast("array<string>")

    return frame.withColumns(
        {RULES: broken(lambda rule: rule.name), REASONS: broken(lambda rule: rule.reason)}
    )


def is_good() -> SparkColumn:
    """Whether a marked row is published."""
    return F.size(RULES) == 0


@dataclasses.dataclass(frozen=True)
class Routing:
    """Where the rows of some days go, by their numbers."""

    rows: Mapping[datetime.date, int]
    """That came in, of every day of the check."""
    quarantined: Mapping[datetime.date, int]
    broken: Mapping[str, Mapping[datetime.date, int]]
    """By warning, broken or not, the rows that break it."""
    values: Mapping[str, Sequence[object]]
    """Some of the values that break a warning."""

    @property
    def published(self) -> dict[datetime.date, int]:
        """Rows of each day that would be published."""
        return {day: rows - self.quarantined.get(day, 0) for day, rows in self.rows.items()}

    def quarantined_share(self, day: datetime.date) -> float:
        """Share of a day's rows in quarantine; 0 where only a few are bad."""
        bad = self.quarantined.get(day, 0)
        return bad / self.rows[day] if bad > _FEW_QUARANTINED else 0.0


def routing(marked: DataFrame, rules: Sequence[Rule], days: Sequence[datetime.date]) -> Routing:
    """Count the rows of a marked frame, which the caller caches."""
    rows = dict.fromkeys(days, 0)
    quarantined: dict[datetime.date, int] = collections.Counter()
    broken: dict[str, dict[datetime.date, int]] = {
        rule.name: collections.Counter() for rule in warnings(rules)
    }
    for day, names, count in marked.groupBy(DAY, RULES).count().collect():
        rows[day] += count
        quarantined[day] += count if names else 0
        for name in names:
            broken[name][day] += count
    values: dict[str, list[object]] = collections.defaultdict(list)
    columns = {rule.name: rule.columns[0] for rule in warnings(rules)}
    bad = (
        marked.where(~is_good()).limit(_SHOWN_VALUES * len(columns))
        if any(quarantined.values())
        else None
    )
    for row in bad.collect() if bad is not None else []:
        for name in row[RULES]:
            values[name].append(row[columns[name]])
    shown = {name: found[:_SHOWN_VALUES] for name, found in values.items()}
    return Routing(rows, quarantined, broken, shown)
