"""A schema file in Python written out as YAML: for DAG files, which run no code of a site."""

from collections.abc import Iterable
from pathlib import Path

import yaml

from features.datasets.catalog import data_set_of
from features.datasets.schema_files.build import read_entry
from features.datasets.schema_files.discovery import PYTHON, WRITTEN
from features.datasets.schema_files.python_file import digests, plain

_HEAD = (
    "# Written by `python -m features schema-yaml` from these files with their SHA-256; edit them."
)


def yaml_of(path: Path) -> str:
    """The data set of a schema file as YAML, with what it was made from in its first lines.

    Raises:
        ValueError: It is no Python file, or its lines are wrong.
    """
    if path.suffix != PYTHON:
        raise ValueError(f"--schema {path}: is no Python file ({PYTHON}); YAML needs no writing")
    made_from = [f"# {name} {digest}" for name, digest in digests(path).items()]
    entry, _ = read_entry(path)
    text = yaml.safe_dump(plain(entry), sort_keys=False, allow_unicode=True, width=100)
    return "\n".join([_HEAD, *made_from, text])


def write_yaml(path: Path, output: Path | None = None) -> Path:
    """Write it whole, next to the file by default; raises what ``yaml_of`` does."""
    text, output = yaml_of(path), output or path.with_name(f"{path.stem}{WRITTEN}")
    part = output.with_name(f".{output.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(output)
    return output


def write_for_dags(datasets: Iterable[str]) -> list[Path]:
    """Write it for those of some data sets whose file is Python; raises what ``yaml_of`` does."""
    paths = [data_set_of(name).path for name in datasets]
    return [write_yaml(path) for path in paths if path.suffix == PYTHON]
