"""What the columns of a declared table are made of: integers of impressions, windows and lists."""

import dataclasses
import datetime
import functools

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from features.pipeline.aggregates import MICROSECONDS_PER_SECOND, is_positive, newest_rows
from features.schema import (
    DAY,
    REQUEST_TIME,
    Aggregate,
    AggregateKind,
    FeatureTable,
    History,
    Label,
    Schema,
)
from features.schema.measures import (
    MOST_UNITS,
    Measure,
    What,
    all_time_columns,
    happened,
    labels_of,
    measures,
    windows_of,
)
from features.spark.session import feature_struct

SEEN = "_seen"
"""Events of a key on a day; a key has rows from its first one on."""
CARRIED = "_is_carried"
"""Whether a key has an earlier row."""


def change_of(aggregate: Aggregate, window: str) -> str:
    """Name of the change of a number of different values, and then of that number."""
    return f"_distinct_{aggregate.name}_{window}"


def list_of(history: History) -> str:
    """Name of a history's list of structs while rows are computed."""
    return f"_history_{history.name}"


def day_after(delay: datetime.timedelta) -> SparkColumn:
    """The day on which something is known that is known so long after an impression."""
    micros = round(delay.total_seconds() * MICROSECONDS_PER_SECOND)
    at = F.timestamp_micros(F.unix_micros(REQUEST_TIME.name) + micros)
    return F.to_date(at).alias(DAY)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a table's columns are computed from."""

    schema: Schema
    table: FeatureTable

    @property
    def key(self) -> str:
        """Name of the key column."""
        return self.schema.key_of(self.table).name

    @functools.cached_property
    def labels(self) -> dict[str, Label]:
        """The schema's labels by the names that an aggregate is ``of``."""
        return labels_of(self.schema)

    @functools.cached_property
    def all_time(self) -> dict[Measure, str]:
        """The columns that hold its integers of all time."""
        return all_time_columns(self.table, self.labels)

    @property
    def measures(self) -> list[Measure]:
        """Its integers, each once."""
        return list(self.all_time)

    @property
    def distinct(self) -> list[Aggregate]:
        """Those that count different values."""
        return [one for one in self.table.aggregates if one.kind is AggregateKind.DISTINCT]

    @property
    def added(self) -> list[str]:
        """Names of what is added up by day."""
        windows = [f"{days}d" for days in self.table.windows_days]
        changes = [change_of(one, window) for one in self.distinct for window in windows]
        return [SEEN, *(m.column for m in self.measures if m.what is not What.LAST_AT), *changes]

    @property
    def latest(self) -> list[str]:
        """Names of that of which the latest counts."""
        return [m.column for m in self.measures if m.what is What.LAST_AT]

    @property
    def lists(self) -> list[str]:
        """Names of the lists, of which a day without one has the newest before."""
        return [list_of(one) for one in self.table.histories]

    def value(self, measure: Measure) -> SparkColumn:
        """What an impression adds, as an integer; null or 0 where nothing."""
        one = F.lit(1).cast("bigint")
        if measure.what in {What.SHOWN, What.LABELLED}:
            return one
        if measure.what is What.POSITIVES:
            return is_positive(self.labels[measure.of])
        if measure.what is What.LAST_AT:
            of = happened(measure.of, self.labels)
            return F.when(self.value(of) > 0, F.unix_micros(REQUEST_TIME.name))
        column = F.col(measure.of)
        units = F.round(column / F.lit(measure.scale)) if measure.scale else column
        # NaN is larger than any number to Spark, and so is what could not be added up.
        is_finite = ~F.isnan(column.cast("double"))
        is_there = F.abs(units) <= MOST_UNITS if measure.scale else column.isNotNull() & is_finite
        return F.when(is_there, one if measure.what is What.VALUES else units.cast("bigint"))

    def carried(self, carry: DataFrame) -> DataFrame:
        """Of each key the integers of all time of its newest earlier row."""
        newest = newest_rows(carry.select(*feature_struct(self.schema, self.table).names), self.key)
        of_all_time = self.all_time.items()
        names = [F.col(name).alias(f"{measure.column}_carried") for measure, name in of_all_time]
        return newest.select(self.key, F.lit(True).alias(CARRIED), *names)  # a Spark literal

    def windows(self, carry_day: datetime.date | None) -> dict[str, SparkColumn]:
        """Sums over each trailing window, and over all days after the carried ones."""
        in_days = Window.partitionBy(self.key).orderBy(F.unix_date(DAY))
        ever = in_days.rangeBetween(Window.unboundedPreceding, Window.currentRow)
        is_after = F.col(DAY) > F.lit(carry_day) if carry_day else F.lit(True)  # Spark's literal

        def since_carry(name: str) -> SparkColumn:
            return F.when(is_after, F.col(name))

        added = [m.column for m in self.measures if m.what is not What.LAST_AT]
        columns = {f"{n}_all": F.sum(since_carry(n)).over(ever) for n in (SEEN, *added)}
        columns |= {f"{n}_all": F.max(since_carry(n)).over(ever) for n in self.latest}
        columns |= {n: F.last(n, ignorenulls=True).over(ever) for n in self.lists}
        for days in self.table.windows_days:
            trailing = in_days.rangeBetween(1 - days, 0)
            columns |= {f"{name}_{days}d": F.sum(name).over(trailing) for name in added}
            for one in self.distinct:
                name = change_of(one, f"{days}d")
                columns[name] = F.sum(name).over(ever)
        return columns

    def with_carried(self) -> dict[str, SparkColumn]:
        """The integers of all time: the carried ones and those since."""
        columns = {}
        for measure in self.measures:
            since, before = F.col(f"{measure.column}_all"), F.col(f"{measure.column}_carried")
            columns[f"{measure.column}_all"] = (
                F.greatest(since, before)
                if measure.what is What.LAST_AT
                else F.coalesce(since, F.lit(0)) + F.coalesce(before, F.lit(0))
            )
        return columns

    def columns(self) -> list[SparkColumn]:
        """The table's columns, in its order."""
        made: dict[str, SparkColumn] = {}
        for aggregate in self.table.aggregates:
            for window in windows_of(self.table, aggregate):
                made[f"{aggregate.name}_{window}"] = self._derived(aggregate, window)
        for history in self.table.histories:
            for name in history.columns:
                values = F.col(f"{list_of(history)}.{name}")
                made[f"{history.name}_{name}"] = F.coalesce(values, F.array())
        for measure, name in self.all_time.items():
            made.setdefault(name, F.col(f"{measure.column}_all"))
        return [made[column.name].alias(column.name) for column in self.table.columns]

    def _derived(self, aggregate: Aggregate, window: str) -> SparkColumn:
        """A column from the integers of a window."""
        if aggregate.kind is AggregateKind.DISTINCT:
            return F.col(change_of(aggregate, window))
        of = measures(aggregate, is_label=aggregate.of in self.labels)
        first, *rest = (F.col(f"{measure.column}_{window}") for measure in of)
        if aggregate.kind is AggregateKind.RATE:
            label = self.labels[aggregate.of]
            prior = label.prior_rate * label.prior_weight
            of_all = rest[0].cast("double") + label.prior_weight
            return (first.cast("double") + prior) / of_all
        value = first.cast("double") * F.lit(aggregate.scale) if aggregate.scale else first
        if aggregate.kind is AggregateKind.MEAN:
            return F.when(rest[0] > 0, value.cast("double") / rest[0].cast("double"))
        return value
