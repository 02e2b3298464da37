"""A schema file in Python: a module that defines ``SCHEMA_FILE``, run once as a script would be.

The value is one of ``models.DataSetEntry``, or a plain dict of the keys that YAML would have. It is
taken apart and validated like YAML whatever it is, for a copied model is validated by nothing else.
"""

import ast
import contextlib
import datetime
import enum
import hashlib
import importlib
import runpy
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from pydantic import BaseModel, ValidationError

from features.datasets.schema_files.discovery import SCHEMA_FILE, definition_of
from features.datasets.schema_files.entry import UNKNOWN_KEY
from features.datasets.schema_files.problems import Key, Problem, SchemaFileError, problem_of
from features.datasets.schema_files.values import span_text

_RUNNING = threading.RLock()


class PythonFile:
    """One module: the plain values of its ``SCHEMA_FILE``, and the line of each as far as written.

    Raises:
        SchemaFileError: It cannot be read or run, or defines no such object.
    """

    def __init__(self, path: Path) -> None:
        """Read and run a file."""
        self.path = path
        self._tree = self._parsed()
        definition = definition_of(self._tree)
        if definition is None:
            self._fail(1, f"defines no {SCHEMA_FILE}; expected {SCHEMA_FILE} = DataSetEntry(…)")
        self._value: ast.expr = definition
        try:
            value = _run(path).get(SCHEMA_FILE)
        except (Exception, SystemExit) as error:
            raise self._failed(error) from error
        if not isinstance(value, dict | BaseModel):
            said = f"{SCHEMA_FILE}: {_shown(value)}; expected a DataSetEntry or a dict"
            self._fail(self._value.lineno, said)
        self.data = plain(value)

    def error(self, problems: Sequence[Problem]) -> SchemaFileError:
        """The error about some values, in the order of their lines."""
        found = []
        for key, expected in problems:
            line = _written(self._tree, self._value, key).lineno
            name = ".".join(map(str, key)) or SCHEMA_FILE
            found.append((line, f"{name}: {_shown(_inside(self.data, key))}; {expected}"))
        return self._error(found)

    def _error(self, found: list[tuple[int, str]]) -> SchemaFileError:
        found.sort(key=lambda one: one[0])
        lines = [f"{self.path}:{line}: {said}" for line, said in found]
        return SchemaFileError("\n".join(dict.fromkeys(lines)))

    def _fail(self, line: int, reason: str) -> NoReturn:
        raise self._error([(line, reason)])

    def _parsed(self) -> ast.Module:
        try:
            return ast.parse(self.path.read_bytes(), str(self.path))
        except OSError as error:
            raise SchemaFileError(f"{self.path}: cannot be read: {error.strerror}") from error
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None) or 1
            raise self._error([(line, f"is no Python: {getattr(error, 'msg', error)}")]) from None

    def _failed(self, error: BaseException) -> SchemaFileError:
        """What the module raised, with its line; of a model's values, each with its own."""
        frames = [
            (frame.f_code.co_filename, n) for frame, n in traceback.walk_tb(error.__traceback__)
        ]
        line = next((n for name, n in reversed(frames) if name == str(self.path)), 1)
        if isinstance(error, ValidationError):
            return self._error(list(self._of_model(error, line)))
        name, innermost = frames[-1]
        other = "" if name == str(self.path) else f" ({Path(name).name}, line {innermost})"
        return self._error([(line, f"{type(error).__name__}: {error}{other}")])

    def _of_model(self, error: ValidationError, line: int) -> Iterator[tuple[int, str]]:
        call = next((one for one in _calls(self._tree, error.title) if one.lineno == line), None)
        for one in error.errors():
            key, expected = problem_of(one, is_python=True)
            # What is not known is said of the mapping that has it.
            of_mapping = one["type"] in {UNKNOWN_KEY, "union_tag_invalid", "union_tag_not_found"}
            within = _inside(plain(one["input"]), key[-1:] if of_mapping else ())
            value = _MISSING if one["type"] == "missing" else within
            of_model = () if error.title == "DataSetEntry" else (error.title,)
            name = ".".join(map(str, (*of_model, *key)))
            at = _written(self._tree, call, key).lineno if call else line
            yield at, f"{name}: {_shown(value)}; {expected}"


