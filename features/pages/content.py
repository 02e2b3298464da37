"""What a page is made of: a title and blocks, each plain data that the template renders."""

import dataclasses
import enum
from collections.abc import Sequence
from typing import ClassVar

from markupsafe import Markup


class Tone(enum.StrEnum):
    """How a word or a box looks."""

    PLAIN = ""
    GOOD = "good"
    UNSURE = "unsure"
    BAD = "bad"
    ACCENT = "accent"
    QUIET = "quiet"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    text: str
    note: str = ""
    """A second line, smaller."""
    tone: Tone = Tone.PLAIN
    link: str = ""
    lines: Sequence[str] = ()
    """What is behind ``text`` and opens by a click."""
    is_number: bool = False
    heat: float = 0.0
    """How strong its colour is in a heat map, from 0, none, to 1."""


Value = Cell | str | int | float | None
"""Of a cell; None is shown as a dash, a number to four digits or, if it is whole, in full."""


@dataclasses.dataclass(frozen=True)
class Heading:
    """Begins a part of the page."""

    kind: ClassVar = "heading"
    text: str


@dataclasses.dataclass(frozen=True)
class Prose:
    """A paragraph."""

    kind: ClassVar = "prose"
    text: str
    tone: Tone = Tone.PLAIN


@dataclasses.dataclass(frozen=True)
class Notice:
    """A sentence in a box, which must not be missed."""

    kind: ClassVar = "notice"
    text: str
    tone: Tone = Tone.UNSURE


@dataclasses.dataclass(frozen=True)
class Bullets:
    """Sentences of one kind."""

    kind: ClassVar = "bullets"
    sentences: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows under named columns; numbers are aligned to the right."""

    kind: ClassVar = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]
    cells: list[list[Cell]] = dataclasses.field(init=False)
    is_numeric: list[bool] = dataclasses.field(init=False)
    """By column: it has numbers and nothing else, gaps aside."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"row {list(row)}: {len(row)} cells; the table has {len(self.columns)} columns"
                )
        cells = [[_cell(value) for value in row] for row in self.rows]
        columns = list(zip(*cells, strict=True)) or [()] * len(self.columns)
        object.__setattr__(self, "cells", cells)
        object.__setattr__(self, "is_numeric", [_is_numeric(column) for column in columns])


@dataclasses.dataclass(frozen=True)
class Facts:
    """Names and their values."""

    kind: ClassVar = "facts"
    values: Sequence[tuple[str, Value]]

    @property
    def cells(self) -> list[tuple[str, Cell]]:
        """Values as the template shows them."""
        return [(name, _cell(value)) for name, value in self.values]


@dataclasses.dataclass(frozen=True)
class Chart:
    """A drawing with its title; if ``is_wide``, it scrolls instead of being scaled to fit."""

    svg: Markup
    title: str = ""
    is_wide: bool = False


@dataclasses.dataclass(frozen=True)
class Charts:
    """Drawings side by side, as many as fit."""

    kind: ClassVar = "charts"
    charts: Sequence[Chart]


@dataclasses.dataclass(frozen=True)
class Link:
    """To another page, relative to this one."""

    kind: ClassVar = "link"
    text: str
    link: str


Block = Heading | Prose | Notice | Bullets | Table | Facts | Charts | Link


@dataclasses.dataclass(frozen=True)
class Page:
    """A whole page. ``verdict`` is a word next to the title, in ``tone``."""

    title: str
    blocks: Sequence[Block]
    verdict: str = ""
    tone: Tone = Tone.PLAIN


def decimal(value: float | None, places: int = 4, *, note: str = "") -> Cell:
    """A number with so many digits after the point."""
    return _number(value, f".{places}f", note)


def percent(share: float | None, places: int = 2, *, note: str = "") -> Cell:
    """A change as a percentage with its sign: 0.0123 as ``+1.23%``."""
    return _number(None if share is None else 100 * share, f"+.{places}f", note, unit="%")


def _number(value: float | None, form: str, note: str, unit: str = "") -> Cell:
    text = "–" if value is None else f"{value:{form}}{unit}"
    return Cell(text, note=note, is_number=True)


_GAP = Cell("–")


def _cell(value: Value) -> Cell:
    match value:
        case Cell():
            return value
        case None:
            return _GAP
        case str():
            return Cell(value)
        case int():
            return Cell(f"{value:,}", is_number=True)
        case _:
            return Cell(f"{value:.4g}", is_number=True)


def _is_numeric(column: Sequence[Cell]) -> bool:
    filled = [cell for cell in column if cell != _GAP]
    return bool(filled) and all(cell.is_number for cell in filled)
