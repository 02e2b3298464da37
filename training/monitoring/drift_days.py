"""Days that are compared: of the log of answers, or of the examples; their profiles are kept.

A profile is made once for each day and kept below the reports, so that a day is compared with the
noise of weeks without reading weeks of rows. It is made again when the day has other rows by now.
"""

import collections
import dataclasses
import datetime
import zlib
from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from features.encoding.encode import encode
from features.lake.snapshot import open_table
from features.places import Place, put_whole
from features.prediction_log.columns import status_column
from features.prediction_log.replay import encoded_columns
from features.prediction_log.table import table_root
from features.schema import DAY, REQUEST_TIME, Schema
from training.artifact.reference import Score, example_rows
from training.data.dataset import ExampleTable
from training.data.profile import LABEL, Key, Profile, Rows, profile_rows
from training.data.sampled_rows import sampled_rows
from training.data.sketches import Sketch

MOST_ROWS = 200_000
"""Of a day: of more, a sample by a hash of their ids."""
_ANSWER = "answer_id"
_WEIGHT = "inclusion_probability"
_OF_ANSWER = (_ANSWER, _WEIGHT, "model_version", "hash_key_id", "score", "schema_fingerprint")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DayRows:
    """Rows of a day."""

    rows: Rows
    version: str
    """Of the ranker whose scores they have."""
    without: frozenset[str] = frozenset()
    """Features that are not comparable with those that were learnt."""


class Source(Protocol):
    """Where the rows of days are."""

    name: str

    def stamp(self, day: datetime.date) -> str:
        """Changes whenever the day's rows do; empty where it has none."""

    def rows(self, day: datetime.date) -> DayRows | None:
        """Rows of a day; None where it has none."""


class LoggedAnswers:
    """The log of answers: what was served, shadows left out.

    Scores are those of the version that has answered most of the day; inputs are of all versions.
    """

    name = "log"

    def __init__(self, folder: Place, schema: Schema) -> None:
        """Open the log; ValueError where there is none."""
        found = open_table(table_root(folder, schema.name))
        if found is None:
            raise ValueError(f"{table_root(folder, schema.name)}: no log of answers")
        self._table: DeltaTable = found
        self._schema = schema
        self._num_rows: collections.Counter[datetime.date] = collections.Counter()
        actions = found.get_add_actions(flatten=True)
        days = actions.column(f"partition.{DAY}").to_pylist()
        for day, count in zip(days, actions.column("num_records").to_pylist(), strict=True):
            self._num_rows[day] += count

    def stamp(self, day: datetime.date) -> str:
        """The number of the day's rows: a log only grows, and its files are written together."""
        return str(self._num_rows[day] or "")

    def rows(self, day: datetime.date) -> DayRows | None:
        """Rows of the day that this schema made."""
        if not self.stamp(day):
            return None
        table = self._read(day)
        if not len(table):
            return None
        columns = encoded_columns(self._schema, table)
        weight = 1 / table.column(_WEIGHT).to_numpy()
        versions = table.column("model_version").to_numpy()
        names, which = np.unique(versions, return_inverse=True)
        main = int(np.bincount(which, weight).argmax())
        score = np.where(which == main, table.column("score").to_numpy(), np.float32("nan"))
        without = {column.name for column in self._schema.context if column.neutral is not None}
        if self._schema.user and table.column("hash_key_id").null_count < len(table):
            without.add(self._schema.user.name)
        inputs = encode(self._schema, columns)
        rows = Rows(columns=columns, inputs=inputs, weight=weight, score=score)
        return DayRows(rows=rows, version=str(names[main]), without=frozenset(without))

    def _read(self, day: datetime.date) -> pa.Table:
        found = self._table.to_pyarrow_dataset(file_pruning_predicate=[(DAY, "=", str(day))])
        names = list(dict.fromkeys((*_OF_ANSWER, *self._columns())))
        if not set(names) <= set(found.schema.names):
            return pa.table({})
        is_served = (pc.field("role") != "shadow") & (
            pc.field("schema_fingerprint") == self._schema.fingerprint()
        )
        share = MOST_ROWS / max(found.count_rows(filter=is_served), 1)
        parts = [
            batch if share >= 1 else batch.filter(pa.array(_is_drawn(batch.column(0), share)))
            for batch in found.to_batches(columns=names, filter=is_served)
        ]
        schema = pa.schema([found.schema.field(name) for name in names])
        return pa.Table.from_batches(parts, schema).combine_chunks()

    def _columns(self) -> Iterator[str]:
        """What is encoded, and whether each table's row could be used."""
        yield from (column.name for _, column in self._schema.entities())
        yield from (column.name for column in self._schema.context)
        yield REQUEST_TIME.name
        for table in self._schema.tables:
            yield from table.encoded_columns
            yield status_column(table)


