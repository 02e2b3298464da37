"""Declared tables: columns of aggregates, made of ``features.schema.measures``, and histories.

``features.pipeline.tables.aggregate_rows`` computes them. Everything that is added up is an
integer, so that the order of addition can change no bit; a number is added in multiples of its
``scale``.
"""

import dataclasses
import datetime
from collections.abc import Iterator, Mapping, Sequence

from features.schema import histories as history_columns
from features.schema.columns import Column, DeclarationError, Dtype, Kind
from features.schema.labels import Label
from features.schema.measures import MOST_UNITS, all_time_columns, windows_of
from features.schema.tables import (
    IMPRESSIONS,
    Aggregate,
    AggregateKind,
    FeatureTable,
    History,
    Role,
    TableKind,
)

_OF_LABELS = {AggregateKind.RATE}
_OF_NUMBERS = {AggregateKind.SUM, AggregateKind.MEAN}
_NUMBERS = {Dtype.INT64, Dtype.FLOAT64}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sources:
    """What an aggregate or a history can be of."""

    labels: Mapping[str, Label]
    columns: Mapping[str, Column]
    """Columns of impressions: context and stored."""
    context: Mapping[str, Column]
    user: Column | None
    item: Column
    attributes: Mapping[str, Column] = dataclasses.field(default_factory=dict)
    """What is known of users and items."""
    of_items: Mapping[str, Column] = dataclasses.field(default_factory=dict)
    """What is known of items alone."""

    @property
    def kept(self) -> dict[str, Column]:
        """What a history can keep: ids, context and attributes with an embedding for each."""
        ids = [column for column in (self.user, self.item) if column]
        columns = (*ids, *self.context.values(), *self.attributes.values())
        return {c.name: c for c in columns if c.kind is Kind.SPARSE and not c.dtype.is_list}

    @property
    def counted(self) -> list[str]:
        """Of which different values can be counted: the ids and context, of integers or texts."""
        columns = [column for column in (self.user, self.item, *self.context.values()) if column]
        return sorted({c.name for c in columns if c.dtype in {Dtype.INT64, Dtype.STRING}})


def aggregate_table(
    *,
    name: str,
    by: tuple[str, ...],
    aggregates: tuple[Aggregate, ...] = (),
    histories: tuple[History, ...] = (),
    windows_days: tuple[int, ...],
    ttl: datetime.timedelta,
    delay: datetime.timedelta,
    sources: Sources,
) -> FeatureTable:
    """A daily table of declared aggregates and histories.

    Args:
        name: Of the table.
        by: One or two columns that a row is for.
        aggregates: Its values over windows.
        histories: Its lists of the last impressions.
        windows_days: Trailing windows; there are also values of all time.
        ttl: A row older than this is expired.
        delay: From the end of the day until a reader may count on its rows.
        sources: What an aggregate can be of.

    Raises:
        DeclarationError: An aggregate is of nothing, or of what it cannot be of; a history keeps
            what it cannot; or there is neither.
    """
    if not aggregates and not histories:
        raise DeclarationError(f"table {name}: no columns and no histories", table=name)
    alone = by[0] if len(by) == 1 else ""
    user = sources.user.name if sources.user else None
    role = {user: Role.USER, sources.item.name: Role.ITEM}.get(alone)
    table = FeatureTable(
        name=name,
        kind=TableKind.DAILY,
        role=role or Role.CANDIDATE,
        by=() if role else by,
        columns=(),
        aggregates=aggregates,
        histories=histories,
        windows_days=windows_days,
        ttl=ttl,
        delay=delay,
        doc=_doc(by, aggregates, histories),
    )
    for aggregate in aggregates:
        _check(table, aggregate, sources)
    for history in histories:
        history_columns.check(name, history, sources.labels, sources.kept)
    return dataclasses.replace(table, columns=tuple(_columns(table, sources)))


def _doc(by: Sequence[str], aggregates: Sequence[Aggregate], histories: Sequence[History]) -> str:
    key = " and ".join(by)
    if not histories:
        return f"Aggregates by {key}, over trailing days, as of the end of a day."
    what = "Aggregates over trailing days, and histories," if aggregates else "Histories"
    return f"{what} by {key}, as of the end of a day."


def _columns(table: FeatureTable, sources: Sources) -> Iterator[Column]:
    for aggregate in table.aggregates:
        for window in windows_of(table, aggregate):
            yield _column(aggregate, window, sources)
    for history in table.histories:
        yield from history_columns.columns_of(history, sources.kept)
    own = {f"{one.name}_{w}" for one in table.aggregates for w in windows_of(table, one)}
    for measure, name in all_time_columns(table, sources.labels).items():
        if name not in own:
            yield Column(
                name=name,
                dtype=Dtype.INT64,
                kind=Kind.STORED,
                doc=f"{measure.what.replace('_', ' ').capitalize()} of {measure.of} ever, on "
                "which the next day builds.",
            )


