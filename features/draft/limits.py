"""Days, holdout, label and limits of a draft, from what was observed."""

import datetime

from features.draft.commented_yaml import Guess
from features.draft.entries import Entry
from features.draft.log.moments import FEW_ROWS, Moments
from features.draft.log.names import POSITIVE, words
from features.draft.log.profile import Profile
from features.draft.log.sample import Sample, quoted
from features.draft.roles import Chosen
from features.schema import Dtype

_FAR = 4.0
"""How many times the observed rates of a day a rate may be before a day stops."""
_LEAST_WEIGHT, _MOST_WEIGHT = 10, 1_000
_WEEK = 7


def days(moments: Moments) -> Entry:
    """First day, holdout and epoch."""
    first, seen = moments.first, len(moments.days)
    said = f"{seen} days with rows were seen, {first} to {moments.last}"
    opening = moments.days[first] < FEW_ROWS * moments.median_rows
    if opening:
        said += f"; the first has {moments.days[first]:,} rows, the median {moments.median_rows:,}"
    holdout = _WEEK if moments.span_days >= 8 * _WEEK and moments.median_rows < 5_000 else 1
    return {
        "first_day": Guess(first, said),
        "holdout_days": Guess(holdout, f"{moments.median_rows:,} rows a day to judge a model on"),
        "epoch": Guess(
            first - datetime.timedelta(days=365),
            "attributes hold since then; any day before the first will do",
        ),
        "time_context": _time_context(moments),
    }


def _time_context(moments: Moments) -> Guess:
    if moments.span_days < 2 * _WEEK:
        return Guess(["hour_of_day"], "fewer than two weeks were seen: no day_of_week")
    return Guess(["hour_of_day", "day_of_week"], "inputs from the moment of a request, UTC")


def label(sample: Sample, chosen: Chosen, column: str) -> tuple[str, Entry, float]:
    """Name and entry of a label, and its rate."""
    of = chosen.column
    start = 1.0 if of.is_binary else _threshold(of)
    rate = _rate(sample, of, start)
    entry: Entry = {"column": Guess(column, chosen.why), "positive_from": _whole(start)}
    if of.is_binary:
        name = next((POSITIVE[word] for word in words(of.landed) if word in POSITIVE), "positive")
        entry["delay"] = Guess(
            "10m", "from the impression until the log knows of it: measure yours"
        )
    else:
        name = "liked"
        entry["positive_from"] = Guess(_whole(start), f"{rate:.1%} have it; the nearest to half")
        entry["delay"] = Guess("0s", "a rating is known when it is given")
        if of.dtype is Dtype.INT64:
            entry["has_rating"] = True
    shown = min(max(float(f"{rate:.2g}"), 0.0001), 0.9999)
    entry["prior_rate"] = Guess(shown, f"{rate:.3%} of the rows are positive")
    entry["prior_weight"] = min(max(round(1 / shown), _LEAST_WEIGHT), _MOST_WEIGHT)
    return name, entry, rate


def limits(sample: Sample, moments: Moments, chosen: Chosen, positive_from: float) -> Entry:
    """What a day may look like, with room around what was seen."""
    column = quoted(chosen.column.landed)
    rates = [
        float(rate)
        for (rate,) in sample.connection.execute(
            f"SELECT avg((try_cast({column} AS DOUBLE) >= {positive_from})::INT) AS rate FROM "
            f"{sample.table} GROUP BY {moments.sql}::DATE "
            "HAVING count(*) >= 20 AND rate IS NOT NULL"
        ).fetchall()
    ] or [0.0, 1.0]
    low, high = min(rates), max(rates)
    seen = f"{low:.2%} to {high:.2%} of a day's rows were positive"
    return {
        "min_positive_rate": Guess(float(f"{low / _FAR:.2g}"), seen),
        "max_positive_rate": float(f"{min(high * _FAR, (1 + high) / 2, 1.0):.2g}"),
        **_rows_of_days(moments),
    }


def _rows_of_days(moments: Moments) -> Entry:
    counts, median = list(moments.days.values()), moments.median_rows
    # The first and the last day of a sample may be cut off.
    inner = counts[1:-1] or counts
    fewest, most = min(inner), max(counts)
    entry: Entry = {
        "min_share_of_trailing_rows": Guess(
            float(f"{min(0.2, fewest / median / 2):.2g}"),
            f"a day had {fewest:,} to {most:,} rows, {median:,} in the middle",
        ),
        "max_times_trailing_rows": max(5, round(2 * most / median)),
    }
    if len(counts) < moments.span_days:
        empty = moments.span_days - len(counts)
        entry["min_rows"] = Guess(0, f"{empty} days between the first and the last have no rows")
        entry["min_share_of_trailing_rows"] = Guess(0, "days without rows are there")
    return entry


def _threshold(column: Profile) -> float:
    """The grade from which on nearest to half of the rows are."""
    grades = sorted((float(value), rows) for value, rows in column.frequent.items())
    total, above, best = sum(rows for _, rows in grades), 0, (2.0, grades[-1][0])
    for grade, rows in reversed(grades):
        above += rows
        best = min(best, (abs(above / total - 0.5), grade))
    return best[1]


def _rate(sample: Sample, column: Profile, start: float) -> float:
    found = sample.connection.execute(
        f"SELECT avg((try_cast({quoted(column.landed)} AS DOUBLE) >= {start})::INT) "
        f"FROM {sample.table}"
    ).fetchone()
    return float(found[0] or 0) if found else 0.0


def _whole(number: float) -> float | int:
    return int(number) if number.is_integer() else number
