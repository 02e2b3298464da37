"""The day against the reference as a report of Evidently, for who knows that library.

Evidently compares two data frames. There are none: both sides are made of the distributions, each
column by itself, so what a report would say of columns together is not in them. The library is
imported here alone, when it is asked for, and sends no telemetry.
"""

import os
from typing import TYPE_CHECKING

import numpy as np

from features.places import Place, put_whole
from features.schema import Schema
from training.data.profile import Profile, category_columns
from training.data.sketches import Categories, IntArray, Numbers
from training.data.slices import ALL, category

if TYPE_CHECKING:
    import pandas as pd

PAGE = "evidently.html"
MOST_POINTS = 2_000
"""Rows of each side."""
_REST, _NONE = -1, -2
"""In place of embedding rows: all others, and no value."""


def write_report(folder: Place, schema: Schema, *, reference: Profile, day: Profile) -> str:
    """Write Evidently's report next to the day's page; returns its name.

    Args:
        folder: Of the day.
        schema: The data set's schema.
        reference: Of the version that answered.
        day: What is compared with it.

    Raises:
        ValueError: Evidently is not installed.
    """
    os.environ["DO_NOT_TRACK"] = "1"
    try:
        from evidently import DataDefinition, Dataset, Report
        from evidently.metrics import MissingValueCount, ValueDrift
        from evidently.presets import DataDriftPreset
    except ImportError as error:
        raise ValueError(
            "--evidently: the package evidently is not installed; make install brings it, and no "
            "image has it"
        ) from error
    frames = [frame(schema, profile) for profile in (reference, day)]
    common = [name for name in frames[0].columns if name in frames[1].columns]
    kinds = {key.feature: type(one) for key, one in reference.sketches.items()}
    definition = DataDefinition(
        numerical_columns=[name for name in common if kinds[name] is Numbers],
        categorical_columns=[name for name in common if kinds[name] is Categories],
    )
    was, now = (Dataset.from_pandas(one[common], definition) for one in frames)
    metrics = [DataDriftPreset(num_method="psi", cat_method="psi")]
    metrics += [ValueDrift(column=name, method="ks") for name in definition.numerical_columns]
    metrics += [MissingValueCount(column=name) for name in common]
    report = Report(metrics)
    found = report.run(current_data=now, reference_data=was)
    put_whole(folder / PAGE, found.get_html_str(as_iframe=False).encode())
    return PAGE


def frame(schema: Schema, profile: Profile) -> "pd.DataFrame":
    """Rows whose columns are distributed as a profile says, in an order that says nothing."""
    import pandas as pd

    random = np.random.default_rng(0)
    columns = {column.name: column for column in category_columns(schema)}
    found = {}
    for key, sketch in sorted(profile.sketches.items()):
        if key.slice == ALL and isinstance(sketch, Numbers) and sketch.total:
            found[key.feature] = random.permutation(_numbers(sketch))
        elif key.slice == ALL and isinstance(sketch, Categories) and sketch.total:
            rows = random.permutation(_rows(sketch))
            column = columns[key.feature]
            names = {row: category(column, int(row)) for row in np.unique(rows) if row > 0}
            others = {0: "unknown", _REST: "all others", _NONE: None}
            found[key.feature] = np.array(
                [({**others, **names})[row] for row in rows], dtype=object
            )
    return pd.DataFrame(found)


def _numbers(sketch: Numbers) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Equally probable values, NaN for what is missing."""
    known = round(MOST_POINTS * sketch.total / (sketch.total + sketch.missing))
    values = np.full(MOST_POINTS, np.nan)
    if known:
        values[:known] = sketch.quantiles((np.arange(known) + 0.5) / known)
    return values


def _rows(sketch: Categories) -> IntArray:
    """Embedding rows as often as their weights say."""
    keys = np.r_[sketch.keys, _REST, _NONE, 0]
    weights = np.r_[sketch.counts, sketch.rest, sketch.missing, sketch.unknown]
    ends = np.cumsum(weights) / sketch.total
    points = (np.arange(MOST_POINTS) + 0.5) / MOST_POINTS
    return np.asarray(keys[np.minimum(np.searchsorted(ends, points), len(keys) - 1)], np.int64)
