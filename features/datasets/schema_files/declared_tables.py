"""A table of declared aggregates and histories as its entry in a schema file says."""

from features.datasets.schema_files.aggregate_models import (
    AggregateEntry,
    AggregatesEntry,
    HistoryEntry,
)
from features.schema import Aggregate, FeatureTable, History
from features.schema.aggregate_tables import Sources, aggregate_table


def declared_table(entry: AggregatesEntry, sources: Sources) -> FeatureTable:
    """The table; DeclarationError where it declares what it cannot compute."""
    return aggregate_table(
        name=entry.name,
        by=tuple(entry.by),
        aggregates=tuple(_aggregate(name, one) for name, one in entry.columns.items()),
        histories=tuple(_history(name, one) for name, one in entry.histories.items()),
        windows_days=tuple(entry.windows_days),
        ttl=entry.ttl,
        delay=entry.delay,
        sources=sources,
    )


def _aggregate(name: str, entry: AggregateEntry) -> Aggregate:
    return Aggregate(
        name=name,
        of=entry.of,
        kind=entry.kind,
        scale=entry.scale or 0,
        distinct_of=entry.distinct_of or "",
    )


def _history(name: str, entry: HistoryEntry) -> History:
    return History(name=name, of=entry.of, length=entry.length, columns=tuple(entry.columns))
