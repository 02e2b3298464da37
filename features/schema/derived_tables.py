"""The feature tables, as schema values: names and meanings.

``features.pipeline.aggregates`` computes those of impressions. Standard library only, as the
schema.
"""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from features.schema.columns import Column, DeclarationError, Dtype, Kind
from features.schema.labels import Label
from features.schema.tables import Affinity, Bag, FeatureTable, Role, TableKind


def user_state(
    *,
    item: Column,
    label: Label,
    history_length: int,
    ttl: datetime.timedelta,
    delay: datetime.timedelta,
    affinities: Sequence[str] = (),
    attributes: Mapping[str, Column] = MappingProxyType({}),
) -> FeatureTable:
    """The running state of a user: counts, rates, recency and the last items with their labels.

    Args:
        item: The item's id.
        label: The target.
        history_length: How many of the last labelled items are kept.
        ttl: A row older than this is expired.
        delay: From the impression until a reader may count on the row.
        affinities: Attributes of items by which the last items are compared with a candidate.
        attributes: By name, the attributes of items.

    Raises:
        DeclarationError: The item is no id with an embedding table, which the last items look up;
            or an affinity is on what is no sparse attribute of items.
    """
    _check_item(item)
    _check_affinities(affinities, attributes)
    history = _history(item, history_length)
    last_event_at = Column(
        name="user_last_event_at",
        dtype=Dtype.INT64,
        kind=Kind.AGE,
        minimum=0,
        unit="microseconds since 1970, UTC",
        doc="When the user last did anything; enters the model as seconds before the request.",
    )
    return FeatureTable(
        name="user_state",
        kind=TableKind.STATE,
        role=Role.USER,
        columns=(
            *_counts("user", "all", label),
            *(
                _rate(recent_rate_name(n), f"Positives among the last {n} labelled items", label)
                for n in recent_lengths(history_length)
            ),
            last_event_at,
            *history,
            *(one for name in affinities for one in _kept(attributes[name], history_length)),
        ),
        ttl=ttl,
        delay=delay,
        bags=_bags_of_rated_items(item, *history),
        affinities=tuple(_affinity(name, history[1], label) for name in affinities),
        doc="What a user has done, after each moment at which something happened.",
    )


def _history(item: Column, length: int) -> tuple[Column, Column]:
    """The last items of a user, and their labels."""
    return (
        Column(
            name="user_history_item_ids",
            dtype=Dtype.list_of(item.dtype),
            kind=Kind.STORED,
            max_length=length,
            doc=f"The last {length} items whose label is known, oldest first.",
        ),
        Column(
            name="user_history_labels",
            dtype=Dtype.INT64_LIST,
            kind=Kind.STORED,
            max_length=length,
            minimum=0,
            maximum=1,
            doc="The labels of these items, in the same order.",
        ),
    )


def _check_item(item: Column) -> None:
    if item.kind is not Kind.SPARSE:
        raise DeclarationError(
            f"column {item.name}: kind {item.kind}; with a table user_state the item must be "
            "sparse, for the last items of a user look up its embedding table",
            column=item.name,
            field="kind",
        )
    if item.dtype not in {Dtype.INT64, Dtype.STRING}:
        raise DeclarationError(
            f"column {item.name}: type {item.dtype}; with a table user_state the item must be of "
            f"type {Dtype.INT64} or {Dtype.STRING}, of which the last items of a user are a list",
            column=item.name,
            field="dtype",
        )


def _check_affinities(names: Sequence[str], attributes: Mapping[str, Column]) -> None:
    sparse = sorted(name for name, one in attributes.items() if one.kind is Kind.SPARSE)
    for place, name in enumerate(names):
        is_repeated = name in names[:place]
        if is_repeated or name not in sparse:
            raise DeclarationError(
                f"table user_state: affinities {name!r}{' twice' if is_repeated else ''}; each one "
                f"of {sparse}, which are the sparse columns of item_attributes",
                table="user_state",
                field=f"affinities.{place}",
            )


