"""The rules that rows must keep, derived from the schema.

A rule says which rows break it (a Spark predicate, which routes them) and is reported by Great
Expectations (``features.validation.expectations`` builds the expectation from the same fields), so
that the report and the routing cannot disagree.
"""

import dataclasses
import enum
from collections.abc import Callable, Sequence

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
    FeatureTable,
    Schema,
    Severity,
)

RULES, REASONS = "rules", "reasons"
PUBLISHED, QUARANTINED_SHARE = "published", "quarantined_share"
"""Columns that ``mark_broken_rules`` adds."""
_FEW_QUARANTINED = 5
"""So many rows of a day may go to quarantine whatever their share: a small day has such."""


class Check(enum.StrEnum):
    """What a rule demands."""

    PRESENT = "present"
    RANGE = "range"
    VOCABULARY = "vocabulary"
    LENGTH = "length"
    ELEMENTS = "elements"
    DAY = "day"
    UNIQUE = "unique"


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
            Check.LENGTH: lambda: F.size(value) > F.lit(self.maximum),
            Check.ELEMENTS: lambda: self._unknown_elements(value),
            Check.DAY: lambda: F.to_date(value) != F.col(DAY),
            Check.UNIQUE: lambda: F.count("*").over(Window.partitionBy(*self.columns)) > 1,
        }
        return F.coalesce(predicates[self.check](), F.lit(False))  # a Spark literal

    def _outside(self, value: SparkColumn) -> SparkColumn:
        outside = F.lit(False)  # a Spark literal
        if self.minimum is not None:
            outside = outside | (value < self.minimum)
        if self.maximum is not None:
            outside = outside | (value > self.maximum)
        return outside | F.isnan(value.cast("double"))

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
    return rules + _column_rules(schema.impression_columns())


def feature_rules(schema: Schema, table: FeatureTable) -> list[Rule]:
    """Rules of a feature table."""
    key = schema.entity(table.role)
    rules = [
        _unique((key.name, EVENT_TIMESTAMP, CREATED)),
        *(_present(name, Severity.CRITICAL) for name in (EVENT_TIMESTAMP, CREATED)),
    ]
    return rules + _column_rules((key, *table.columns))


def _column_rules(columns: Sequence[Column]) -> list[Rule]:
    return [rule for column in columns for rule in _rules_of(column)]


def _rules_of(column: Column) -> list[Rule]:
    rules = []
    names = (column.name,)
    if not column.is_nullable:
        rules.append(_present(column.name, column.severity))
    if column.dtype.is_list:
        rules.append(
            Rule(
                check=Check.LENGTH,
                columns=names,
                severity=column.severity,
                maximum=column.max_length,
                reason=f"more than {column.max_length} values",
            )
        )
    elif column.minimum is not None or column.maximum is not None:
        rules.append(
            Rule(
                check=Check.RANGE,
                columns=names,
                severity=column.severity,
                minimum=column.minimum,
                maximum=column.maximum,
                reason=f"outside {column.minimum} to {column.maximum} {column.unit}".rstrip(),
            )
        )
    if column.vocabulary:
        rules.append(
            Rule(
                check=Check.ELEMENTS if column.dtype.is_list else Check.VOCABULARY,
                columns=names,
                severity=column.severity,
                values=column.vocabulary,
                reason=f"not one of the {len(column.vocabulary)} known values",
            )
        )
    return rules


def _present(name: str, severity: Severity) -> Rule:
    reason = "missing, or it could not be read as its type"
    return Rule(check=Check.PRESENT, columns=(name,), severity=severity, reason=reason)


def _unique(names: tuple[str, ...]) -> Rule:
    reason = "more than one row has this key"
    return Rule(check=Check.UNIQUE, columns=names, severity=Severity.CRITICAL, reason=reason)


def mark_broken_rules(frame: DataFrame, rules: Sequence[Rule]) -> DataFrame:
    """The rows with the warnings that each breaks, and what would become of them.

    ``published`` is 1 for a row that breaks no warning and 0 for one that goes to quarantine;
    ``quarantined_share`` is that of the row's day, 0 where only a few rows of it are bad.
    """
    warnings = [rule for rule in rules if rule.severity is Severity.WARNING]

    def broken(value_of: Callable[[Rule], str]) -> SparkColumn:
        found = [F.when(rule.broken(), F.lit(value_of(rule))) for rule in warnings]
        return F.array_compact(F.array(*found)) if found else F.array().cast("array<string>")

    marked = frame.withColumns(
        {RULES: broken(lambda rule: rule.name), REASONS: broken(lambda rule: rule.reason)}
    ).withColumn(PUBLISHED, (F.size(RULES) == 0).cast("bigint"))
    of_day = Window.partitionBy(DAY)
    bad = F.sum(1 - F.col(PUBLISHED)).over(of_day)
    share = F.when(bad > _FEW_QUARANTINED, bad / F.count("*").over(of_day)).otherwise(0.0)
    return marked.withColumn(QUARANTINED_SHARE, share)
