"""The one schema: every column once, and everything else is a projection of it.

Spark types, Feast fields, the Great Expectations suite, the embedding tables, the request check and
the feature reference are derived from these values, each next to its consumer. Standard library
only. Nothing here knows how a value is computed, stored or learnt from.

Three times are kept apart. A feature row has the time at which its value became true
(``event_timestamp``) and the time from which a reader may count on it (``created``: the event plus
the table's declared delay, never a clock). The day for which a job runs is its argument.
"""

from features.schema.columns import (
    CREATED,
    DAY,
    DENSE_KINDS,
    EVENT_TIMESTAMP,
    EXAMPLE_ID,
    EXAMPLE_KEY,
    KNOWN_SHARE,
    LABEL,
    REQUEST_TIME,
    SOURCE,
    SOURCE_FILE,
    SOURCE_LINE,
    TIME_CONTEXT,
    Column,
    DeclarationError,
    Dtype,
    Kind,
    Severity,
)
from features.schema.labels import Correction, Immature, Label
from features.schema.schema import DerivedId, Limits, Schema
from features.schema.tables import (
    Affinity,
    Aggregate,
    AggregateKind,
    Bag,
    FeatureTable,
    History,
    Role,
    TableKind,
)

__all__ = [
    "CREATED",
    "DAY",
    "DENSE_KINDS",
    "EVENT_TIMESTAMP",
    "EXAMPLE_ID",
    "EXAMPLE_KEY",
    "KNOWN_SHARE",
    "LABEL",
    "REQUEST_TIME",
    "SOURCE",
    "SOURCE_FILE",
    "SOURCE_LINE",
    "TIME_CONTEXT",
    "Affinity",
    "Aggregate",
    "AggregateKind",
    "Bag",
    "Column",
    "Correction",
    "DeclarationError",
    "DerivedId",
    "Dtype",
    "FeatureTable",
    "History",
    "Immature",
    "Kind",
    "Label",
    "Limits",
    "Role",
    "Schema",
    "Severity",
    "TableKind",
]
