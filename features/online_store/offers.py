"""What Feast hands to an online store, as the rows that a store compares."""

import datetime
from collections.abc import Mapping
from typing import Any

from features.online_store.visibility import Row

Offered = tuple[Any, Mapping[str, Any], datetime.datetime, datetime.datetime | None]
"""Entity key, protobuf values by column, event timestamp, and from when it counts."""
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)


def row_of(
    values: Mapping[str, Any], moment: datetime.datetime, created: datetime.datetime | None
) -> Row:
    """The row that was offered; one that says nothing else counts from its event on."""
    stored = {name: value.SerializeToString() for name, value in values.items()}
    return Row(_micros(moment), _micros(created or moment), stored)


def _micros(moment: datetime.datetime) -> int:
    """Feast hands over naive times in UTC, or aware ones."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
    return (aware - _EPOCH) // _MICROSECOND
