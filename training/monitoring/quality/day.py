"""The quality of one day's answers: joined with labels where these are final, else estimated."""

import datetime
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.prediction_log.hashed_ids import IdHash
from features.schema import LABEL, REQUEST_TIME, Schema
from training.data.dataset import ExampleTable
from training.monitoring.quality.estimate import estimated_figures, logit_shift
from training.monitoring.quality.figures import Figures, Resampling, measured_figures
from training.monitoring.quality.mature_labels import (
    NONE,
    Found,
    find_impressions,
    impression_columns,
)
from training.monitoring.quality.results import (
    ESTIMATED,
    FORMAT_VERSION,
    MEASURED,
    Part,
    QualityDay,
    VersionDay,
    difference,
)
from training.monitoring.quality.scored_rows import (
    Bools,
    ScoredRows,
    Scorer,
    is_usable,
    rows_by_scorer,
    scored_rows,
)
from training.monitoring.quality.verdict import Judged, QualityLimits, judge
from training.monitoring.quality.versions import Known, age_days, champion_ne

_LEAST_SHARE = 0.01
"""Of a day's rows: a day with fewer, such as of a caller's wrong clock, need not have labels."""
_ONE_DAY = datetime.timedelta(days=1)
_NOT_FINAL = "labels: not final; estimated from scores"


class Labels(NamedTuple):
    """What came of a day's rows."""

    found: Found
    label: npt.NDArray[np.int64]
    """(rows,) of the log; 0 where there is no impression."""
    num_impressions: int


class Outcome(NamedTuple):
    """The results of a day, and what its page draws besides."""

    result: QualityDay
    parts: list[Part]
    measured: dict[str, tuple[ScoredRows, npt.NDArray[np.int64]]]
    """By version and role, the rows whose labels are final, and these."""


def final_labels(
    schema: Schema,
    table: ExampleTable | None,
    logged: pa.Table,
    *,
    nearest: datetime.timedelta,
    hashed: IdHash | None,
) -> Labels | None:
    """The labels of a day's answers; None while examples lack a day of the requests.

    Impressions are those of the days of the requests, and of the days after, which have what was
    shown after midnight.

    Args:
        schema: Of the data set.
        table: Its examples, which have final labels alone; None: there are none yet.
        logged: Rows of the log.
        nearest: By moments: the farthest that an impression may be from its request.
        hashed: The key of the log; None: there is none.
    """
    moments = logged[REQUEST_TIME.name].cast(pa.timestamp("us", tz="UTC")).to_numpy()
    values, counts = np.unique(moments.astype("datetime64[D]"), return_counts=True)
    days: list[datetime.date] = values.tolist()
    needed = [day for day, n in zip(days, counts, strict=True) if n >= _LEAST_SHARE * len(logged)]
    there = set(table.days(days[0], days[-1] + _ONE_DAY)) if table else set()
    if table is None or not there.issuperset(needed):
        return None
    read = sorted(there.intersection(days) | there.intersection(day + _ONE_DAY for day in days))
    impressions = table.columns(read, impression_columns(schema))
    found = find_impressions(schema, logged, impressions, nearest=nearest, hashed=hashed)
    label = impressions[LABEL].to_numpy()[np.maximum(found.impression, 0)]
    return Labels(found, np.where(found.impression == NONE, 0, label), len(impressions))


