"""The distributions of some rows: of each input, of scores and labels, by slice, in one small file.

It has no row in it: of a hashed id the number of its embedding row is known, and how many it has.
"""

import dataclasses
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.encoding.encode import Ids, ModelInputs
from features.schema import DENSE_KINDS, Column, Schema
from training.data.sketches import (
    AnyFloats,
    Categories,
    FloatArray,
    Numbers,
    Share,
    Sketch,
    effective,
)
from training.data.slices import ALL, Slices, all_slices

FORMAT = 1
SCORE, LABEL, ROWS = "score", "label", "rows"
"""What is no input: the answered probability, the share of positives, and of a slice its share of
all rows."""
MOST_PLACES = 8
"""Of a list of numbers, such as an embedding: as many places are looked at."""
_ONE_VALUE_A_DAY = "day_of_week"
_ABOUT = b"about"
_ARRAYS = ("values", "at", "between", "counts")
_FIELDS = ("missing", "unknown", "rest", "with_it", "total", "rows")
_KINDS: dict[str, type[Numbers] | type[Categories] | type[Share]] = {
    "numbers": Numbers,
    "categories": Categories,
    "share": Share,
}
_COLUMNS = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("slice", "feature", "kind")),
        pa.field("keys", pa.list_(pa.int64())),
        *(pa.field(name, pa.list_(pa.float64())) for name in _ARRAYS),
        *(pa.field(name, pa.float64()) for name in _FIELDS),
    ]
)


