"""Columns: what a value is, which values are allowed, and what the model makes of it."""

import dataclasses
import enum
import math

EVENT_TIMESTAMP = "event_timestamp"
"""When a feature row's value became true."""
CREATED = "created"
"""From when a reader may count on a feature row."""
EXAMPLE_ID = "example_id"
"""Integer that the log gives to one impression, or that is derived from it; unique in the data
set."""
EXAMPLE_KEY = "example_key"
"""Text from which an ``example_id`` is derived. Raw impressions and those in quarantine have it,
where ids are derived: it says of which keys an id is, and tells rows with the same keys from keys
with the same id."""
LABEL = "label"
"""1 for a positive impression, 0 for a negative one."""
KNOWN_SHARE = "_known_share"
"""Of an example whose label is not final: the share of events that are known at its age."""
DAY = "day"
"""Partition column of every lake table."""
SOURCE = SOURCE_FILE, SOURCE_LINE = "source_file", "source_line"
"""Where an impression landed: its file below the landing folder, and its line there, from 1 on; of
Parquet, its row. Raw impressions and those in quarantine have them. Content hashes leave them out:
they say what rows are, not where they come from."""


class DeclarationError(ValueError):
    """A declaration that no consumer could honour; says which one, for who reads it from a file."""

    def __init__(self, reason: str, *, column: str = "", table: str = "", field: str = "") -> None:
        """Args: the sentence for people; the column or table that is wrong, and its field."""
        super().__init__(reason)
        self.column, self.table, self.field = column, table, field


class Dtype(enum.StrEnum):
    """Physical type of a column."""

    INT64 = "int64"
    FLOAT64 = "float64"
    STRING = "string"
    TIMESTAMP = "timestamp"
    INT64_LIST = "list<int64>"
    STRING_LIST = "list<string>"
    FLOAT64_LIST = "list<float64>"
    """As many numbers in each row as ``max_length``: an embedding, a dense input for each."""

    @property
    def is_list(self) -> bool:
        """Whether one row holds many values."""
        return self.element is not self

    @property
    def element(self) -> "Dtype":
        """Type of one value of the column."""
        return _ELEMENTS.get(self, self)

    @staticmethod
    def list_of(element: "Dtype") -> "Dtype":
        """The list type whose elements are ``element``."""
        return Dtype(f"list<{element.value}>")


_ELEMENTS = {
    Dtype.INT64_LIST: Dtype.INT64,
    Dtype.STRING_LIST: Dtype.STRING,
    Dtype.FLOAT64_LIST: Dtype.FLOAT64,
}


class Kind(enum.StrEnum):
    """What the model makes of a column."""

    SPARSE = "sparse"
    """An id, or a bag of ids, looked up in an embedding table."""
    DENSE = "dense"
    """A number that enters the bottom MLP."""
    RATE = "rate"
    """A share strictly between 0 and 1: dense, as its log odds inside the model."""
    COUNT = "count"
    """A non-negative number with a long tail: dense, after log(1 + x) inside the model."""
    AGE = "age"
    """Epoch microseconds of a past event: dense, as log(1 + seconds until the request). Of a list
    there is an input for each place, missing where a row has fewer."""
    STORED = "stored"
    """Kept in the tables, not an input of the model."""


DENSE_KINDS = (Kind.DENSE, Kind.RATE, Kind.COUNT, Kind.AGE)


class Severity(enum.StrEnum):
    """What a broken rule does."""

    CRITICAL = "critical"
    """The day stops."""
    WARNING = "warning"
    """The row goes to quarantine, with the rule and the reason."""
    INFO = "info"
    """It is reported."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """One column: its meaning, its limits and what the model makes of it.

    Sparse columns name exactly one of ``vocabulary``, ``num_ids`` (ids are the integers below it)
    and ``hash_size`` (any id, hashed). Row 0 of every embedding table stands for "missing or
    unknown", so a table has one row more than the ids that it distinguishes.
    """

    name: str
    dtype: Dtype
    kind: Kind
    doc: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    vocabulary: tuple[str, ...] = ()
    num_ids: int = 0
    hash_size: int = 0
    is_nullable: bool = False
    max_length: int = 0
    """Most values in one row of a list column, of an embedding exactly so many; 0: no list."""
    shares_table_with: str = ""
    """Sparse column whose embedding table this one looks up, for example a history of item ids."""
    severity: Severity = Severity.WARNING
    """What a value outside the limits does to its row."""
    neutral: float | str | None = None
    """Of context: what a served request has, whatever it brings; training sees the true value."""

    def __post_init__(self) -> None:
        """Raise DeclarationError for what no consumer could honour."""
        sizes = [bool(self.vocabulary), self.num_ids > 0, self.hash_size > 0]
        own_table = self.kind is Kind.SPARSE and not self.shares_table_with
        if own_table and sum(sizes) != 1:
            raise DeclarationError(
                f"column {self.name}: {sum(sizes)} of vocabulary, num_ids, hash_size are set; "
                "a sparse column needs exactly one",
                column=self.name,
            )
        if self.dtype.is_list != (self.max_length > 0):
            raise DeclarationError(
                f"column {self.name}: max_length {self.max_length} with type {self.dtype}; "
                "list columns need a positive max_length, others none",
                column=self.name,
                field="max_length",
            )
        if not self.doc:
            raise DeclarationError(
                f"column {self.name}: doc is empty; every column is described",
                column=self.name,
                field="doc",
            )
        _check_type(self)
        _check_limits(self)
        _check_neutral(self)

    @property
    def num_rows(self) -> int:
        """Rows of the column's own embedding table, with row 0 for missing or unknown."""
        return 1 + (len(self.vocabulary) or self.num_ids or self.hash_size)

    @property
    def dense_names(self) -> tuple[str, ...]:
        """Of a dense input its name, of a list one for each place in it."""
        if not self.dtype.is_list:
            return (self.name,)
        return tuple(f"{self.name}_{place}" for place in range(self.max_length))


