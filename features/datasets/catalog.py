"""The data sets by name, as a deployment has them.

Nothing is read before it is asked for: a command line starts without pydantic, and a server reads
the one file that it serves.
"""

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from features.datasets.schema_files import discovery
from features.schema import Schema

if TYPE_CHECKING:
    from features.datasets.schema_files.build import DataSet

PUSH = "RANKING_PUSH"
"""Variable: ``on``, the default, where a push brings users online within a day; ``off``."""


def names(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The names of all data sets, in alphabetical order."""
    return sorted(discovery.find(environment).files)


def known(name: str) -> str:
    """The name of a data set, as a flag takes it; ValueError where there is none of this name."""
    _file_of(name, os.environ)
    return name


def data_set_of(name: str, *, environment: Mapping[str, str] = os.environ) -> "DataSet":
    """A data set as its file declares it, with where it lands; raises what ``schema_of`` does."""
    return data_set_at(_file_of(name, environment))


def data_set_at(path: Path) -> "DataSet":
    """The data set of a schema file, wherever it is; ValueError with the lines that are wrong."""
    # A process that runs for days sees a file that was replaced.
    return _read(path, path.stat().st_mtime_ns if path.exists() else 0)


def schema_of(name: str, *, environment: Mapping[str, str] = os.environ) -> Schema:
    """The schema of a data set in a deployment.

    Without a push, or where labels come later than it could know, state counts when daily rows do.

    Raises:
        ValueError: There is no such data set, its file is wrong, or RANKING_PUSH is neither on nor
            off.
    """
    return deployed(data_set_of(name, environment=environment).schema, environment)


def deployed(schema: Schema, environment: Mapping[str, str] = os.environ) -> Schema:
    """A declared schema as a deployment has it."""
    return schema if has_push(environment) and schema.can_push else schema.without_push()


def has_push(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this deployment pushes; ValueError where RANKING_PUSH is neither on nor off."""
    value = environment.get(PUSH) or "on"
    if value not in {"on", "off"}:
        raise ValueError(f"{PUSH}: {value!r}; on or off")
    return value == "on"


def _file_of(name: str, environment: Mapping[str, str]) -> Path:
    found = discovery.find(environment)
    if name not in found.files:
        raise ValueError(
            f"dataset {name!r}: unknown; the data sets are {sorted(found.files)}, found in "
            f"{'; '.join(found.places)}"
        )
    return found.files[name]


@functools.lru_cache(maxsize=64)
def _read(path: Path, _modified: int) -> "DataSet":
    from features.datasets.schema_files.build import read_data_set

    return read_data_set(path)