class DayQuality:
    """Makes the results of one day.

    Args:
        schema: Of the data set.
        day: Of the answers.
        logged: Their rows, at least one.
        labels: What came of them; None: not final yet.
        known: Of the versions.
        shifts: By scorer, of the logits, as the newest mature day before has them.
        limits: Of a version that is not broken.
        how: Intervals are made.
    """

    def __init__(
        self,
        schema: Schema,
        day: datetime.date,
        logged: pa.Table,
        labels: Labels | None,
        *,
        known: Mapping[str, Known],
        shifts: Mapping[Scorer, float],
        limits: QualityLimits,
        how: Resampling,
    ) -> None:
        self.schema, self.day, self.logged, self.labels = schema, day, logged, labels
        self.known, self.shifts, self.limits, self.how = known, shifts, limits, how
        self.rows = scored_rows(schema, logged)
        self.scorers = rows_by_scorer(logged)
        self.moments = logged[REQUEST_TIME.name].to_numpy()
        is_found = np.zeros(len(logged), bool)
        self.is_found: Bools = is_found if labels is None else labels.found.impression != NONE
        self.parts: list[Part] = []
        self.measured: dict[str, tuple[ScoredRows, npt.NDArray[np.int64]]] = {}

    def outcome(self, joined_by: str) -> Outcome:
        """All of it."""
        versions = [self._version(scorer, rows) for scorer, rows in self.scorers.items()]
        num_found = int(self.is_found.sum())
        result = QualityDay(
            format_version=FORMAT_VERSION,
            dataset=self.schema.name,
            day=str(self.day),
            state=ESTIMATED if self.labels is None else MEASURED,
            joined_by=joined_by,
            logged_rows=len(self.logged),
            found_rows=num_found,
            not_found_rows=len(self.logged) - num_found if self.labels else 0,
            other_key_rows=self.labels.found.num_other_key if self.labels else 0,
            impressions=self.labels.num_impressions if self.labels else 0,
            calibration_bounds=list(self.limits.calibration),
            ne_margin=self.limits.ne_margin,
            min_requests=self.limits.min_requests,
            draws=self.how.draws,
            seed=self.how.seed,
            versions=versions,
        )
        return Outcome(result, self.parts, self.measured)

    def _version(self, scorer: Scorer, of_scorer: Bools) -> VersionDay:
        good = of_scorer & is_usable(self.rows)
        rows, shift = self.rows.take(good), self.shifts.get(scorer, 0.0)
        found = good & self.is_found
        estimated = self._estimated(scorer, rows, shift)
        measured, judged = self._judged(scorer, found, num_bad=int((of_scorer & ~good).sum()))
        of_found = (
            estimated_figures(self.rows.take(found), self.how, shift=shift) if measured else None
        )
        known = self.known[scorer.version]
        through = known.learnt_through
        return VersionDay(
            version=scorer.version,
            role=scorer.role,
            learnt_through=None if through is None else str(through),
            age_days=age_days(known, self.moments[of_scorer]),
            logged_answers=rows.num_answers,
            logged_rows=int(of_scorer.sum()),
            bad_scores=int((of_scorer & ~good).sum()),
            found_rows=int(found.sum()),
            requests=self.rows.take(found).num_answers,
            training_ne=known.training_ne,
            champion_ne=champion_ne(self.known, self.scorers, scorer),
            is_broken=judged.is_broken,
            reason=judged.reason,
            estimated=estimated,
            estimate_shift=shift,
            estimated_of_found=of_found,
            measured=measured,
            estimate_off=difference(estimated, measured) if measured else None,
            estimate_off_of_found=difference(of_found, measured) if of_found and measured else None,
            logit_shift=self._shift(found),
        )

    def _estimated(self, scorer: Scorer, rows: ScoredRows, shift: float) -> Figures:
        """Of all rows of a scorer; those of its parts are noted."""
        whole: Figures = {}
        for name, hour, part in rows.parts():
            some = rows.take(part)
            figures = estimated_figures(some, self.how, shift=shift)
            whole = whole or figures
            self.parts.append(_part(scorer, ESTIMATED, name, hour, some, figures))
        return whole

    def _judged(
        self, scorer: Scorer, found: Bools, *, num_bad: int
    ) -> tuple[Figures | None, Judged]:
        """Measured figures, if labels are final and there are rows, and what they say."""
        if self.labels is None:
            return None, Judged(None, _NOT_FINAL)
        rows, label = self.rows.take(found), self.labels.label[found]
        whole: Figures = {}
        for name, hour, part in rows.parts():
            some = rows.take(part)
            figures = measured_figures(some, label[part], self.how)
            whole = whole or figures
            self.parts.append(_part(scorer, MEASURED, name, hour, some, figures))
        self.measured |= {f"{scorer.version}, {scorer.role}": (rows, label)} if len(rows) else {}
        judged = judge(
            whole,
            self.limits,
            requests=rows.num_answers,
            champion_ne=champion_ne(self.known, self.scorers, scorer),
            bad_scores=num_bad,
        )
        return whole or None, judged

    def _shift(self, found: Bools) -> float | None:
        if self.labels is None or not found.any():
            return None
        return logit_shift(self.rows.take(found), self.labels.label[found])


def newest_shifts(
    before: Sequence[QualityDay], day: datetime.date, *, maturity_days: int
) -> dict[Scorer, float]:
    """By scorer, the shift of the newest measured day whose labels were final on a day.

    Whenever the day is measured again the same shifts are taken.
    """
    last = day - datetime.timedelta(days=max(maturity_days, 1))
    shifts: dict[Scorer, float] = {}
    for result in sorted(before, key=lambda one: one["day"]):
        if datetime.date.fromisoformat(result["day"]) > last:
            break
        for one in result["versions"]:
            if one["logit_shift"] is not None and one["requests"] >= result["min_requests"]:
                shifts[Scorer(one["version"], one["role"])] = one["logit_shift"]
    return shifts


def _part(
    scorer: Scorer, kind: str, name: str, hour: int | None, rows: ScoredRows, figures: Figures
) -> Part:
    return Part(
        version=scorer.version,
        role=scorer.role,
        kind=kind,
        slice=name,
        hour=hour,
        requests=rows.num_answers,
        rows=len(rows),
        weight=float(rows.weight.sum()),
        figures=figures,
    )
