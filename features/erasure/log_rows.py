"""A user's rows in the prediction log, whether its ids are hashed or not."""

import dataclasses
import datetime
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.erasure.marks import Mask, TableMarks
from features.erasure.old_files import delete_files, free_and_left
from features.erasure.rows import row_group
from features.lake.snapshot import open_table
from features.places import Place, arrow_file
from features.prediction_log.hashed_ids import IdHash
from features.prediction_log.table import delete_answers

_ANSWER, _KEY, _KEY_ID = "answer_id", "user_key", "hash_key_id"


@dataclasses.dataclass(frozen=True)
class LogMarks:
    """The marks of the log: the id as text, or its hash by the key that is given."""

    table: TableMarks
    hashed: IdHash | None

    def columns(self, names: Sequence[str]) -> list[str]:
        """Those of the log's own, and the user's id."""
        return [name for name in (_KEY, *self.table.columns(names)) if name in names]

    def mask(self, rows: pa.Table) -> Mask:
        """By the key, or by the id as the model read it."""
        user_id = self.table.person.user_id
        keys = [str(user_id)] + ([self.hashed.user(user_id)] if self.hashed else [])
        found = pc.is_in(rows.column(_KEY), value_set=pa.array(keys))
        own = np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.bool_)
        return own | self.table.mask(rows.drop_columns([_KEY]))

    def named_in(self, rows: pa.Table) -> dict[str, list[list[int]]]:
        """Rows of answers to others whose features name the user."""
        return self.table.named_in(rows)


class ErasedLog(NamedTuple):
    """What was removed of the log."""

    rows: int
    days: dict[str, int]
    """Rows by day."""
    answers: int
    """To others too, whose features named the user."""
    files: int
    """Superseded ones that had such rows."""
    unknown_keys: list[str]
    """Ids of keys by which other rows are hashed: nobody can say whose these are."""


def erase_log(
    root: Place, marks: LogMarks, *, grace: datetime.timedelta, dry_run: bool = False
) -> ErasedLog | None:
    """Remove a user's answers from the log, and the files that had them; None without a log.

    Answers are named to Delta by their ids: what a commit was about stands in the table's history,
    which must not name the user. Servers go on appending.

    Args:
        root: The table's folder.
        marks: Which rows are the user's.
        grace: Files that no version has named stay while they are younger: a server may be about to
            commit them. ``prune-log`` removes those that nobody commits.
        dry_run: Only count.

    Raises:
        OSError: Others commit all the time.
    """
    table = open_table(root)
    if table is None:
        return None
    answers: set[str] = set()
    days: dict[str, int] = {}
    keys: set[str] = set()
    files, folder = arrow_file(root)
    actions = table.get_add_actions(flatten=True)
    parts = zip(
        actions.column("path").to_pylist(), actions.column("partition.day").to_pylist(), strict=True
    )
    for path, day in parts:
        found, other_keys = _answers_in(files, f"{folder}/{path}", marks)
        keys |= other_keys
        if found:
            answers |= set(found)
            days[str(day)] = days.get(str(day), 0) + len(found)
    if answers and not dry_run:
        delete_answers(table, sorted(answers))
    old, _ = free_and_left(root, marks, grace=grace)
    if not dry_run:
        delete_files(root, old)
    known = marks.hashed.key_id if marks.hashed else ""
    return ErasedLog(sum(days.values()), days, len(answers), len(old), sorted(keys - {known}))


def _answers_in(files: object, path: str, marks: LogMarks) -> tuple[list[str], set[str]]:
    """For each row of a user its answer, and the ids of the keys by which rows are hashed."""
    found: list[str] = []
    keys: set[str] = set()
    with pq.ParquetFile(path, filesystem=files) as file:
        names = file.schema_arrow.names
        columns = list(dict.fromkeys([_ANSWER, _KEY_ID, *marks.columns(names)]))
        for group in range(file.num_row_groups):
            rows = row_group(file, group, columns)
            mask = marks.mask(rows.drop_columns([_ANSWER, _KEY_ID]))
            for places in marks.named_in(rows).values():
                mask |= np.array([bool(one) for one in places], dtype=np.bool_)
            found += rows.column(_ANSWER).filter(pa.array(mask)).to_pylist()
            keys |= {one for one in pc.unique(rows.column(_KEY_ID)).to_pylist() if one}
    return found, keys
