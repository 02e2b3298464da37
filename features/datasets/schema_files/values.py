"""Values of a schema file that have a notation of their own: times with units, names, numbers."""

import datetime
import re
from typing import Annotated

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
# Five digits: 273 years at most, which any date can be moved by.
_SPAN = r"[0-9]{1,5}[dhms]"


def _span(value: object) -> datetime.timedelta:
    if not isinstance(value, str) or not re.fullmatch(_SPAN, value):
        raise PydanticCustomError(
            "span", "expected a whole number of at most 5 digits with its unit: 45s, 30m, 3h or 7d"
        )
    return datetime.timedelta(seconds=int(value[:-1]) * _SECONDS[value[-1]])


def _not_none(span: datetime.timedelta) -> datetime.timedelta:
    if not span:
        raise PydanticCustomError("span", "expected a time longer than 0s")
    return span


def span_text(span: datetime.timedelta) -> str:
    """A time of whole seconds as a file has it, in its largest unit: ``90s``, ``3h``, ``7d``."""
    seconds = int(span.total_seconds())
    unit = next(unit for unit, length in _SECONDS.items() if seconds % length == 0)
    return f"{seconds // _SECONDS[unit]}{unit}" if seconds else "0s"


def _whole(number: float) -> float:
    """4 for 4.0: how a number is written must not change a fingerprint."""
    return int(number) if float(number).is_integer() else number


Span = Annotated[
    datetime.timedelta,
    PlainValidator(_span),
    PlainSerializer(span_text),
    WithJsonSchema({"type": "string", "pattern": f"^{_SPAN}$", "examples": ["90s", "3h", "7d"]}),
]
"""A time with its unit."""
PositiveSpan = Annotated[Span, AfterValidator(_not_none)]
Number = Annotated[float, AfterValidator(_whole)]
Share = Annotated[float, Field(ge=0, le=1), AfterValidator(_whole)]
Text = Annotated[str, Field(min_length=1)]
NumberOrText = Annotated[int | float, AfterValidator(_whole)] | Text
"""A value of a column; a number stays what the file has, an integer or not."""
WholePlace = Annotated[str, Field(pattern=r"^(/|[a-z][a-z0-9+]*:)")]
"""A place that is the same for each process, wherever it runs: /data/visits, s3://bucket/visits."""
ColumnName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
Module = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")]
