"""The erasure of a planted user."""

import datetime
from pathlib import Path

import pytest
from support.erasure import planted
from support.erasure.planted import GONE

from features.erasure.forget import Erasure, Places
from features.erasure.person import person_of
from features.places import place
from features.schema import Schema

UNTIL = datetime.datetime(2025, 4, 1, tzinfo=datetime.UTC)


def erasure(schema: Schema, var: Path, *, user: str = GONE, hours: int = 0) -> Erasure:
    root = place(var)
    places = Places(
        lake=root / "lake",
        store=root / "feast",
        log=root / "log",
        landing=None,
        reports=root / "reports",
        proofs=root / "proofs",
    )
    return Erasure(
        person_of(schema, user),
        places,
        log_key=planted.LOG_KEY,
        grace=datetime.timedelta(hours=hours),
        session=pytest.fail,
    )
