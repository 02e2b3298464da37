"""What has landed, as a hash: whether it is what was read before."""

import hashlib
import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path

from features.datasets.schema_files.source_models import SourceEntry
from features.places import Place
from features.spark.landing import INTRADAY, LABELS, files_of

_CHUNK_BYTES = 1 << 20
_HASH_DIGITS = 16
_NOT_READ = {"fetch", "ready", "path", "user_path", "item_path"}
"""Of a source, what decides where and when something lands, and not how it is read."""


def content_of_files(paths: Sequence[Place]) -> str:
    """Hash of what is in some files and folders; empty where one is not there.

    A folder is its files, whatever they are called: Spark gives them other names each time.
    """
    if not paths or any(not path.exists() for path in paths):
        return ""
    return content_of_names(
        name for path in paths for name in (path.name, *sorted(map(_content, files_of(path))))
    )


def content_of_attributes(folder: Place) -> str:
    """The same of what lies in a data set's landing folder and is of no day."""
    if not folder.exists():
        return ""
    dated = {"impressions", INTRADAY, LABELS}
    found = [one for one in folder.iterdir() if one.name[0] not in "._" and one.name not in dated]
    return content_of_files(sorted(found))


def content_of_names(names: Iterable[str]) -> str:
    """Hash of names, of what does not change under its name."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:_HASH_DIGITS]


def content_of_source(source: SourceEntry) -> str:
    """Hash of how landed files are read: by the schema file, or by the code of a module."""
    how = source.model_dump_json(exclude=_NOT_READ)
    code = b""
    if source.reader:
        spec = importlib.util.find_spec(source.reader)
        code = Path(spec.origin).read_bytes() if spec and spec.origin else b""
    return hashlib.sha256(how.encode() + code).hexdigest()[:_HASH_DIGITS]


def _content(file: Place) -> str:
    found = hashlib.sha256()
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK_BYTES):
            found.update(chunk)
    return found.hexdigest()