class Key(NamedTuple):
    """Of one distribution."""

    slice: str
    feature: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows whose distributions are wanted."""

    columns: Mapping[str, pa.Array]
    """Raw columns, by name."""
    inputs: ModelInputs
    weight: FloatArray
    """(rows,) for how many rows each stands."""
    score: npt.NDArray[np.float32] | None = None
    """(rows,) NaN for a row whose score is not looked at; None: of none."""
    label: npt.NDArray[np.float64] | None = None


@dataclasses.dataclass(frozen=True)
class Profile:
    """Distributions, and of what they are."""

    about: dict[str, object]
    sketches: dict[Key, Sketch]

    def to_bytes(self) -> bytes:
        """As Parquet, a row for each distribution; the same profile gives the same bytes."""
        rows = [
            {"slice": key.slice, "feature": key.feature, **_plain(sketch)}
            for key, sketch in sorted(self.sketches.items())
        ]
        about = json.dumps({"format": FORMAT, **self.about}, sort_keys=True).encode()
        table = pa.Table.from_pylist(rows, _COLUMNS.with_metadata({_ABOUT: about}))
        written = io.BytesIO()
        pq.write_table(table, written, compression="zstd")
        return written.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Profile":
        """As it was written.

        Raises:
            ValueError: It is no profile, or one of another format.
        """
        try:
            table = pq.read_table(io.BytesIO(content))
            about = json.loads(table.schema.metadata[_ABOUT])
        except (pa.ArrowInvalid, KeyError, TypeError) as error:
            raise ValueError(f"profile: cannot be read: {error}") from error
        if about.pop("format") != FORMAT:
            raise ValueError(f"profile: another format; this version reads {FORMAT}")
        found = {Key(row["slice"], row["feature"]): _sketch(row) for row in table.to_pylist()}
        return cls(about, found)


def profile_rows(schema: Schema, rows: Rows, *, has_inputs: bool = True) -> dict[Key, Sketch]:
    """The distributions of rows.

    Args:
        schema: The data set's schema.
        rows: At least one.
        has_inputs: Whether those of inputs are wanted, or of scores and labels alone.
    """
    slices = {
        name: is_in
        for name, is_in in all_slices(rows.columns, rows.inputs, schema).items()
        if is_in.any()
    }
    found: dict[Key, Sketch] = {}
    if has_inputs:
        for name, is_in in slices.items():
            if name != ALL:
                found[Key(name, ROWS)] = Share.of(is_in.astype(np.float64), rows.weight)
        found |= _of_numbers(schema, rows, slices)
        found |= _of_categories(schema, rows, slices)
    if rows.score is not None:
        is_scored = ~np.isnan(rows.score)
        scored = {name: is_in & is_scored for name, is_in in slices.items()}
        found |= _numbers(SCORE, rows.score, rows.weight, scored)
    if rows.label is not None:
        found |= _shares(LABEL, rows.label, rows.weight, slices)
    return found


def input_columns(schema: Schema) -> Iterator[tuple[str, Column]]:
    """Dense inputs that are looked at, each with its column; missing indicators are not among them.

    Of a list the first ``MOST_PLACES``.
    """
    for column in schema.inputs(*DENSE_KINDS):
        yield from ((name, column) for name in column.dense_names[:MOST_PLACES])


def category_columns(schema: Schema) -> list[Column]:
    """Sparse inputs that are looked at: a day has one value of ``day_of_week``, a user is a person.

    How often each of the most active users came would be data of theirs, in every artifact.
    """
    user = schema.user.name if schema.user else ""
    return [
        column
        for column in schema.sparse_inputs()
        if column.name != _ONE_VALUE_A_DAY and user not in (column.name, column.shares_table_with)
    ]


def _of_numbers(schema: Schema, rows: Rows, slices: Slices) -> dict[Key, Sketch]:
    place = {name: index for index, name in enumerate(schema.dense_inputs())}
    found: dict[Key, Sketch] = {}
    for name, _ in input_columns(schema):
        found |= _numbers(name, rows.inputs.dense[:, place[name]], rows.weight, slices)
    for table in schema.tables:
        name = table.missing_indicator
        found |= _shares(name, rows.inputs.dense[:, place[name]], rows.weight, slices)
    return found


def _numbers(
    name: str, values: npt.NDArray[np.float32], weight: FloatArray, slices: Slices
) -> dict[Key, Sketch]:
    """Sorted once, for all slices."""
    order = np.argsort(values, kind="stable")
    known = order[: len(order) - int(np.isnan(values).sum())]
    ordered, weights = values[known].astype(np.float64), weight[known]
    found: dict[Key, Sketch] = {}
    for part, is_in in slices.items():
        kept, own = is_in[known], weight[is_in]
        missing = max(float(own.sum() - weights[kept].sum()), 0.0)
        found[Key(part, name)] = Numbers.of_sorted(
            ordered[kept], weights[kept], missing=missing, rows=effective(own)
        )
    return found


def _shares(name: str, has_it: AnyFloats, weight: FloatArray, slices: Slices) -> dict[Key, Sketch]:
    return {
        Key(part, name): Share.of(has_it[is_in], weight[is_in]) for part, is_in in slices.items()
    }


def _of_categories(schema: Schema, rows: Rows, slices: Slices) -> dict[Key, Sketch]:
    found: dict[Key, Sketch] = {}
    for column in category_columns(schema):
        ids = rows.inputs.ids[column.name]
        gone = _is_missing(rows.columns, column, ids)
        row = np.repeat(np.arange(len(ids.lengths)), ids.lengths)
        is_given = ~gone[row]
        for part, is_in in slices.items():
            kept = is_given & is_in[row]
            found[Key(part, column.name)] = Categories.of(
                ids.values[kept],
                rows.weight[row[kept]],
                missing=float(rows.weight[gone & is_in].sum()),
                rows=effective(rows.weight[is_in]),
            )
    return found


def _is_missing(columns: Mapping[str, pa.Array], column: Column, ids: Ids) -> npt.NDArray[np.bool_]:
    """Rows without a value; an empty list is none. What is derived is never null."""
    if column.dtype.is_list:
        return np.asarray(ids.lengths == 0)
    if column.name not in columns:
        return np.zeros(len(ids.lengths), dtype=np.bool_)
    found: npt.NDArray[np.bool_] = pc.is_null(columns[column.name]).to_numpy(zero_copy_only=False)
    return found


def _plain(sketch: Sketch) -> dict[str, object]:
    (kind,) = (name for name, made in _KINDS.items() if isinstance(sketch, made))
    return {"kind": kind, **dataclasses.asdict(sketch)}


def _sketch(row: Mapping[str, Any]) -> Sketch:
    made = _KINDS[str(row["kind"])]
    given = {field.name: row[field.name] for field in dataclasses.fields(made)}
    arrays = {
        name: np.array(value, dtype=np.int64 if name == "keys" else np.float64)
        for name, value in given.items()
        if isinstance(value, list)
    }
    return made(**{**given, **arrays})
