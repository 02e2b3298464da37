"""Whether a day has come out the same at two places."""

import datetime
import json
from collections.abc import Mapping

from features.lake.lake import Lake
from features.lake.snapshot import tables
from features.places import Place


def differing_tables(dataset: str, day: datetime.date, here: Place, there: Place) -> list[str]:
    """Tables that have not the same content of the day at both."""
    lakes = [Lake(data / "lake", dataset) for data in (here, there)]
    names = {name for data in (here, there) for name in tables(data / "lake" / dataset)}
    return [
        name for name in sorted(names) if len({_content(lake, name, day) for lake in lakes}) > 1
    ]


def _content(lake: Lake, table: str, day: datetime.date) -> str:
    return lake.manifest(table, day).content_hash if lake.has(table, day) else ""


def tensors_of(dataset: str, day: datetime.date, data: Place) -> Mapping[str, str]:
    """SHA-256 of each rank's part of the day's checkpoint; its metadata names a folder."""
    manifest = data / "checkpoints" / dataset / str(day) / "manifest.json"
    files: dict[str, str] = json.loads(manifest.read_text())["files"]
    tensors = {name: value for name, value in files.items() if name.endswith(".distcp")}
    assert tensors
    return tensors