def _column(aggregate: Aggregate, window: str, sources: Sources) -> Column:
    span = "ever" if window == "all" else f"in the last {window}"
    of, name = aggregate.of, f"{aggregate.name}_{window}"
    label, source = sources.labels.get(of), sources.columns.get(of)
    unit = source.unit if source else ""
    match aggregate.kind:
        case AggregateKind.RATE:
            assert label is not None
            doc = (
                f"Share of {of} {span}, smoothed with {label.prior_weight:g} impressions at "
                f"{label.prior_rate:g}."
            )
            return Column(
                name=name,
                dtype=Dtype.FLOAT64,
                kind=Kind.RATE,
                minimum=0,
                maximum=1,
                unit="share",
                doc=doc,
            )
        case AggregateKind.MEAN:
            doc = f"Mean {of} {span}; empty without a value."
            kind, dtype = Kind.DENSE, Dtype.FLOAT64
            return Column(name=name, dtype=dtype, kind=kind, doc=doc, unit=unit, is_nullable=True)
        case AggregateKind.SUM:
            is_count = source is not None and source.minimum is not None and source.minimum >= 0
            return Column(
                name=name,
                dtype=Dtype.FLOAT64 if aggregate.scale else Dtype.INT64,
                kind=Kind.COUNT if is_count else Kind.DENSE,
                minimum=0 if is_count else None,
                unit=unit,
                doc=f"Sum of {of} {span}.",
            )
        case AggregateKind.RECENCY:
            return Column(
                name=name,
                dtype=Dtype.INT64,
                kind=Kind.AGE,
                minimum=0,
                is_nullable=True,
                unit="microseconds since 1970, UTC",
                doc=f"When the last of {of} was; enters the model as seconds before the request.",
            )
    what = of.capitalize() if of == IMPRESSIONS else f"Number of {of}"
    distinct = aggregate.distinct_of
    return Column(
        name=name,
        dtype=Dtype.INT64,
        kind=Kind.COUNT,
        minimum=0,
        unit=distinct or IMPRESSIONS,
        doc=f"Different {distinct} with {of} {span}." if distinct else f"{what} {span}.",
    )


def _check(table: FeatureTable, aggregate: Aggregate, sources: Sources) -> None:
    """DeclarationError where an aggregate is of nothing that it could be of."""
    _check_of(table, aggregate, sources)
    _check_scale(table, aggregate, sources)
    is_distinct = aggregate.kind is AggregateKind.DISTINCT
    if is_distinct != bool(aggregate.distinct_of):
        raise _error(
            table,
            aggregate,
            "distinct_of",
            f"kind {aggregate.kind} with distinct_of {aggregate.distinct_of!r}; the kind distinct "
            "needs one, others have none",
        )
    if is_distinct and aggregate.distinct_of not in sources.counted:
        raise _error(
            table,
            aggregate,
            "distinct_of",
            f"distinct_of {aggregate.distinct_of!r}; one of {sources.counted}",
        )
    if is_distinct and not table.windows_days:
        raise _error(
            table,
            aggregate,
            "kind",
            "kind distinct without windows_days; of all time there is no such column, for it would "
            "need every value ever seen",
        )


def _check_of(table: FeatureTable, aggregate: Aggregate, sources: Sources) -> None:
    numbers = {name for name, column in sources.columns.items() if column.dtype in _NUMBERS}
    if aggregate.kind in _OF_LABELS:
        known = set(sources.labels)
    elif aggregate.kind in _OF_NUMBERS:
        known = numbers
    else:
        known = {IMPRESSIONS, *sources.labels, *numbers}
    if aggregate.of not in known:
        raise _error(
            table,
            aggregate,
            "of",
            f"of {aggregate.of!r}; a {aggregate.kind} is of one of {sorted(known)}",
        )


def _check_scale(table: FeatureTable, aggregate: Aggregate, sources: Sources) -> None:
    source = sources.columns.get(aggregate.of)
    is_float = (
        aggregate.kind in _OF_NUMBERS and source is not None and source.dtype is Dtype.FLOAT64
    )
    if is_float != bool(aggregate.scale):
        raise _error(
            table,
            aggregate,
            "scale",
            f"scale {aggregate.scale:g}; a sum or a mean of a float64 column needs one, such as "
            "0.01, in multiples of which values are added; others have none",
        )
    if not is_float or source is None:
        return
    limits = [source.minimum, source.maximum]
    if any(one is None or abs(one) / aggregate.scale > MOST_UNITS for one in limits):
        raise _error(
            table,
            aggregate,
            "of",
            f"of {aggregate.of!r} with minimum {limits[0]} and maximum {limits[1]}; a sum needs "
            f"both, of at most {MOST_UNITS} times the scale, so that it cannot overflow",
        )


def _error(table: FeatureTable, aggregate: Aggregate, field: str, reason: str) -> DeclarationError:
    return DeclarationError(
        f"table {table.name}, column {aggregate.name}: {reason}",
        table=table.name,
        field=f"columns.{aggregate.name}.{field}",
    )
