"""Requests: frozen dataclasses whose fields are the flags of one command.

``option`` says what a field means; the command line builds the request from what a person wrote. A
request that is in itself wrong raises ValueError where it is made: wrong usage on a command line.
"""

import argparse
import dataclasses
import datetime
import enum
import inspect
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from features.datasets.catalog import known
from features.places import Place, local_root, place, root

Request = TypeVar("Request")

_OWN = ("parse", "choices", "is_repeated")
"""What ``option`` takes besides what ``dataclasses.field`` does."""


def option(text: str, *, flag: str = "", metavar: str = "", **rest: Any) -> Any:
    """A field of a request, and the flag that sets it.

    A bool is a flag without a value, a tuple takes several values, an enumeration or a literal type
    names the choices; ``X | None`` is an X that need not be there.

    Args:
        text: What ``--help`` says of it; empty: it is not shown.
        flag: Else the field's name, behind two dashes.
        metavar: What ``--help`` shows for its value.
        rest: ``parse``, from text to the value, where the type alone cannot do it; ``choices``;
            ``is_repeated``: the flag is given once or more, each time for a value of a tuple; and
            ``default`` or ``default_factory``, as ``dataclasses.field`` has them.
    """
    metadata: dict[str, Any] = {"text": text, "flag": flag, "metavar": metavar}
    metadata |= {name: rest.pop(name) for name in _OWN if name in rest}
    return dataclasses.field(metadata=metadata, **rest)


def folder(name: str, text: str) -> Any:
    """A field of a request: a ``Place``, by default its name below ``root()``."""
    return option(text, metavar="DIR", parse=place, default_factory=lambda: root() / name)


def local_folder(name: str, text: str) -> Any:
    """A field of a request: a folder of this machine, by default its name below ``local_root()``.

    For what is no data: a database's file, native code.
    """
    return option(text, metavar="DIR", parse=Path, default_factory=lambda: local_root() / name)


def count(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{text!r}: a whole number, at least 1")
    return int(text)


def whole(text: str) -> int:
    """A whole number, 0 too."""
    if not text.isdecimal():
        raise ValueError(f"{text!r}: a whole number, at least 0")
    return int(text)


@typing.dataclass_transform(
    kw_only_default=True, frozen_default=True, field_specifiers=(option, folder, local_folder)
)
def from_flags(cls: type[Request]) -> type[Request]:
    """Make a class a request: a frozen dataclass; its docstring is the text of ``--help``."""
    return dataclasses.dataclass(frozen=True, kw_only=True)(cls)


@from_flags
class OfDataset:
    """A request about one data set."""

    dataset: str = option("the data set", metavar="NAME", parse=known)


@from_flags
class OfDay:
    """A request about a day."""

    date: datetime.date = option("the day, YYYY-MM-DD")


@from_flags
class OfDays(OfDay):
    """A request about a day, or several in a row."""

    to: datetime.date | None = option("last day of a range from --date on", default=None)

    def __post_init__(self) -> None:
        """ValueError for a range that ends before it begins."""
        if self.to is not None and self.to < self.date:
            raise ValueError(f"--to: {self.to}; not before --date {self.date}")

    @property
    def days(self) -> list[datetime.date]:
        """All of them."""
        num_days = ((self.to or self.date) - self.date).days + 1
        return [self.date + datetime.timedelta(days=n) for n in range(num_days)]


def parse(made: type[Request], *, prog: str, arguments: Sequence[str] | None = None) -> Request:
    """The request of a command line that has one command; wrong usage ends the process (2)."""
    parser = argparse.ArgumentParser(
        prog=prog, description=text_of(made), formatter_class=ShowDefaults
    )
    add_options(parser, made)
    try:
        return request_from(parser.parse_args(arguments), made)
    except ValueError as error:
        parser.error(str(error))


def text_of(made: type[Any]) -> str:
    """What ``--help`` says of a request: the class's docstring as one paragraph."""
    return " ".join(inspect.cleandoc(made.__doc__ or "").split())


def add_options(parser: argparse.ArgumentParser, made: type[Any]) -> None:
    """Add the flags of a request's fields to a parser."""
    kinds = typing.get_type_hints(made)
    for field in dataclasses.fields(made):
        _add_option(parser, field, kinds[field.name])


def request_from(options: argparse.Namespace, made: type[Request]) -> Request:
    """The request that was asked for; ValueError where it is in itself wrong."""
    values = vars(options)
    given = {}
    for name, kind in typing.get_type_hints(made).items():
        plain, value = _without_none(kind), values[name]
        is_enum = inspect.isclass(plain) and issubclass(plain, enum.Enum) and value is not None
        value = tuple(value) if isinstance(value, list) else value
        given[name] = plain(value) if is_enum else value
    return made(**given)


def _add_option(
    parser: argparse.ArgumentParser, field: "dataclasses.Field[Any]", kind: Any
) -> None:
    said, plain = field.metadata, _without_none(kind)
    is_required = field.default is field.default_factory is dataclasses.MISSING
    default = None if is_required else field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    how: dict[str, Any] = {
        "dest": field.name,
        "default": default,
        "required": is_required,
        # A per cent sign would begin one of argparse's own fields.
        "help": said["text"].replace("%", "%%") or argparse.SUPPRESS,
    }
    flag = said["flag"] or f"--{field.name.replace('_', '-')}"
    if plain is bool:
        parser.add_argument(flag, action="store_true", **how)
        return
    if said.get("is_repeated"):
        how["action"], plain = "append", typing.get_args(plain)[0]
    elif typing.get_origin(plain) is tuple and "parse" not in said:
        how["nargs"], plain = "+", typing.get_args(plain)[0]
    if choices := said.get("choices") or _choices(plain):
        how["choices"] = choices
    else:
        own = said.get("parse") or _PARSERS.get(plain)
        how["type"] = _with_reason(own) if own else plain
        how["metavar"] = said["metavar"] or _METAVARS.get(plain)
    parser.add_argument(flag, **how)


def _with_reason(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """The same, its ValueError as the only error whose text argparse shows."""

    def parsed(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parsed


def _without_none(kind: Any) -> Any:
    """X of ``X | None``."""
    if typing.get_origin(kind) not in (typing.Union, types.UnionType):
        return kind
    (plain,) = (one for one in typing.get_args(kind) if one is not types.NoneType)
    return plain


def _choices(kind: Any) -> list[str]:
    if inspect.isclass(kind) and issubclass(kind, enum.Enum):
        return [str(one.value) for one in kind]
    return list(typing.get_args(kind)) if typing.get_origin(kind) is typing.Literal else []


_PARSERS: dict[Any, Callable[[str], Any]] = {
    datetime.date: datetime.date.fromisoformat,
    Place: place,
}
_METAVARS = {datetime.date: "YYYY-MM-DD", Path: "PATH", Place: "PLACE"}


class ShowDefaults(argparse.ArgumentDefaultsHelpFormatter):
    """Shows an option's default where it has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        has_none = action.default is None or action.required
        return action.help if has_none else super()._get_help_string(action)
