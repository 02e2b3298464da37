"""The one way in which serving says no: a field, its value, the limit, and an HTTP status."""

import reprlib
from http import HTTPStatus

_SHOWN = reprlib.Repr()
"""Bounded: a value may be a thousand lists deep, which is more than ``repr`` can print."""
_SHOWN.maxlevel = 2
_SHOWN.maxstring = _SHOWN.maxother = 80


def shown(value: object) -> str:
    """A value of a caller, fit for one line of a log: of bounded length, control signs escaped."""
    return _SHOWN.repr(value)


class RequestError(ValueError):
    """A request that is answered with a reason instead of a result.

    Its text is ``<field>: <value>; <limit>``, which is the body of every error answer.
    """

    def __init__(
        self, field: str, value: object, limit: str, *, status: HTTPStatus = HTTPStatus.BAD_REQUEST
    ) -> None:
        """Args: the field at fault, what it held, what it may hold, the status of the answer."""
        super().__init__(f"{field}: {_SHOWN.repr(value)}; {limit}")
        self.status = status

    def __reduce__(self) -> tuple[object, ...]:
        """The same error in another process."""
        return _again, (str(self), self.status)


def _again(text: str, status: HTTPStatus) -> RequestError:
    error = RequestError.__new__(RequestError, text)
    error.status = status
    return error
