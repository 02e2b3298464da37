"""Which version of the examples a training reads, pinned so that it can be trained again."""

import datetime

from features.lake.pins import all_pins, put_pin, remove_pin
from features.lake.snapshot import snapshot
from features.places import Place
from features.schema import Schema

EXAMPLES = "examples"
LONGEST_TRAINING = datetime.timedelta(days=2)
WHO = "training"
"""Holder of a training's pins."""


def pin_examples(lake: Place, schema: Schema, checkpoint: str, version: int | None) -> int:
    """Pin the examples that a run reads, under its checkpoint's name; returns their version.

    A checkpoint that is trained again may read another version; the one before stays pinned for as
    long as the checkpoint that is there was trained on it.

    Args:
        lake: The lakes of all data sets.
        schema: The data set.
        checkpoint: Name of the checkpoint to be.
        version: The version to read; None: the newest.

    Raises:
        ValueError: There are no examples or no such version, or its files are gone.
    """
    root = lake / schema.name
    found = snapshot(root / EXAMPLES, version)
    if not found.days:
        raise ValueError(f"table {found.root}: does not exist; run `python -m features examples`")
    put_pin(root, found, f"{checkpoint}-v{found.version}", who=WHO)
    return found.version


def unpin(
    lake: Place, schema: Schema, needed: set[tuple[str, int]], *, grace: datetime.timedelta
) -> list[str]:
    """Remove the pins of trainings of which no checkpoint and no artifact is left.

    Args:
        lake: The lakes of all data sets.
        schema: The data set.
        needed: Table and version that those which are left were trained on.
        grace: Younger pins stay: their training may still run.

    Returns:
        The pins' names.

    Raises:
        ValueError: A pin cannot be read.
    """
    root, before = lake / schema.name, datetime.datetime.now(datetime.UTC) - grace
    gone = [
        pin
        for pin in all_pins(root)
        if pin.who == WHO and (pin.table, pin.version) not in needed and pin.since < before
    ]
    for pin in gone:
        remove_pin(root, pin)
    return [pin.name for pin in gone]
