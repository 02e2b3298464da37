"""The facts about a data set's log that a schedule needs, out of its schema file.

A DAG file imports no package of ours, so the file is read as plain YAML; the jobs check it. It is
found where they find it: in RANKING_SCHEMAS, among the built-in files, in installed packages. One
in Python is not run: the YAML that was written from it is read, while it is of the same content.
"""

import dataclasses
import datetime
import hashlib
import importlib.metadata
import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import yaml

BUILT_IN = Path(__file__).resolve().parents[2] / "features" / "datasets"
_GROUP = "wukong_ranking.schemas"
_WRITTEN = ".py.yaml"
_MADE_FROM = re.compile(r"# (\S+) ([0-9a-f]{64})")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Log:
    """The facts about a data set's log that a schedule needs."""

    first_day: datetime.date
    last_day: datetime.date | None
    """Last day of a finished log; None where the log goes on."""
    holdout_days: int
    """Newest days that a candidate does not train on, so that it can be judged on them."""
    suffix: str
    """How the name of a landed day ends."""
    source: dict[str, str]
    """What says when a day has landed: ``format``, ``marker``, and of a table ``path``,
    ``partition``, ``column`` and ``unit`` of the time; empty where the file does not say."""
    events: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """How those of the labels that come later end, by the label's name."""
    maturity_days: int = 0
    """Days from a day until all its impressions have their final label."""
    learns_immature: bool = False
    """Whether rows are learnt before their label is final, too."""


class _Source(TypedDict, total=False):
    """What is read of a source."""

    format: str
    compression: str
    suffix: str
    path: str
    partition: str
    time: dict[str, str]
    ready: dict[str, str]


class _Label(TypedDict, total=False):
    """What is read of a label."""

    source: _Source
    window: str
    delay: str
    immature: dict[str, object]


def log_of(dataset: str, schemas: Sequence[Path]) -> Log:
    """The facts about a data set's log; ``schemas`` are the files and folders of RANKING_SCHEMAS.

    Raises:
        ValueError: There is no file of this name, with those that there are; it lacks a fact; or
            what was written from Python is missing or of another content.
    """
    found = []
    for place in _places(schemas):
        paths = sorted(place.iterdir()) if place.is_dir() else [place]
        files = {path.stem: path for path in paths if _is_schema_file(path, place)}
        if dataset in files:
            path = files[dataset]
            return _read(_written_from(path) if path.suffix == ".py" else path)
        found += [str(files[name]) for name in sorted(files)]
    raise ValueError(f"RANKING_DATASETS {dataset!r}: unknown; the schema files are {found}")


def _is_schema_file(path: Path, place: Path) -> bool:
    """Whether a file is YAML of its own, or Python that assigns what a schema file does."""
    if path.suffix == ".py":
        return place != BUILT_IN and b"SCHEMA_FILE" in path.read_bytes()
    return path.suffix in {".yaml", ".yml"} and not path.name.endswith(_WRITTEN)


def _places(schemas: Sequence[Path]) -> Iterator[Path]:
    yield from schemas
    yield BUILT_IN
    for entry in importlib.metadata.entry_points(group=_GROUP):
        try:
            spec = importlib.util.find_spec(entry.module)
        except ModuleNotFoundError as error:  # of a dotted name the part before it is imported
            raise ValueError(
                f"package {entry.value} (entry point {entry.name}): is no package; {error}"
            ) from error
        folders = (spec and spec.submodule_search_locations) or [(spec and spec.origin) or ""]
        yield from map(Path, filter(None, folders))


def _written_from(python: Path) -> Path:
    """The YAML next to a Python file; ValueError where it was not written from what is there."""
    written = python.with_name(f"{python.stem}{_WRITTEN}")
    reason = "is not there"
    if written.is_file():
        made_from = _MADE_FROM.findall(written.read_text(encoding="utf-8", errors="replace"))
        changed = [name for name, digest in made_from if _sha256(python.parent / name) != digest]
        if made_from and not changed:
            return written
        reason = f"was written from another {', '.join(changed) or python.name}"
    raise ValueError(
        f"{written}: {reason}, and DAG files do not run Python schema files; "
        f"`python -m features schema-yaml --schema {python}` writes it"
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _read(path: Path) -> Log:
    try:
        declared = yaml.safe_load(path.read_text(encoding="utf-8"))
        source, later = declared["source"], _later(declared.get("labels", {}))
        target = later.get(declared.get("target", ""))
        log = Log(
            first_day=declared["first_day"],
            last_day=declared.get("last_day"),
            holdout_days=declared["holdout_days"],
            suffix=_suffix(source),
            source=_source(source),
            events={name: _suffix(one["source"]) for name, one in later.items()},
            maturity_days=_maturity_days(target),
            learns_immature=bool(target and target.get("immature")),
        )
        _check_types(log)
    # A ValueError: a date such as 2025-13-01, or bytes that are no UTF-8.
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path}: is no schema file; `python -m features describe --schema {path}` says why"
        ) from error
    return log


def _suffix(source: _Source) -> str:
    parts = filter(None, (source.get("format"), source.get("compression")))
    return ".".join(parts) or source["suffix"]


def _source(source: _Source) -> dict[str, str]:
    time, ready = source.get("time") or {}, source.get("ready") or {}
    given = {
        "format": source.get("format"),
        "path": source.get("path"),
        "partition": source.get("partition"),
        "marker": ready.get("marker"),
        "column": time.get("column", "timestamp"),
        "unit": time.get("unit"),
    }
    return {key: str(value or "") for key, value in given.items()}


def _later(labels: Mapping[str, _Label]) -> dict[str, _Label]:
    """The labels that come later, which have events of their own."""
    return {name: one for name, one in labels.items() if "window" in one}


def _maturity_days(label: _Label | None) -> int:
    """As ``features.schema.Schema.maturity_days``; 0 where the label is in the row."""
    if label is None:
        return 0
    known_after = _span(label["window"]) + _span(label["delay"])
    return -(-known_after // datetime.timedelta(days=1))


def _span(text: str) -> datetime.timedelta:
    unit = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}[text[-1]]
    return datetime.timedelta(**{unit: int(text[:-1])})


def _check_types(log: Log) -> None:
    """TypeError for a fact of another type, such as a date in quotes, which is a text."""
    types: dict[str, set[type]] = {
        "first_day": {datetime.date},
        "last_day": {datetime.date, type(None)},
        "holdout_days": {int},
        "suffix": {str},
    }
    for name, allowed in types.items():
        value = getattr(log, name)
        if type(value) not in allowed:  # neither a bool as an int, nor a moment as a day
            raise TypeError(f"{name}: {value!r} is of type {type(value).__name__}")
