"""YAML with a comment at each value that somebody should look at."""

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import yaml

_WIDTH = 100
_MOST_IN_A_LINE = 96


@dataclasses.dataclass(frozen=True)
class Guess:
    """A value, and why it was chosen."""

    value: object
    why: str


@dataclasses.dataclass(frozen=True)
class Ask:
    """What only a person can say: the question stands where the key is missing."""

    question: str


class Question(NamedTuple):
    """An ``Ask`` of a written file."""

    line: int
    key: str
    question: str


class Written(NamedTuple):
    """A file's text, and what it asks."""

    text: str
    questions: tuple[Question, ...]


def write(entries: Mapping[str, object], *, head: str) -> Written:
    """The text of a mapping, whose values are scalars, lists, mappings, guesses and questions.

    Args:
        entries: The top level; a list of mappings is written as a block, any other in one line.
        head: Comment at the top, in sentences.
    """
    lines = list(_comment(head, ""))
    questions: list[Question] = []
    for text in _mapping(entries, "", ""):
        if isinstance(text, str):
            lines.append(text)
        else:
            questions.append(Question(len(lines) + 1, text.key, text.question))
    return Written("\n".join(lines) + "\n", tuple(questions))


class _Asked(NamedTuple):
    key: str
    question: str


Line = str | _Asked


def _mapping(entries: Mapping[str, object], indent: str, above: str) -> Iterator[Line]:
    for number, (key, value) in enumerate(entries.items()):
        if not indent and number and isinstance(plain(value), Mapping | list | Ask):
            yield ""
        name = f"{above}.{key}" if above else key
        if isinstance(value, Guess):
            yield from _comment(value.why, indent)
        if isinstance(value, Ask):
            yield _Asked(name, value.question)
            yield from _comment(f"TODO {key}: {value.question}", indent)
            continue
        yield from _entry(key, plain(value), indent, name)


def _entry(key: str, value: object, indent: str, name: str) -> Iterator[Line]:
    if isinstance(value, Mapping):
        if not value:
            yield f"{indent}{key}: {{}}"
            return
        yield f"{indent}{key}:"
        yield from _mapping(value, indent + "  ", name)
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        yield f"{indent}{key}:"
        for number, one in enumerate(value):
            yield from _item(one, indent, f"{name}.{number}")
    else:
        yield from _folded(f"{indent}{key}: {scalar(value)}", indent)


def _item(entries: Mapping[str, object], indent: str, name: str) -> Iterator[Line]:
    """A mapping in a list: a dash at its first line that is no comment."""
    is_marked = False
    for line in _mapping(entries, indent + "    ", name):
        if isinstance(line, str) and not is_marked and not line.lstrip().startswith("#"):
            line, is_marked = f"{indent}  - {line.lstrip()}", True
        yield line


def _folded(line: str, indent: str) -> Iterator[str]:
    """A long list of words in several lines."""
    key, bracket, words = line.partition(": [")
    if len(line) <= _MOST_IN_A_LINE or not bracket:
        yield line
        return
    yield f"{key}: ["
    parts = words.removesuffix("]")
    yield from textwrap.wrap(
        parts, _WIDTH, initial_indent=indent + "  ", subsequent_indent=indent + "  ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    yield f"{indent}]"


def _comment(text: str, indent: str) -> Iterator[str]:
    for paragraph in text.splitlines():
        yield from textwrap.wrap(
            paragraph, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ",
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip


def plain(value: object) -> object:
    """The value of a guess; any other as it is."""
    return value.value if isinstance(value, Guess) else value


def scalar(value: object) -> str:
    """A value in one line, quoted where YAML would read something else."""
    dumped = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=float("inf"))
    return str(dumped).removesuffix("\n").removesuffix("\n...").removesuffix("...").strip()
