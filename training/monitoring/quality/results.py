"""The results of a day: ``<reports>/<data set>/quality/<day>/``, replaced as a whole by a re-run.

``rows.jsonl`` has a row for each version, role, slice and hour; ``day.json``, put last, what is
said of each version. A day without ``day.json`` is not there.
"""

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TypedDict

from features.places import Place, put_whole
from training.monitoring.quality.figures import Figures

FORMAT_VERSION = 1
"""Of ``day.json`` and ``rows.jsonl``; one more whenever the meaning of a field changes."""
KIND = "quality"
MEASURED, ESTIMATED = "measured", "estimated"
DAY_FILE, ROWS_FILE = "day.json", "rows.jsonl"


class VersionDay(TypedDict):
    """What a day says of one version in one of its roles."""

    version: str
    role: str
    learnt_through: str | None
    """Newest day that the version has learnt; None: its artifact is gone."""
    age_days: int | None
    """Days from that one to the day of most of its requests."""
    logged_answers: int
    logged_rows: int
    bad_scores: int
    """Rows whose score is no probability; they are in no figure."""
    found_rows: int
    """Rows that have an impression with a final label."""
    requests: int
    """Answers with such a row: those that are judged."""
    training_ne: float | None
    """Its normalised entropy on the days held out at its training."""
    champion_ne: float | None
    """The same of the champion that answered on the day."""
    is_broken: bool | None
    reason: str
    estimated: Figures
    """Of all logged rows, from scores alone."""
    estimate_shift: float
    """Of the logits, with which the estimate was made."""
    estimated_of_found: Figures | None
    """The same of those with an impression, of which ``measured`` is."""
    measured: Figures | None
    """None while labels are not final."""
    estimate_off: dict[str, float] | None
    """``estimated`` minus ``measured``."""
    estimate_off_of_found: dict[str, float] | None
    """``estimated_of_found`` minus ``measured``: without what comes from which rows were shown."""
    logit_shift: float | None
    """The shift that would have made the scores of the day calibrated."""


class Part(TypedDict):
    """A row of ``rows.jsonl``: figures of one part of a version's rows."""

    version: str
    role: str
    kind: str
    """``MEASURED`` or ``ESTIMATED``."""
    slice: str
    hour: int | None
    """None: the whole day."""
    requests: int
    rows: int
    weight: float
    """How many candidates the rows stand for."""
    figures: Figures


class QualityDay(TypedDict):
    """``day.json``."""

    format_version: int
    dataset: str
    day: str
    """Day (UTC) of the answers."""
    state: str
    """``MEASURED`` once labels are final, ``ESTIMATED`` until then."""
    joined_by: str
    logged_rows: int
    found_rows: int
    not_found_rows: int
    other_key_rows: int
    """Of these, rows whose ids were hashed by a key that was not known."""
    impressions: int
    """Impressions with a final label of the days of the requests."""
    calibration_bounds: list[float]
    ne_margin: float
    min_requests: int
    draws: int
    seed: int
    versions: list[VersionDay]


def day_folder(dataset: str, day: datetime.date | str) -> str:
    """Where a day's results are, below the folder of reports."""
    return f"{dataset}/{KIND}/{day}"


def write_day(reports: Place, result: QualityDay, parts: Sequence[Part]) -> None:
    """Put a day's results, in place of those that were there."""
    folder = reports / day_folder(result["dataset"], result["day"])
    lines = (json.dumps(_flat(result["day"], part), allow_nan=False) for part in parts)
    put_whole(folder / ROWS_FILE, "".join(f"{line}\n" for line in lines).encode())
    put_whole(folder / DAY_FILE, json.dumps(result, indent=1, allow_nan=False).encode())


def read_days(
    reports: Place, dataset: str, first: datetime.date, last: datetime.date
) -> Iterator[QualityDay]:
    """Results of the days from ``first`` to ``last`` that have some, the oldest first."""
    for number in range((last - first).days + 1):
        folder = reports / day_folder(dataset, first + datetime.timedelta(days=number))
        try:
            text = (folder / DAY_FILE).read_text()
        except FileNotFoundError:
            continue
        found: QualityDay = json.loads(text)
        if found["format_version"] == FORMAT_VERSION:
            yield found


def difference(estimated: Figures, measured: Figures) -> dict[str, float]:
    """How far an estimate was off, by figure; without those of which one is not known."""
    pairs = {name: (one["value"], measured[name]["value"]) for name, one in estimated.items()}
    return {
        name: guess - truth
        for name, (guess, truth) in pairs.items()
        if guess is not None and truth is not None
    }


def _flat(day: str, part: Part) -> Mapping[str, object]:
    """A part as a row of a table: a column for each figure and each end of its interval."""
    row: dict[str, object] = {"day": day, **{k: v for k, v in part.items() if k != "figures"}}
    for name, figure in part["figures"].items():
        row |= {name: figure["value"], f"{name}_low": figure["low"], f"{name}_high": figure["high"]}
    return row
