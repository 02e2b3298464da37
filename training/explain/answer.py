"""One answer of the prediction log: its candidates, and what was read for each."""

import datetime
import uuid
from collections.abc import Mapping
from typing import NamedTuple

import pyarrow as pa
import pyarrow.dataset as pads

from features.lake.snapshot import open_table
from features.places import Place
from features.prediction_log.columns import ANSWER, CANDIDATE, SENT_ITEM
from features.prediction_log.table import table_root
from features.schema import DAY, Schema

Row = Mapping[str, object]
_SHADOW = "shadow"
_SHOWN = 5


class Answer(NamedTuple):
    """The rows of an answer; those of a shadow are not in it, unless it has no others."""

    candidates: list[Row]
    """By rank."""

    @property
    def version(self) -> str:
        """The version that scored."""
        return str(self.candidates[0]["model_version"])

    def candidate(self, item: str) -> Row:
        """The row of an item, or of the first by rank where none is named.

        Raises:
            ValueError: The answer has no such item.
        """
        for row in self.candidates:
            if not item or str(row[SENT_ITEM]) == item:
                return row
        known = ", ".join(str(row[SENT_ITEM]) for row in self.candidates[:_SHOWN])
        raise ValueError(
            f"item {item}: not in answer {self.candidates[0]['answer_id']}, which has "
            f"{len(self.candidates)}: {known}"
        )

    def to_dict(self, most: int) -> dict[str, object]:
        """Plain values: of the answer, and of its first candidates."""
        first = self.candidates[0]
        shown = [column.name for column in CANDIDATE] + [SENT_ITEM]
        return {
            **{column.name: first[column.name] for column in ANSWER},
            "num_candidates": len(self.candidates),
            "candidates": [{name: row[name] for name in shown} for row in self.candidates[:most]],
        }


def find_answer(folder: Place, schema: Schema, answer_id: str) -> Answer:
    """Find an answer in the log of a data set.

    Args:
        folder: Of all logs.
        schema: The data set.
        answer_id: As the response had it.

    Raises:
        ValueError: There is no log, or no such answer in it: it was not logged, or its day is over.
    """
    root = table_root(folder, schema.name)
    table = open_table(root)
    if table is None:
        raise ValueError(
            f"log {root}: does not exist; --log, or RANKING_LOG_FOLDER, names its folder"
        )
    wanted = pads.field("answer_id") == answer_id
    if days := _days_of(answer_id):
        wanted &= pads.field(DAY).isin(pa.array(days, pa.date32()))
    rows = table.to_pyarrow_dataset().to_table(filter=wanted).to_pylist()
    own = [row for row in rows if row["role"] != _SHADOW] or rows
    if not own:
        raise ValueError(
            f"answer {answer_id}: {_why_not(table.get_add_actions(flatten=True), days)}"
        )
    return Answer(sorted(own, key=lambda row: int(row["rank"])))


def _days_of(answer_id: str) -> list[datetime.date]:
    """Days on which an id of version 7 may have been answered; none for another id."""
    try:
        found = uuid.UUID(answer_id)
    except ValueError:
        return []
    if found.version != 7:
        return []
    made = datetime.datetime.fromtimestamp((found.int >> 80) / 1000, datetime.UTC).date()
    return [made + datetime.timedelta(days=n) for n in (-1, 0, 1)]


def _why_not(actions: pa.RecordBatch, days: list[datetime.date]) -> str:
    kept = sorted(set(actions.column(f"partition.{DAY}").to_pylist()))
    if not kept:
        return "not in the log, which has no rows"
    span = f"the log has {kept[0]} to {kept[-1]}"
    if days and max(days) < kept[0]:
        return f"of {days[1]}, which is gone from the log (RANKING_LOG_KEEP_DAYS); {span}"
    return f"not in the log: it was not chosen, or never given; {span}"
