"""The logged answers of a day or an hour: all of them, or a sample whose weights are right."""

import datetime
import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from features.lake.snapshot import open_table
from features.places import Place
from features.prediction_log.columns import HOUR
from features.prediction_log.table import table_root
from features.schema import DAY

Weights = npt.NDArray[np.float64]
_SHADOW = "shadow"
_IS_ANSWER = pc.field("role") != _SHADOW
"""No caller got the scores of a shadow."""
_SPACE = float(1 << 64)


class Window(NamedTuple):
    """A day of answers, or an hour of one, in UTC."""

    day: datetime.date
    hour: int | None = None
    """None: the whole day."""

    def __str__(self) -> str:
        """As files are named: ``2025-06-15``, ``2025-06-15T09``."""
        return str(self.day) if self.hour is None else f"{self.day}T{self.hour:02d}"

    @property
    def end(self) -> datetime.datetime:
        """The first moment after it."""
        hours = 24 if self.hour is None else self.hour + 1
        midnight = datetime.datetime.combine(self.day, datetime.time(), datetime.UTC)
        return midnight + datetime.timedelta(hours=hours)


class Sample(NamedTuple):
    """Logged candidates, each with how many of all that were answered it stands for."""

    rows: pa.Table
    weights: Weights
    """1 over the probability that an answer like it is logged and is in the sample."""
    num_logged: int
    """Candidates that the log has of the window, those of shadows left out."""
    kept_share: float
    """Probability that a logged answer is in the sample; 1: all are."""

    @property
    def num_answers(self) -> int:
        """Answers of the sample."""
        return int(pc.count_distinct(self.rows.column("answer_id")).as_py())


def sample(folder: Place, dataset: str, window: Window, *, max_candidates: int) -> Sample | None:
    """The answers of a window, without those of shadows.

    Whole answers are left out where the log has more candidates than are to be in memory: by a
    hash of ``answer_id`` that is not the one by which the endpoint chose what it logs.

    Args:
        folder: The folder of all logs.
        dataset: The data set.
        window: The day, or the hour.
        max_candidates: Candidates of the sample, about.

    Returns:
        The sample; None where the log has none of that window.
    """
    table = open_table(table_root(folder, dataset))
    if table is None:
        return None
    parts = [(DAY, "=", str(window.day))]
    parts += [] if window.hour is None else [(HOUR, "=", str(window.hour))]
    logged = table.to_pyarrow_dataset(file_pruning_predicate=parts)
    num_logged = logged.count_rows(filter=_IS_ANSWER)
    if not num_logged:
        return None
    kept_share = min(1.0, max_candidates / num_logged)
    rows = pa.Table.from_batches(_kept(logged, kept_share), schema=logged.schema)
    probability = rows.column("inclusion_probability").to_numpy()
    return Sample(rows.combine_chunks(), 1 / (probability * kept_share), num_logged, kept_share)


def _kept(logged: pads.Dataset, kept_share: float) -> Iterator[pa.RecordBatch]:
    for batch in logged.to_batches(filter=_IS_ANSWER):
        if kept_share < 1:
            answers = batch.column("answer_id").dictionary_encode()
            drawn = np.array([_draw(one) for one in answers.dictionary.to_pylist()])
            is_kept = drawn[answers.indices.to_numpy()] < kept_share if len(batch) else []
            batch = batch.filter(pa.array(is_kept, pa.bool_()))
        yield batch


def _draw(answer_id: str) -> float:
    """A number from 0 to 1 for an answer, the same at each run."""
    digest = hashlib.blake2b(answer_id.encode(), digest_size=8, person=b"parity").digest()
    return int.from_bytes(digest, "little") / _SPACE
