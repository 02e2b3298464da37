"""Results of comparisons, one JSON file a window among the reports: for the gate of promotions.

No heavy import here: who promotes reads them.
"""

import datetime
import json
import os
from collections.abc import Mapping
from typing import NamedTuple

from features.places import Place, put_whole

FOLDER = "parity"
"""Below a data set's reports."""
MAX_UNEXPLAINED = 0.001
"""Share of candidates with an unexplained mismatch above which parity is broken."""
MAX_UNEXPLAINED_VARIABLE = "RANKING_MAX_UNEXPLAINED"
REQUIRE_VARIABLE = "RANKING_REQUIRE_PARITY"


def max_unexplained() -> float:
    """The limit, as the environment sets it or ``MAX_UNEXPLAINED``."""
    text = os.environ.get(MAX_UNEXPLAINED_VARIABLE) or str(MAX_UNEXPLAINED)
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(
            f"{MAX_UNEXPLAINED_VARIABLE}: {text!r}; a number from 0 to below 1"
        ) from error


def parity_is_required() -> bool:
    """Whether a candidate is held where no result says anything, as the environment sets it."""
    text = os.environ.get(REQUIRE_VARIABLE) or "off"
    if text not in {"on", "off"}:
        raise ValueError(f"{REQUIRE_VARIABLE}: {text!r}; on or off")
    return text == "on"


def require_share(share: float) -> None:
    """ValueError for a limit that is none."""
    if not 0 <= share < 1:
        raise ValueError(f"--max-unexplained: {share}; from 0 to below 1")


class Result(NamedTuple):
    """What is read of a result."""

    window: str
    """A day, or an hour of one: ``2025-06-15``, ``2025-06-15T09``."""
    ends_at: datetime.datetime
    made_at: datetime.datetime
    compared: float
    """Candidates that were compared, in weights."""
    unexplained: float
    """Share of them with a mismatch that no cause explains."""

    @property
    def is_whole_day(self) -> bool:
        """Whether it is of a day, which judges all tables."""
        return "T" not in self.window


def path_of(dataset: str, window: str, suffix: str) -> str:
    """Where a window's result lies below the reports: ``json``, or ``html`` for people."""
    return f"{dataset}/{FOLDER}/{window}.{suffix}"


def write_result(reports: Place, dataset: str, window: str, content: Mapping[str, object]) -> None:
    """Put a result, in place of an earlier one of the same window."""
    text = json.dumps(content, indent=1) + "\n"
    put_whole(reports / path_of(dataset, window, "json"), text.encode())


def has_result(reports: Place, dataset: str, window: str) -> bool:
    """Whether a window has been compared."""
    return bool((reports / path_of(dataset, window, "json")).exists())


def newest_results(reports: Place, dataset: str) -> list[Result]:
    """The newest result of a whole day, and that of an hour after it.

    An hour judges what is built by then, and no table of state that is pushed: it does not take the
    place of a day's result. One that has compared nothing says nothing.

    Raises:
        ValueError: A result cannot be read.
    """
    folder = reports / dataset / FOLDER
    names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    found: list[Result] = []
    windows = [name.removesuffix(".json") for name in names if name.endswith(".json")]
    # By its end a day comes after its hours.
    for window in sorted(windows, key=_order, reverse=True):
        one = _read(folder / f"{window}.json", window)
        if one.compared and (one.is_whole_day or not found):
            found.append(one)
        if one.compared and one.is_whole_day:
            break
    return found


def _order(window: str) -> tuple[str, str]:
    day, _, hour = window.partition("T")
    return day, hour or "24"


def _read(path: Place, window: str) -> Result:
    try:
        content = json.loads(path.read_bytes())
        return Result(
            window,
            datetime.datetime.fromisoformat(content["ends_at"]),
            datetime.datetime.fromisoformat(content["made_at"]),
            float(content["compared"]),
            float(content["unexplained_share"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"parity result {path}: is none: {error!r}") from error
