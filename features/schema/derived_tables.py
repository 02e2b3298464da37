"""The feature tables, as schema values: names and meanings.

``features.pipeline.aggregates`` computes those of impressions. Standard library only, as the
schema.
"""

import datetime

from features.schema.columns import Column, Dtype, Kind
from features.schema.schema import Label
from features.schema.tables import Bag, FeatureTable, Role, TableKind


def user_state(
    *,
    item: Column,
    label: Label,
    history_length: int,
    ttl: datetime.timedelta,
    delay: datetime.timedelta,
) -> FeatureTable:
    """The running state of a user: counts, rates, recency and the last items with their labels."""
    history = (
        Column(
            name="user_history_item_ids",
            dtype=Dtype.list_of(item.dtype),
            kind=Kind.STORED,
            max_length=history_length,
            doc=f"The last {history_length} items whose label is known, oldest first.",
        ),
        Column(
            name="user_history_labels",
            dtype=Dtype.INT64_LIST,
            kind=Kind.STORED,
            max_length=history_length,
            minimum=0,
            maximum=1,
            doc="The labels of these items, in the same order.",
        ),
    )
    return FeatureTable(
        name="user_state",
        kind=TableKind.STATE,
        role=Role.USER,
        columns=(
            *_counts("user", "all", label),
            *(_recent_rate(length, label) for length in recent_lengths(history_length)),
            _last_event_at("user"),
            *history,
        ),
        ttl=ttl,
        delay=delay,
        bags=tuple(
            Bag(
                column=Column(
                    name=f"user_{word}_items",
                    dtype=Dtype.list_of(item.dtype),
                    kind=Kind.SPARSE,
                    max_length=history_length,
                    shares_table_with=item.name,
                    doc=f"Those of the last {history_length} items that the user rated {word}.",
                ),
                items=history[0].name,
                labels=history[1].name,
                label=value,
            )
            for value, word in ((1, "positive"), (0, "negative"))
        ),
        doc="What a user has done, after each moment at which something happened.",
    )


def recent_lengths(history_length: int) -> tuple[int, ...]:
    """Over how many of a user's last labelled items the recent rates are taken."""
    return (max(1, history_length // 4), history_length)


def recent_rate_name(length: int) -> str:
    """Column of the positive rate among a user's last ``length`` labelled items."""
    return f"user_positive_rate_last_{length}"


def _recent_rate(length: int, label: Label) -> Column:
    return Column(
        name=recent_rate_name(length),
        dtype=Dtype.FLOAT64,
        kind=Kind.RATE,
        minimum=0,
        maximum=1,
        unit="share",
        doc=f"Positives among the last {length} labelled items, smoothed with "
        f"{label.prior_weight:g} impressions at {label.prior_rate:g}.",
    )


def item_daily(
    *,
    label: Label,
    windows_days: tuple[int, ...],
    ttl: datetime.timedelta,
    delay: datetime.timedelta,
) -> FeatureTable:
    """The aggregates of an item over trailing windows and all time, as of the end of each day."""
    windows = (*(f"{days}d" for days in windows_days), "all")
    return FeatureTable(
        name="item_daily",
        kind=TableKind.DAILY,
        role=Role.ITEM,
        columns=tuple(column for window in windows for column in _counts("item", window, label)),
        ttl=ttl,
        delay=delay,
        windows_days=windows_days,
        doc="What happened to an item, over trailing days, as of the end of a day.",
    )


def attributes(role: Role, *, doc: str, columns: tuple[Column, ...]) -> FeatureTable:
    """What is known of an entity from the start; it holds since the schema's epoch."""
    return FeatureTable(
        name=f"{role}_attributes",
        kind=TableKind.ATTRIBUTES,
        role=role,
        ttl=None,
        delay=datetime.timedelta(0),
        doc=doc,
        columns=columns,
    )


def _counts(owner: str, window: str, label: Label) -> tuple[Column, ...]:
    """Integer sums and the rates derived from them; sums cannot depend on the order of addition."""
    span = "ever" if window == "all" else f"in the last {window}"
    impressions = f"{owner}_impressions_{window}"
    counts = (
        Column(
            name=impressions,
            dtype=Dtype.INT64,
            kind=Kind.COUNT,
            minimum=0,
            unit="impressions",
            doc=f"Impressions of the {owner} {span}.",
        ),
        Column(
            name=f"{owner}_labelled_{window}",
            dtype=Dtype.INT64,
            kind=Kind.STORED,
            minimum=0,
            unit="impressions",
            doc=f"Those of them whose label is known, {span}.",
        ),
        Column(
            name=f"{owner}_positives_{window}",
            dtype=Dtype.INT64,
            kind=Kind.COUNT,
            minimum=0,
            unit="impressions",
            doc=f"Those of them with a positive label, {span}.",
        ),
        Column(
            name=f"{owner}_positive_rate_{window}",
            dtype=Dtype.FLOAT64,
            kind=Kind.RATE,
            minimum=0,
            maximum=1,
            unit="share",
            doc=f"Positives over labelled {span}, smoothed with {label.prior_weight:g} "
            f"impressions at {label.prior_rate:g}.",
        ),
    )
    return counts + (_ratings(owner, window, span) if label.has_rating else ())


def _ratings(owner: str, window: str, span: str) -> tuple[Column, ...]:
    return (
        Column(
            name=f"{owner}_rating_sum_{window}",
            dtype=Dtype.INT64,
            kind=Kind.STORED,
            minimum=0,
            unit="stars",
            doc=f"Sum of the ratings {span}.",
        ),
        Column(
            name=f"{owner}_rating_mean_{window}",
            dtype=Dtype.FLOAT64,
            kind=Kind.DENSE,
            is_nullable=True,
            minimum=0,
            unit="stars",
            doc=f"Mean rating {span}; empty without one.",
        ),
    )


def _last_event_at(owner: str) -> Column:
    return Column(
        name=f"{owner}_last_event_at",
        dtype=Dtype.INT64,
        kind=Kind.AGE,
        minimum=0,
        unit="microseconds since 1970, UTC",
        doc=f"When the {owner} last did anything; enters the model as seconds before the request.",
    )