def _kept(attribute: Column, history_length: int) -> tuple[Column, Column]:
    """The values of an attribute that the last items had: all of them, and how many each has."""
    most, name = attribute.max_length or 1, f"user_history_{attribute.name}"
    values = Column(
        name=name,
        dtype=Dtype.list_of(attribute.dtype.element),
        kind=Kind.STORED,
        max_length=history_length * most,
        doc=f"The {attribute.name} of these items when each was shown, item by item.",
    )
    counts = Column(
        name=f"{name}_counts",
        dtype=Dtype.INT64_LIST,
        kind=Kind.STORED,
        max_length=history_length,
        minimum=0,
        maximum=most,
        doc=f"How many {attribute.name} each of these items had.",
    )
    return values, counts


def _affinity(on: str, labels: Column, label: Label) -> Affinity:
    positives = f"Positives among those of the last {labels.max_length} labelled items that share "
    column = _rate(f"user_affinity_{on}", f"{positives}one of {on} with the candidate", label)
    return Affinity(
        column=column,
        on=on,
        values=f"user_history_{on}",
        counts=f"user_history_{on}_counts",
        labels=labels.name,
    )


def end_of_day_table(state: FeatureTable) -> FeatureTable:
    """The table of the newest state of each entity at the end of a day, beside a table of state."""
    return dataclasses.replace(state, name=f"{state.name}_end_of_day")


def _bags_of_rated_items(item: Column, items: Column, labels: Column) -> tuple[Bag, ...]:
    """The items of a history that were rated positive, and those that were rated negative."""
    return tuple(
        Bag(
            column=Column(
                name=f"user_{word}_items",
                dtype=Dtype.list_of(item.dtype),
                kind=Kind.SPARSE,
                max_length=items.max_length,
                shares_table_with=item.name,
                doc=f"Those of the last {items.max_length} items that the user rated {word}.",
            ),
            items=items.name,
            labels=labels.name,
            label=value,
        )
        for value, word in ((1, "positive"), (0, "negative"))
    )


def recent_lengths(history_length: int) -> tuple[int, ...]:
    """Over how many of a user's last labelled items the recent rates are taken."""
    return (max(1, history_length // 4), history_length)


def recent_rate_name(length: int) -> str:
    """Column of the positive rate among a user's last ``length`` labelled items."""
    return f"user_positive_rate_last_{length}"


def _rate(name: str, positives: str, label: Label) -> Column:
    """A share of positives, smoothed towards the label's prior."""
    return Column(
        name=name,
        dtype=Dtype.FLOAT64,
        kind=Kind.RATE,
        minimum=0,
        maximum=1,
        unit="share",
        doc=f"{positives}, smoothed with {label.prior_weight:g} impressions at "
        f"{label.prior_rate:g}.",
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
    """What is known of an entity; it holds since the schema's epoch, a change from its day on."""
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

    def count(what: str, kind: Kind, doc: str, unit: str = "impressions") -> Column:
        name = f"{owner}_{what}_{window}"
        return Column(name=name, dtype=Dtype.INT64, kind=kind, minimum=0, unit=unit, doc=doc)

    counts = (
        count("impressions", Kind.COUNT, f"Impressions of the {owner} {span}."),
        count("labelled", Kind.STORED, f"Those of them whose label is known, {span}."),
        count("positives", Kind.COUNT, f"Those of them with a positive label, {span}."),
        _rate(f"{owner}_positive_rate_{window}", f"Positives over labelled {span}", label),
    )
    if not label.has_rating:
        return counts
    mean = Column(
        name=f"{owner}_rating_mean_{window}",
        dtype=Dtype.FLOAT64,
        kind=Kind.DENSE,
        is_nullable=True,
        minimum=0,
        unit="stars",
        doc=f"Mean rating {span}; empty without one.",
    )
    return (*counts, count("rating_sum", Kind.STORED, f"Sum of the ratings {span}.", "stars"), mean)
