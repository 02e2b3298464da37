"""Compares a day with the reference of the version that answered, and says what has drifted."""

import dataclasses
import datetime
import json
import math
from collections.abc import Mapping, Sequence

import numpy as np

from features.places import Place, put_whole, read_object
from training.data.dataset import ExampleTable
from training.data.profile import ROWS, Key, Profile
from training.data.sketches import FloatArray
from training.data.slices import ALL
from training.monitoring.drift_days import label_stamp
from training.monitoring.drift_judge import HISTORY_DAYS, Judged, judge, shares_of_budget
from training.monitoring.drift_noise import MIN_DAYS
from training.monitoring.drift_statistics import Statistic, statistics

ALERT = "drift"
"""Name of the alert, and of its page in infra/runbooks."""
ROWS_FILE, RESULT_FILE = "rows.jsonl", "drift.json"
GOING_ON_DAYS = 7
"""A feature that drifted within so many days before is not alerted again."""
_PLACES = 6
Measured = dict[tuple[Key, str], Statistic]
"""Statistics of a day, by distribution and name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One statistic of a day."""

    day: str
    slice: str
    feature: str
    statistic: str
    value: float
    expected: float | None
    """What it is on such a day; None, as what follows, where there are too few days to say."""
    low: float | None
    """Bounds of a single day; None below: less is no drift."""
    high: float | None
    p: float | None
    """Probability of as much without drift."""
    alpha: float
    """Below it there is a drift."""
    window: int
    """Days that, taken together, stand out most."""
    days: int
    """Days before that tell the noise."""
    alert: bool

    def reason(self) -> str:
        """In words."""
        place = "" if self.slice == ALL else f" in {self.slice}"
        expected = "unknown" if self.expected is None else f"{self.expected:.4g}"
        return (
            f"{self.feature}{place}: {self.statistic} {self.value:.4g}, expected {expected} "
            f"(p {self.p or 0.0:.1g}, limit {self.alpha:.1g}, {self.window}-day window)"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared:
    """A day and the weeks before it, compared with one reference."""

    day: datetime.date
    reference: Profile
    profile: Profile
    days: list[datetime.date]
    """Oldest first; the day is the last."""
    keys: list[tuple[Key, str]]
    """Of each statistic: its distribution and its name."""
    values: FloatArray
    """(days, statistics) as they are, NaN where a day has none."""
    rows: list[Row]

    @property
    def drifted(self) -> list[Row]:
        """Of each feature that drifts its row that is least probable, the least probable first."""
        found: dict[str, Row] = {}
        for row in sorted((row for row in self.rows if row.alert), key=lambda row: row.p or 0.0):
            found.setdefault(feature_of(row), row)
        return list(found.values())


def feature_of(row: Row) -> str:
    """What an alert is about: a feature, or a slice whose share of the rows drifts."""
    return f"share of {row.slice}" if row.feature == ROWS else row.feature


def measure(reference: Profile, day: Profile) -> Measured:
    """All statistics of a day against a reference, for what both have."""
    return {
        (key, statistic.name): statistic
        for key, sketch in day.sketches.items()
        if key in reference.sketches
        for statistic in statistics(reference.sketches[key], sketch)
    }


def compare(
    reference: Profile,
    profile: Profile,
    measured: Mapping[datetime.date, Measured],
    day: datetime.date,
) -> Compared:
    """Judge a day by the days before it.

    Args:
        reference: Of the version that answered.
        profile: Of the day.
        measured: Days against this reference; the day is one of them, later ones are left out.
        day: Which is judged.
    """
    first = day - datetime.timedelta(days=HISTORY_DAYS)
    days = sorted(one for one in measured if first <= one <= day)
    today = measured[day]
    keys, found = list(today), list(today.values())
    values, scaled = (np.full((len(days), len(keys)), np.nan) for _ in range(2))
    for number, one in enumerate(days):
        for place, key in enumerate(keys):
            if key in measured[one]:
                values[number, place] = measured[one][key].value
                scaled[number, place] = _as_of(measured[one][key], today[key]).scaled
    judged = judge(
        scaled,
        days=days,
        sampling_sd=np.array([one.scaled_sd for one in found]),
        two_sided=np.array([one.is_two_sided for one in found], dtype=np.bool_),
        alpha=shares_of_budget(np.array([key.slice == ALL for key, _ in keys], dtype=np.bool_)),
    )
    return Compared(
        day=day,
        reference=reference,
        profile=profile,
        days=days,
        keys=keys,
        values=values,
        rows=[_row(day, keys[i], found[i], judged, i) for i in range(len(keys))],
    )


def _as_of(was: Statistic, now: Statistic) -> Statistic:
    """A day's distance as it would be with as many rows as the day that is judged has.

    Sampling alone makes distances of a small day larger: a holiday is no drift.
    """
    if now.is_two_sided:
        return was
    return was._replace(value=max(was.value - was.start + now.start, 0.0), start=now.start)


def _row(
    day: datetime.date, named: tuple[Key, str], found: Statistic, judged: Judged, place: int
) -> Row:
    key, name = named
    center, low, high = (
        float(bounds[place]) for bounds in (judged.center, judged.low, judged.high)
    )
    return Row(
        day=day.isoformat(),
        slice=key.slice,
        feature=key.feature,
        statistic=name,
        value=_rounded(found.value) or 0.0,
        expected=_rounded(found.unscaled(center)),
        low=_rounded(found.unscaled(low)) if math.isfinite(low) else None,
        high=_rounded(found.unscaled(high)),
        p=_rounded(float(judged.p[place])),
        alpha=float(judged.alpha[place]),
        window=int(judged.window[place]),
        days=int(judged.num_days[place]),
        alert=bool(judged.is_drift[place]),
    )


def _rounded(value: float) -> float | None:
    """To six digits; None for what is not known."""
    return float(f"{value:.{_PLACES}g}") if math.isfinite(value) else None


def summary(compared: Compared, *, since: Mapping[str, str]) -> dict[str, object]:
    """What was found, as plain values.

    Args:
        compared: The day.
        since: Features that drifted shortly before, each with its first day.
    """
    day = compared.day.isoformat()
    features = [
        {
            "feature": feature_of(row),
            "slice": row.slice,
            "statistic": row.statistic,
            "since": since.get(feature_of(row), day),
            "is_new": feature_of(row) not in since,
            "reason": row.reason(),
            "slices": sorted(
                {
                    one.slice
                    for one in compared.rows
                    if one.alert and feature_of(one) == feature_of(row)
                }
            ),
        }
        for row in compared.drifted
    ]
    new = [str(one["reason"]) for one in features if one["is_new"]]
    what = "; ".join(new[:5]) + (f"; and {len(new) - 5} more" if len(new) > 5 else "")
    alert = {"alert": ALERT, "runbook": f"infra/runbooks/{ALERT}.md", "what": what}
    is_judged = any(row.p is not None for row in compared.rows)
    return {
        "day": day,
        "source": compared.profile.about["source"],
        "label_day": compared.profile.about["label_day"],
        "has_labels": bool(compared.profile.about.get("label_stamp")),
        "version": compared.reference.about.get("version"),
        "rows": compared.profile.about["rows"],
        "statistics": len(compared.rows),
        "days_before": len(compared.days) - 1,
        "judged": is_judged,
        "why_not_judged": None
        if is_judged
        else f"{len(compared.days) - 1} days before with rows; at least {MIN_DAYS}",
        "drifted": features,
        "alerts": [alert] if new else [],
    }


def drifted_before(
    folder: Place, day: datetime.date, *, is_second_look: bool = False
) -> dict[str, str]:
    """Features that drifted within the days before, each with the first day of this drift.

    Args:
        folder: Of the source.
        day: The day that is compared.
        is_second_look: Also those that the first look at the day has found, and alerted.
    """
    since: dict[str, str] = {}
    for back in range(0 if is_second_look else 1, GOING_ON_DAYS + 1):
        found = read_object(folder / str(day - datetime.timedelta(days=back)) / RESULT_FILE)
        drifted: Sequence[Mapping[str, str]] = found.get("drifted") or ()  # type: ignore[assignment]
        for one in drifted:
            since.setdefault(one["feature"], one["since"])
    return since


def waits(folder: Place, day: datetime.date, examples: ExampleTable | None) -> bool:
    """Whether a day has no result, or one without labels that have come by now.

    Args:
        folder: Of the source.
        day: The day.
        examples: Which have the labels; None: there are none.
    """
    found = read_object(folder / day.isoformat() / RESULT_FILE)
    if not found or found.get("has_labels", True):
        return not found
    return bool(label_stamp(examples, datetime.date.fromisoformat(str(found["label_day"]))))


def write(folder: Place, compared: Compared, found: Mapping[str, object]) -> None:
    """Put a day's rows, and then its result, in place of what it had."""
    of_day = folder / compared.day.isoformat()
    lines = "".join(f"{json.dumps(dataclasses.asdict(row))}\n" for row in compared.rows)
    put_whole(of_day / ROWS_FILE, lines.encode())
    put_whole(of_day / RESULT_FILE, (json.dumps(found, indent=1) + "\n").encode())