def _check_type(column: Column) -> None:
    """DeclarationError where the encoder has no input of the type, or no value is allowed."""
    types = _TYPES_OF.get(column.kind, tuple(Dtype))
    if column.kind is Kind.SPARSE and column.vocabulary:
        types = (Dtype.STRING, Dtype.STRING_LIST)
    elif column.kind is Kind.SPARSE and column.num_ids:
        types = (Dtype.INT64, Dtype.INT64_LIST)
    if column.dtype not in types:
        raise DeclarationError(
            f"column {column.name}: {column.kind} of type {column.dtype}; one of "
            f"{[str(dtype) for dtype in types]}",
            column=column.name,
            field="dtype",
        )


def _check_limits(column: Column) -> None:
    """DeclarationError where no value is allowed, or where a limit or a size is of another type."""
    low, high = column.minimum, column.maximum
    limits = {
        "minimum": (low is not None, _NUMBERS),
        "maximum": (high is not None, _NUMBERS),
        "vocabulary": (bool(column.vocabulary), (Dtype.STRING,)),
    }
    for field, (is_set, types) in limits.items():
        if is_set and column.dtype.element not in types:
            raise DeclarationError(
                f"column {column.name}: {field} with type {column.dtype}; only values of type "
                f"{' or '.join(types)} have one",
                column=column.name,
                field=field,
            )
    for field, size in (("num_ids", column.num_ids), ("hash_size", column.hash_size)):
        if size and column.kind is not Kind.SPARSE:
            raise DeclarationError(
                f"column {column.name}: {field} {size} with kind {column.kind}; only a sparse "
                "column has an embedding table",
                column=column.name,
                field=field,
            )
    words = column.vocabulary
    if repeated := sorted({word for word in words if words.count(word) > 1}):
        raise DeclarationError(
            f"column {column.name}: vocabulary has {repeated} twice",
            column=column.name,
            field="vocabulary",
        )
    if low is not None and high is not None and low > high:
        raise DeclarationError(
            f"column {column.name}: minimum {low:g} above maximum {high:g}; no value is allowed",
            column=column.name,
            field="minimum",
        )


def _check_neutral(column: Column) -> None:
    """DeclarationError where the neutral value is none that the column could have."""
    value = column.neutral
    if value is None:
        return
    low = -math.inf if column.minimum is None else column.minimum
    high = math.inf if column.maximum is None else column.maximum
    if column.num_ids:
        low, high = max(low, 0), min(high, column.num_ids - 1)
    is_whole = column.dtype is Dtype.INT64
    if isinstance(value, str):
        is_one = column.dtype is Dtype.STRING and value in (column.vocabulary or (value,))
    else:
        is_one = column.dtype in _NUMBERS and low <= value <= high
        is_one = is_one and (not is_whole or float(value).is_integer())
    if not is_one:
        raise DeclarationError(
            f"column {column.name}: neutral {value!r}; a value of type {column.dtype} within the "
            "column's limits",
            column=column.name,
            field="neutral",
        )


_NUMBERS = (Dtype.INT64, Dtype.FLOAT64)
_TYPES_OF = {
    Kind.SPARSE: (Dtype.INT64, Dtype.STRING, Dtype.INT64_LIST, Dtype.STRING_LIST),
    **dict.fromkeys((Kind.RATE, Kind.COUNT), _NUMBERS),
    Kind.DENSE: (*_NUMBERS, Dtype.FLOAT64_LIST),
    Kind.AGE: (Dtype.INT64, Dtype.INT64_LIST),
}

REQUEST_TIME = Column(
    name="timestamp",
    dtype=Dtype.TIMESTAMP,
    kind=Kind.STORED,
    unit="UTC, microseconds",
    doc="When the impression happened; in a request, the moment for which to rank.",
    severity=Severity.CRITICAL,
)

TIME_CONTEXT = (
    Column(
        name="hour_of_day",
        dtype=Dtype.INT64,
        kind=Kind.SPARSE,
        num_ids=24,
        unit="hours, UTC",
        doc="Hour of the request.",
    ),
    Column(
        name="day_of_week",
        dtype=Dtype.INT64,
        kind=Kind.SPARSE,
        num_ids=7,
        unit="days, Monday is 0",
        doc="Day of the week of the request.",
    ),
)
"""Inputs computed from the request time by the shared encoder."""
