"""Parts of a JSON message, each of the required type, or a RequestError that names its field."""

from collections.abc import Mapping

import orjson

from serving.protocol.errors import RequestError

MAX_TEXT = 200


def message(content: bytes) -> dict[str, object]:
    """The object that a body holds."""
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise RequestError("body", str(error), "a JSON object in UTF-8") from error
    return mapping(found, "body", is_required=True)


def mapping(value: object, field: str, *, is_required: bool = False) -> dict[str, object]:
    """An object; an absent one is empty unless it is required."""
    if value is None and not is_required:
        return {}
    if not isinstance(value, dict):
        raise RequestError(field, value, "a JSON object")
    return value


def listing(value: object, field: str) -> list[object]:
    """An array."""
    if not isinstance(value, list):
        raise RequestError(field, value, "a JSON array")
    return value


def text(value: object, field: str) -> str:
    """A name, fit to be part of an error message and of a log line."""
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_TEXT or not value.isprintable():
        raise RequestError(field, value, f"a printable string of 1 to {MAX_TEXT} characters")
    return value


def flag(parameters: Mapping[str, object], name: str, field: str) -> bool | None:
    """A yes or no among the parameters of a field; None where it is absent."""
    value = parameters.get(name)
    if value is not None and not isinstance(value, bool):
        raise RequestError(f"{field}.{name}", value, "true or false")
    return value