class LandedExamples:
    """The examples of the lake: what was shown, once its labels are known."""

    name = "examples"

    def __init__(self, table: ExampleTable, schema: Schema, *, version: str, score: Score) -> None:
        """Args: the examples, the schema, the ranker that scores them and how it does."""
        self._table, self._schema = table, schema
        self._version, self._score = version, score

    def stamp(self, day: datetime.date) -> str:
        """The content hash of the day."""
        return label_stamp(self._table, day)

    def rows(self, day: datetime.date) -> DayRows | None:
        """Rows of the day, scored."""
        table = sampled_rows(self._table, self._table.days(day, day), most=MOST_ROWS)
        if table is None:
            return None
        rows = example_rows(self._schema, table, score=self._score)
        return DayRows(rows=rows, version=self._version)


class Profiles:
    """Profiles of days, one file each below a folder."""

    def __init__(
        self, folder: Place, schema: Schema, source: Source, *, examples: ExampleTable | None
    ) -> None:
        """Args: the folder; schema and source of the days; examples, which have the labels."""
        self._folder, self._schema, self._source = folder, schema, source
        self._examples = examples

    @property
    def _has_own_labels(self) -> bool:
        """Whether rows of the source have their labels; else the examples have them later."""
        return self._source.name == LandedExamples.name

    def label_day(self, day: datetime.date) -> datetime.date:
        """The newest day whose labels are final when a day has landed."""
        if self._has_own_labels:
            return day
        return day - datetime.timedelta(days=self._schema.maturity_days)

    def of_day(self, day: datetime.date, *, anew: bool = False) -> Profile | None:
        """The profile of a day, made where it is not kept, or where the day has changed.

        Args:
            day: Which.
            anew: Make it whatever is kept.

        Returns:
            The profile; None where the day has no rows.
        """
        stamp = self._source.stamp(day)
        if not stamp:
            return None
        path = self._folder / day.isoformat() / "profile.parquet"
        kept = None if anew or not path.exists() else Profile.from_bytes(path.read_bytes())
        expected = {"stamp": stamp, "schema_fingerprint": self._schema.fingerprint()}
        label_stamp = self._label_stamp(day)
        if kept is not None and expected.items() <= kept.about.items():
            if kept.about.get("label_stamp") == label_stamp:
                return kept
            # Labels have come, or are others; what was answered is as it was.
            others = {
                key: one
                for key, one in kept.sketches.items()
                if key.feature != LABEL or self._has_own_labels
            }
            return self._put(path, {**kept.about, "label_stamp": label_stamp}, others, day)
        found = self._source.rows(day)
        if found is None:
            return None
        sketches = profile_rows(self._schema, found.rows)
        sketches = {key: one for key, one in sketches.items() if key.feature not in found.without}
        about: dict[str, object] = {
            **expected,
            "source": self._source.name,
            "day": day.isoformat(),
            "label_day": self.label_day(day).isoformat(),
            "label_stamp": label_stamp,
            "version": found.version,
            "rows": len(found.rows.weight),
        }
        return self._put(path, about, sketches, day)

    def _put(
        self,
        path: Place,
        about: dict[str, object],
        sketches: Mapping[Key, Sketch],
        day: datetime.date,
    ) -> Profile:
        """Keep a profile with the labels that are known now."""
        made = Profile(about, {**sketches, **self._labels(day)})
        put_whole(path, made.to_bytes())
        return made

    def _label_stamp(self, day: datetime.date) -> str:
        """Content hash of the examples that have the labels; empty where none have them yet."""
        if self._has_own_labels:
            return self._source.stamp(day)
        return label_stamp(self._examples, self.label_day(day))

    def _labels(self, day: datetime.date) -> dict[Key, Sketch]:
        """Shares of positives by slice; of answers from the examples, where they are there."""
        if self._has_own_labels or self._examples is None:
            return {}
        of = self.label_day(day)
        rows = sampled_rows(self._examples, self._examples.days(of, of), most=MOST_ROWS)
        if rows is None:
            return {}
        found = profile_rows(self._schema, example_rows(self._schema, rows), has_inputs=False)
        return {key: one for key, one in found.items() if key.feature == LABEL}


def label_stamp(examples: ExampleTable | None, day: datetime.date) -> str:
    """Content hash of a day of examples; empty where it is not there."""
    if examples is None or not examples.days(day, day):
        return ""
    return examples.content_hashes([day])[day.isoformat()]


def _is_drawn(answer_ids: pa.Array, share: float) -> npt.NDArray[np.bool_]:
    """Whether each answer is in a sample of this share: all of its rows or none."""
    encoded = answer_ids.dictionary_encode()
    limit = share * 2**32
    drawn = [zlib.crc32(one.encode()) < limit for one in encoded.dictionary.to_pylist()]
    return np.asarray(np.array(drawn, dtype=np.bool_)[encoded.indices.to_numpy()])
