"""Statistics of the columns of a sample: what their values can be read as, and how many differ."""

import dataclasses
from typing import NamedTuple

from features.draft.log.sample import Sample, quoted
from features.schema import Dtype

MOST_FREQUENT = 200
_WHOLE = r"\s*[+-]?[0-9]{1,18}(\.0*)?\s*"
_NUMBER = r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*"
_OFFSET = r".*[0-9](Z|[+-][0-9]{2}:?[0-9]{2})\s*"
_UUID = r"[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"}
_READABLE_SHARE = 0.99
"""Of a column's values that must be numbers where it is to be one of numbers."""


@dataclasses.dataclass(frozen=True)
class Profile:
    """A column of a sample."""

    landed: str
    dtype: Dtype | None
    """None: of a type that no schema file has."""
    type: str
    """DuckDB's type."""
    rows: int
    missing: int
    distinct: int
    """Of its values, or of the elements of its lists."""
    unreadable: int
    """Values that are there, and of another type than most."""
    low: float | None
    high: float | None
    frequent: dict[str, int]
    """The most frequent values, with their rows."""
    is_moment: bool
    has_offset: bool
    is_uuid: bool
    longest: int
    """Most values in one list."""
    mean_repeats: float
    """Rows of a value."""

    @property
    def values(self) -> int:
        """Rows with a value."""
        return self.rows - self.missing

    @property
    def is_unique(self) -> bool:
        """Whether no value is there twice, and none is missing."""
        return self.missing == 0 and self.distinct == self.rows

    @property
    def is_small_text(self) -> bool:
        """Whether a text has so few values that each can be named."""
        all_named = len(self.frequent) == self.distinct
        return all_named and self.distinct <= 60 and self.distinct <= max(2, self.values // 5)

    @property
    def is_binary(self) -> bool:
        """Whether it has the integers 0 and 1, and nothing else."""
        return self.dtype is Dtype.INT64 and (self.low, self.high, self.distinct) == (0, 1, 2)


class _Counts(NamedTuple):
    """Values of a column, by what each can be read as."""

    values: int
    distinct: int
    whole: int
    numbers: int
    moments: int
    offsets: int
    uuids: int


def profiles(sample: Sample) -> dict[str, Profile]:
    """The profile of each column, by its name in the files."""
    return {name: profile(sample, name, kind) for name, kind in sample.types.items()}


def profile(sample: Sample, name: str, kind: str) -> Profile:
    """The profile of one column."""
    is_list, element = kind.endswith("[]"), kind.removesuffix("[]")
    value = f"unnest({quoted(name)})" if is_list else quoted(name)
    source = f"(SELECT nullif({value}::VARCHAR, '') AS v FROM {sample.table})"
    counts = _counts(sample, source)
    dtype = _dtype(element, counts)
    readable = {Dtype.INT64: counts.whole, Dtype.FLOAT64: counts.numbers}
    low, high = _limits(sample, source) if dtype in _NUMBERS else (None, None)
    is_moment = element in _MOMENTS or (
        dtype is Dtype.STRING and counts.moments > _READABLE_SHARE * counts.values
    )
    return Profile(
        landed=name,
        dtype=_list_of(dtype) if is_list else dtype,
        type=kind,
        rows=sample.rows,
        missing=_missing(sample, name, is_list=is_list),
        distinct=counts.distinct,
        unreadable=counts.values - readable.get(dtype or Dtype.STRING, counts.values),
        low=low,
        high=high,
        frequent=_frequent(sample, source) if counts.distinct else {},
        is_moment=is_moment and not is_list and counts.values > 0,
        has_offset=element == "TIMESTAMP WITH TIME ZONE" or counts.offsets > counts.values // 2,
        is_uuid=0 < counts.uuids == counts.values,
        longest=_longest(sample, name) if is_list else 0,
        mean_repeats=counts.values / max(counts.distinct, 1),
    )


def _counts(sample: Sample, source: str) -> _Counts:
    found = _row(
        sample,
        f"""SELECT count(v), count(DISTINCT v),
        count(*) FILTER (regexp_full_match(v, '{_WHOLE}')),
        count(*) FILTER (regexp_full_match(v, '{_NUMBER}')),
        count(*) FILTER (try_cast(v AS TIMESTAMP) IS NOT NULL AND length(v) >= 8),
        count(*) FILTER (regexp_full_match(v, '{_OFFSET}')),
        count(*) FILTER (regexp_full_match(v, '{_UUID}')) FROM {source}""",
    )
    return _Counts(*(int(number or 0) for number in found))


def _limits(sample: Sample, source: str) -> tuple[float | None, float | None]:
    low, high = _row(
        sample, f"SELECT min(try_cast(v AS DOUBLE)), max(try_cast(v AS DOUBLE)) FROM {source}"
    )
    return low, high


def _list_of(element: Dtype | None) -> Dtype | None:
    return Dtype.list_of(element) if element in {Dtype.INT64, Dtype.STRING} else None


_MOMENTS = {"TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP_MS"}
_NUMBERS = {Dtype.INT64, Dtype.FLOAT64}


def _dtype(element: str, counts: _Counts) -> Dtype | None:
    if element in _INTEGERS:
        return Dtype.INT64
    if element in {"FLOAT", "DOUBLE"}:
        return Dtype.FLOAT64
    if element.startswith("TIMESTAMP"):
        return None if element in {"TIMESTAMP_NS", "TIMESTAMP_S"} else Dtype.TIMESTAMP
    if element != "VARCHAR":
        return None
    if counts.values and counts.whole >= _READABLE_SHARE * counts.values:
        return Dtype.INT64
    if counts.values and counts.numbers >= _READABLE_SHARE * counts.values:
        return Dtype.FLOAT64
    return Dtype.STRING


def _missing(sample: Sample, name: str, *, is_list: bool) -> int:
    empty = "" if is_list else f" OR {quoted(name)}::VARCHAR = ''"
    where = f"{quoted(name)} IS NULL{empty}"
    return int(_row(sample, f"SELECT count(*) FROM {sample.table} WHERE {where}")[0] or 0)


def _longest(sample: Sample, name: str) -> int:
    return int(_row(sample, f"SELECT max(len({quoted(name)})) FROM {sample.table}")[0] or 0)


def _frequent(sample: Sample, source: str) -> dict[str, int]:
    found = sample.connection.execute(
        f"SELECT v, count(*) AS n FROM {source} WHERE v <> '' GROUP BY v ORDER BY n DESC, v "
        f"LIMIT {MOST_FREQUENT}"
    ).fetchall()
    return {str(value): int(rows) for value, rows in found}


def _row(sample: Sample, query: str) -> tuple[float | None, ...]:
    return sample.connection.execute(query).fetchone() or ()
