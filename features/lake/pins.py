"""Pins: small files at the lake that say which version of a table somebody still needs.

``vacuum`` deletes the files of superseded versions, except those of pinned ones. Whoever reads a
version again later, as a training does that is repeated, pins it under a name and removes the pin
when it needs the version no more. A pin that cannot be read stops retention: nobody can know what
it protects.

A pin says nothing about what was learnt: it is there from when a training begins, and may go with
an erasure (``features.provenance.learnt``).
"""

import dataclasses
import datetime
import json

from features.lake.snapshot import Snapshot, listed, open_table
from features.places import Place, put_whole

FOLDER = "_pins"
"""Beside the tables; no engine takes it for one."""


@dataclasses.dataclass(frozen=True)
class Pin:
    """One version of a table, and who needs it."""

    table: str
    name: str
    version: int
    who: str
    """Which kind of job holds it, such as ``training``."""
    since: datetime.datetime


def put_pin(lake: Place, found: Snapshot, name: str, *, who: str) -> None:
    """Pin a version that was opened; a pin of that name gives way.

    Args:
        lake: The tables of a data set.
        found: The version.
        name: Of what needs it, such as a checkpoint's.
        who: Which kind of job holds it.

    Raises:
        ValueError: A file of the version is gone: a vacuum came before the pin.
    """
    since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    content = {"version": found.version, "who": who, "since": since}
    put_whole(_file(lake, found.root.name, name), json.dumps(content).encode())
    try:
        # Once the pin is there: a vacuum that begins later spares the files.
        found.require_files()
    except ValueError:
        _file(lake, found.root.name, name).unlink(missing_ok=True)
        raise


def pins(lake: Place, table: str) -> list[Pin]:
    """The pins of a table, by name.

    Raises:
        ValueError: One cannot be read, or names a version that the table does not have.
    """
    found = [
        _read(lake, table, name.removesuffix(".json"))
        for name, _ in listed(lake / FOLDER / table)
        if name.endswith(".json")
    ]
    newest = open_table(lake / table) if found else None
    for pin in found:
        if newest is None or not 0 <= pin.version <= newest.version():
            raise ValueError(
                f"pin {_file(lake, table, pin.name)}: version {pin.version}; the newest of the "
                f"table is {newest.version() if newest else 'none'}; remove the pin if nobody "
                "needs the version"
            )
    return found


def all_pins(lake: Place) -> list[Pin]:
    """The pins of all tables; raises as ``pins``."""
    return [pin for table, _ in listed(lake / FOLDER) for pin in pins(lake, table)]


def remove_pin(lake: Place, pin: Pin) -> None:
    """Its version is needed no more; nothing where the pin is gone already."""
    _file(lake, pin.table, pin.name).unlink(missing_ok=True)


def _read(lake: Place, table: str, name: str) -> Pin:
    file = _file(lake, table, name)
    try:
        found = json.loads(file.read_bytes())
        since = datetime.datetime.fromisoformat(found["since"])
        return Pin(table, name, int(found["version"]), str(found["who"]), since)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"pin {file}: cannot be read ({error!r}); nothing is deleted while it is there: "
            "repair it, or remove it if nobody needs its version"
        ) from error


def _file(lake: Place, table: str, name: str) -> Place:
    return lake / FOLDER / table / f"{name}.json"
