"""Days of a log without its rows: counts of a distribution, drawn at once."""

import datetime

import numpy as np
from scipy import stats

from training.data.profile import Key, Profile
from training.data.sketches import Numbers

EDGES = stats.norm.ppf(np.arange(1, 65) / 65)
"""Values at which the distribution of a feature is kept."""
FIRST = datetime.date(2025, 1, 6)
SLICES = {"all": 1.0, "tenth": 0.1}
"""Shares of the rows."""


def made_days(
    seed: int,
    *,
    rows: int | np.ndarray,
    features: int,
    days: int,
    effects: np.ndarray | None = None,
    shifts: dict[tuple[int, str, str], float] | None = None,
) -> tuple[Profile, dict[datetime.date, Profile]]:
    """A reference, and days of normal features of which a share of the rows is in a slice.

    Args:
        seed: Of the rows.
        rows: Of a day, or of each.
        features: How many there are, ``f0`` and so on.
        days: How many days.
        effects: (days, features) by how many deviations all rows of a day are off.
        shifts: The same of a slice on a day and on all days after it, by day, slice and feature.
    """
    random = np.random.default_rng(seed)
    keys = [Key(part, f"f{number}") for part in SLICES for number in range(features)]
    reference = Profile({}, {key: _drawn(random, SLICES[key.slice] * 50_000, 0) for key in keys})
    made = {}
    for number in range(days):
        off = {key: 0.0 if effects is None else effects[number, int(key[1][1:])] for key in keys}
        for (first, *key), shift in (shifts or {}).items():
            off[Key(*key)] += shift if number >= first else 0.0
        size = int(np.broadcast_to(rows, days)[number])
        sketches = {key: _drawn(random, SLICES[key.slice] * size, off[key]) for key in keys}
        about = {"source": "log", "label_day": "", "label_stamp": "", "rows": size}
        made[FIRST + datetime.timedelta(days=number)] = Profile(about, sketches)
    return reference, made


def _drawn(random: np.random.Generator, rows: float, shift: float) -> Numbers:
    chances = np.diff(np.r_[0.0, stats.norm.cdf(EDGES - shift), 1.0])
    counts = random.multinomial(round(rows), chances).astype(float)
    between, at = counts[:-1].copy(), np.zeros(len(EDGES))
    between[-1] += counts[-1]
    at[0], between[0] = between[0], 0.0
    return Numbers(values=EDGES, at=at, between=between, missing=0.0, rows=rows)