def neighbours(path: Path) -> list[Path]:
    """Files of the modules and packages next to a schema file that it, or one of these, imports."""
    found: dict[Path, None] = {}
    waiting = [path]
    while waiting:
        try:
            tree = ast.parse(waiting.pop().read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue  # the error comes with its line when the module is run
        for name in _imported(tree):
            for near in (path.parent / f"{name}.py", *(path.parent / name).rglob("*.py")):
                if near != path and near not in found and near.is_file():
                    found[near] = None
                    waiting.append(near)
    return sorted(found)


def digests(path: Path) -> dict[str, str]:
    """SHA-256 of a schema file and of what it imports from next to it, by path in its folder."""
    return {
        one.relative_to(path.parent).as_posix(): hashlib.sha256(one.read_bytes()).hexdigest()
        for one in (path, *neighbours(path))
    }


def plain(value: object) -> object:
    """What a model says as the values that YAML would have; what was not set is left out."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {
            (fields[name].alias or name) if name in fields else name: plain(getattr(value, name))
            for name in [*fields, *sorted(value.model_fields_set - fields.keys())]
            if name in value.model_fields_set
        }
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, enum.Enum):
        return str(value.value)
    return span_text(value) if isinstance(value, datetime.timedelta) else value


def _run(path: Path) -> dict[str, object]:
    """The names that a module defines. It finds modules next to it, and they stay its own."""
    near = {one.relative_to(path.parent).parts[0].removesuffix(".py") for one in neighbours(path)}
    folder = str(path.parent.resolve())
    with _RUNNING, contextlib.redirect_stdout(sys.stderr):
        kept = _taken(near)
        writes_nothing, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
        try:
            return runpy.run_path(str(path), run_name="schema_file")
        finally:
            sys.path.remove(folder)
            sys.dont_write_bytecode = writes_nothing
            _taken(near)
            sys.modules.update(kept)


def _taken(names: set[str]) -> dict[str, ModuleType]:
    """Take modules of these names, and those within them, out of what has been imported."""
    found = [name for name in sys.modules if name.partition(".")[0] in names]
    return {name: sys.modules.pop(name) for name in found}


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _calls(tree: ast.Module, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and name in {
            getattr(node.func, "id", None),
            getattr(node.func, "attr", None),
        }:
            yield node


def _written(tree: ast.Module, node: ast.expr, key: Key) -> ast.expr | ast.keyword:
    """The innermost expression that a key leads to, as far as it is written out."""
    place: ast.expr | ast.keyword = node
    for part in key:
        found = _entry(_resolved(tree, node), part)
        if found is None:
            break
        place, node = found
    return place


def _resolved(tree: ast.Module, node: ast.expr) -> ast.expr:
    """What a name stands for, where the module assigns it once."""
    if not isinstance(node, ast.Name):
        return node
    return definition_of(tree, node.id) or node


def _entry(node: ast.expr, part: str | int) -> tuple[ast.expr | ast.keyword, ast.expr] | None:
    """Where an entry begins, and its value."""
    if isinstance(node, ast.Dict):
        for name, value in zip(node.keys, node.values, strict=True):
            if isinstance(name, ast.Constant) and name.value == part:
                return name, value
    if isinstance(node, ast.Call):
        for word in node.keywords:
            if word.arg == part:
                return word, word.value
    if isinstance(node, ast.List) and isinstance(part, int) and part < len(node.elts):
        return node.elts[part], node.elts[part]
    return None


class _Missing:
    """What is not there."""


_MISSING = _Missing()


def _inside(value: object, key: Key) -> object:
    for part in key:
        if isinstance(value, list):
            value = dict(enumerate(value))
        if not isinstance(value, dict) or part not in value:
            return _MISSING
        value = value[part]
    return value


def _shown(value: object) -> str:
    if value is _MISSING:
        return "missing"
    if isinstance(value, dict | BaseModel):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return "empty" if value == "" else repr(value)
