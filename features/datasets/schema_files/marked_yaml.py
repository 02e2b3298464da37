"""YAML whose values remember their lines, so that an error names file, line, key and value."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import yaml

from features.datasets.schema_files.problems import Key, Problem, SchemaFileError

_LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
_MERGE = "tag:yaml.org,2002:merge"


class MarkedYaml:
    """One YAML document: its values, and the line and the text of each.

    Raises:
        SchemaFileError: It cannot be read, is no YAML, or a key is there twice.
    """

    def __init__(self, path: Path) -> None:
        """Read and parse a file."""
        self.path = path
        text = self._text()
        try:
            loader = _LOADER(text)
            self._root: yaml.Node = loader.get_single_node()
            if self._root is None:
                self._fail(1, "is empty; a mapping of keys to values")
            for key, node in self._nodes(self._root, (), ()):
                self._construct(loader, key, node)
            self.data: object = loader.construct_document(self._root)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            # What is missing at the end is missed after the last line.
            line = min(mark.line + 1, len(text.splitlines())) if mark else 1
            self._fail(line, f"is no YAML: {error.problem}")
        except yaml.reader.ReaderError as error:
            self._fail(1, f"is no YAML: {error.reason} at position {error.position}")
        except RecursionError:
            self._fail(1, "is nested too deeply")

    def error(self, problems: Sequence[Problem]) -> SchemaFileError:
        """The error about some values, in the order of their lines."""
        found = []
        for key, expected in problems:
            line, value = self._place_of(key)
            name = ".".join(map(str, key)) or "the file"
            found.append((line, f"{self.path}:{line}: {name}: {value}; {expected}"))
        found.sort(key=lambda one: one[0])
        return SchemaFileError("\n".join(dict.fromkeys(text for _, text in found)))

    def _text(self) -> str:
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise SchemaFileError(f"{self.path}: cannot be read: {error.strerror}") from error
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            self._fail(line, f"is no UTF-8: byte 0x{content[error.start]:02x}")

    def _fail(self, line: int, reason: str) -> NoReturn:
        raise SchemaFileError(f"{self.path}:{line}: {reason}") from None

    def _nodes(
        self, node: yaml.Node, key: Key, above: tuple[int, ...]
    ) -> Iterator[tuple[Key, yaml.Node]]:
        """All scalars below a node; SchemaFileError for a key that is there twice, or a circle."""
        if id(node) in above:
            self._fail(node.start_mark.line + 1, f"{'.'.join(map(str, key))}: contains itself")
        above = (*above, id(node))
        if isinstance(node, yaml.MappingNode):
            first: dict[str, int] = {}
            for name, value in node.value:
                line = name.start_mark.line + 1
                text = str(name.value)
                if text in first and name.tag != _MERGE:
                    full = ".".join(map(str, (*key, text)))
                    self._fail(line, f"{full}: is there twice; first in line {first[text]}")
                first[text] = line
                yield from self._nodes(value, (*key, text), above)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                yield from self._nodes(value, (*key, index), above)
        else:
            yield key, node

    def _construct(self, loader: yaml.SafeLoader, key: Key, node: yaml.Node) -> None:
        """Fail for what looks like a date or a number and is none: it would fail without a line."""
        try:
            loader.construct_object(node)
        except ValueError as error:
            name = ".".join(map(str, key))
            self._fail(node.start_mark.line + 1, f"{name}: {node.value!r}; {error}")

    def _place_of(self, key: Key) -> tuple[int, str]:
        """The line and the text of a value; of what is not there, the line of what it lacks."""
        node, line = self._root, self._root.start_mark.line + 1
        for part in key:
            found = _child(node, part)
            if found is None:
                return line, "missing"
            line, node = found
        return line, _shown(node)


def _child(node: yaml.Node, part: str | int) -> tuple[int, yaml.Node] | None:
    """The line and the node of an entry; of two after a merge, the one that counts."""
    if isinstance(node, yaml.MappingNode):
        for name, value in reversed(node.value):
            if name.value == str(part):
                return name.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        value = node.value[part]
        return value.start_mark.line + 1, value
    return None


def _shown(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    # As it is written: yes and 12:30 would be shown as the truth value and the number they are.
    return repr(node.value) if node.value else "empty"
