"""The integers of which declared aggregates are made, and when each of them is known."""

import dataclasses
import datetime
import enum
from collections.abc import Mapping

from features.schema.labels import Label
from features.schema.schema import Schema
from features.schema.tables import IMPRESSIONS, Aggregate, AggregateKind, FeatureTable

MOST_UNITS = 2**40
"""Largest limit of a float column in units of its scale: the sum of eight million of them fits."""


class What(enum.StrEnum):
    """What a measure takes from each impression."""

    SHOWN = "shown"
    LABELLED = "labelled"
    POSITIVES = "positives"
    VALUES = "values"
    """1 where a column has a value."""
    UNITS = "units"
    """A column's value, in multiples of the scale."""
    LAST_AT = "last_at"
    """The moment in epoch microseconds, of which the latest counts."""


@dataclasses.dataclass(frozen=True, order=True)
class Measure:
    """An integer of each impression that is added up, or of which the latest counts."""

    of: str
    what: What
    scale: float = 0

    @property
    def name(self) -> str:
        """As part of a column's name."""
        per = (
            f"_per_{self.scale:g}".replace(".", "_").replace("-", "_").replace("+", "")
            if self.scale
            else ""
        )
        return f"{self.of}_{self.what}{per}"

    @property
    def column(self) -> str:
        """Of a column while rows are computed; no column of a schema begins so."""
        return f"_{self.name}"


def labels_of(schema: Schema) -> dict[str, Label]:
    """The labels of a schema by the names that an aggregate is ``of``."""
    return {label.name: label for label in schema.labels}


def measures(aggregate: Aggregate, *, is_label: bool) -> tuple[Measure, ...]:
    """The integers that an aggregate is made of, in the order in which its value is."""
    of, scale = aggregate.of, aggregate.scale
    if aggregate.kind is AggregateKind.RATE:
        return Measure(of, What.POSITIVES), Measure(of, What.LABELLED)
    if aggregate.kind is AggregateKind.SUM:
        return (Measure(of, What.UNITS, scale),)
    if aggregate.kind is AggregateKind.MEAN:
        return Measure(of, What.UNITS, scale), Measure(of, What.VALUES, scale)
    if aggregate.kind is AggregateKind.RECENCY:
        return (Measure(of, What.LAST_AT),)
    if aggregate.kind is AggregateKind.COUNT:
        what = What.POSITIVES if is_label else What.VALUES
        return (Measure(of, What.SHOWN if of == IMPRESSIONS else what),)
    return ()


def windows_of(table: FeatureTable, aggregate: Aggregate) -> tuple[str, ...]:
    """The windows of an aggregate's columns, as the columns' names end."""
    windows = tuple(f"{days}d" for days in table.windows_days)
    if aggregate.kind is AggregateKind.RECENCY:
        return ("all",)
    return windows if aggregate.kind is AggregateKind.DISTINCT else (*windows, "all")


def all_time_columns(table: FeatureTable, labels: Mapping[str, Label]) -> dict[Measure, str]:
    """The columns that hold a table's integers of all time, on which the next day builds."""
    direct: dict[Measure, str] = {}
    others: dict[Measure, str] = {}
    for aggregate in table.aggregates:
        of = measures(aggregate, is_label=aggregate.of in labels)
        if len(of) == 1 and not of[0].scale:
            direct[of[0]] = f"{aggregate.name}_all"
        for measure in of:
            others[measure] = f"{table.name}_{measure.name}_all"
    return {**others, **direct}


def happened(of: str, labels: Mapping[str, Label]) -> Measure:
    """What is above 0 where an impression is one that an aggregate or a history is ``of``."""
    if of == IMPRESSIONS:
        return Measure(of, What.SHOWN)
    return Measure(of, What.POSITIVES if of in labels else What.VALUES)


def known_after(schema: Schema, measure: Measure) -> datetime.timedelta:
    """From an impression until this is known of it; what a request brings along is at once."""
    labels = labels_of(schema)
    if measure.of in labels:
        return labels[measure.of].known_after
    if measure.of == IMPRESSIONS or measure.of in {column.name for column in schema.context}:
        return datetime.timedelta(0)
    # Of a stored column nothing says when it is known: not before the labels in its row are.
    in_row = [label.known_after for label in labels.values() if not label.comes_later]
    return max(in_row, default=schema.label.known_after)


def delays(schema: Schema, table: FeatureTable) -> list[datetime.timedelta]:
    """From an impression until what a table counts of it is known, each once, in order."""
    labels = labels_of(schema)
    of = [*(one.of for one in table.aggregates), *(one.of for one in table.histories)]
    counted = [*all_time_columns(table, labels), *(happened(one, labels) for one in of)]
    return sorted({datetime.timedelta(0), *(known_after(schema, measure) for measure in counted)})
