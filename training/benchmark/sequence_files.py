"""MicroVideo1.7M_x1, KuaiVideo_x1 and TaobaoAd_x1 as BARS publishes them.

``train.csv`` and ``test.csv`` with a header, histories as ids joined by ``^`` with the newest
last, pretrained vectors as ``key`` and ``value`` of an HDF5 file. BARS has no validation file and
stops on the test rows; here the last tenth of the training rows validates.
"""

import dataclasses
from collections.abc import Mapping
from functools import reduce
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.encoding import Ids
from features.schema import Kind
from training.benchmark.data import BenchmarkData, Split, Vocabulary, split_of
from training.benchmark.errors import FormatError, require_files
from training.benchmark.streamed_csv import StreamedRows, TextFormat, blocks
from training.inputs import Inputs, PretrainedInput, SparseInput

SEPARATOR = "^"
VALID_SHARE = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceFormat:
    """What the columns of one data set mean; others are not read."""

    label: str
    user: str
    fields: tuple[str, ...]
    """One value each; the user among them."""
    histories: Mapping[str, str]
    """Columns of many values, each with the field whose table it shares."""
    max_length: int
    """Newest values of a history that are read."""
    numbers: tuple[str, ...] = ()
    min_count: int = 1
    """Rarer values share the row of the unknown."""
    vectors: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Fields that have pretrained vectors too, with the file; their histories have them as well."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Everything that is read."""
        return (self.label, *self.fields, *self.histories, *self.numbers)


MICROVIDEO = SequenceFormat(
    label="is_click",
    user="user_id",
    fields=("user_id", "item_id", "cate_id"),
    histories={"clicked_items": "item_id", "clicked_categories": "cate_id"},
    max_length=100,
    vectors={"item_id": "item_image_emb_dim64.h5"},
)
KUAIVIDEO = SequenceFormat(
    label="is_click",
    user="user_id",
    fields=("user_id", "item_id"),
    histories={"pos_items": "item_id", "neg_items": "item_id"},
    max_length=100,
    min_count=10,
    vectors={"item_id": "item_visual_emb_dim64.h5"},
)
TAOBAO_AD = SequenceFormat(
    label="clk",
    user="userid",
    fields=(
        *("userid", "cms_segid", "cms_group_id", "final_gender_code", "age_level", "pvalue_level"),
        *("shopping_level", "occupation", "new_user_class_level", "adgroup_id", "cate_id"),
        *("campaign_id", "customer", "brand", "pid", "btag"),
    ),
    histories={"btag_his": "btag", "cate_his": "cate_id", "brand_his": "brand"},
    max_length=50,
    numbers=("price",),
    min_count=10,
)


def read_sequences(name: str, folder: Path, form: SequenceFormat) -> BenchmarkData:
    """One of the three data sets; training rows are streamed, validation and test are held.

    Raises:
        ValueError: A file is missing, or is not in the format; names file, line and column.
    """
    train, test = require_files(folder, ("train.csv", "test.csv"))
    text = TextFormat(form.columns)
    num_rows, vocabularies = _count(train, text, form)
    vectors = {field: _vectors(folder / file) for field, file in form.vectors.items()}
    for field, (keys, _) in vectors.items():
        # An item that only the test rows have still has a vector: every key has a row.
        known = pc.is_in(keys, value_set=vocabularies[field].values)
        extra = keys.filter(pc.invert(known))
        merged = pa.concat_arrays([vocabularies[field].values, extra])
        vocabularies[field] = Vocabulary(merged)

    def encode(block: pa.Table, path: Path, line: int) -> Split:
        return _encoded(block, path, line, form, vocabularies)

    ends = round(num_rows * (1 - VALID_SHARE))
    readers = [*form.fields, *form.histories]
    owner = {field: field for field in form.fields} | dict(form.histories)
    pretrained = {
        reader: _aligned(vocabularies[owner[reader]], *vectors[owner[reader]])
        for reader in readers
        if owner[reader] in vectors
    }
    return BenchmarkData(
        name=name,
        inputs=Inputs(
            sparse=tuple(
                SparseInput(reader, vocabularies[owner[reader]].num_rows, owner[reader])
                for reader in readers
            ),
            dense=(Kind.COUNT,) * len(form.numbers),
            pretrained=tuple(
                PretrainedInput(reader, *values.shape) for reader, values in pretrained.items()
            ),
        ),
        train=StreamedRows([train], text, encode, 0, ends),
        valid=whole(StreamedRows([train], text, encode, ends, num_rows)),
        test=whole(StreamedRows([test], text, encode, 0, _num_rows(test, text))),
        pretrained=pretrained,
    )


def _count(
    train: Path, text: TextFormat, form: SequenceFormat
) -> tuple[int, dict[str, Vocabulary]]:
    """Rows of the training file, and the vocabulary of each field, its histories included."""
    counts: dict[str, dict[str, int]] = {field: {} for field in form.fields}
    num_rows = 0
    for block, _, _ in blocks([train], text):
        num_rows += block.num_rows
        for column in (*form.fields, *form.histories):
            values = block[column].combine_chunks()
            if column in form.histories:
                values = pc.list_flatten(pc.split_pattern(values, SEPARATOR))
            found = counts[form.histories.get(column, column)]
            for pair in pc.value_counts(values).to_pylist():
                if pair["values"]:
                    found[pair["values"]] = found.get(pair["values"], 0) + pair["counts"]
    vocabularies = {
        field: Vocabulary(
            pa.array([value for value, n in found.items() if n >= form.min_count], pa.string())
        )
        for field, found in counts.items()
    }
    return num_rows, vocabularies


def _num_rows(path: Path, text: TextFormat) -> int:
    return sum(block.num_rows for block, _, _ in blocks([path], text))


def whole(rows: StreamedRows) -> Split:
    """All rows of a stream, held in memory."""
    return reduce(_joined, rows.parts())


def _joined(first: Split, second: Split) -> Split:
    ids = {
        name: Ids(
            np.concatenate([value.values, second.inputs.ids[name].values]),
            np.concatenate([value.lengths, second.inputs.ids[name].lengths]),
        )
        for name, value in first.inputs.ids.items()
    }
    return Split(
        type(first.inputs)(np.concatenate([first.inputs.dense, second.inputs.dense]), ids),
        np.concatenate([first.label, second.label]),
        np.concatenate([first.group, second.group]),
    )


def _encoded(
    block: pa.Table,
    path: Path,
    line: int,
    form: SequenceFormat,
    vocabularies: Mapping[str, Vocabulary],
) -> Split:
    columns: dict[str, npt.NDArray[np.int64] | Ids] = {
        field: vocabularies[field].rows(block[field].combine_chunks()) for field in form.fields
    }
    for history, field in form.histories.items():
        columns[history] = _bags(block[history], vocabularies[field], form.max_length)
    label = numbers_of(block, form.label, path, line).astype(np.int64)
    if strange := np.flatnonzero((label != 0) & (label != 1)).tolist():
        raise FormatError(
            path,
            line=line + strange[0] + 1,
            column=form.label,
            found=str(label[strange[0]]),
            expected="0 or 1",
        )
    dense = (
        np.stack(
            [numbers_of(block, name, path, line) for name in form.numbers], axis=1, dtype=np.float32
        )
        if form.numbers
        else None
    )
    return split_of(columns, label, dense=dense, group=form.user)


def _bags(values: pa.ChunkedArray, vocabulary: Vocabulary, max_length: int) -> Ids:
    """The newest values of each history; an empty one has no rows."""
    filled = pc.fill_null(values.combine_chunks(), "")
    lists = pc.split_pattern(filled, SEPARATOR)
    lengths = np.asarray(pc.list_value_length(lists)).astype(np.int64)
    flat = vocabulary.rows(lists.flatten())
    lengths_kept = np.minimum(lengths, max_length)
    # "" splits into one empty string, which is no value.
    is_empty = np.asarray(pc.equal(filled, ""))
    lengths_kept[is_empty] = 0
    ends = np.cumsum(lengths)
    kept_ends = np.cumsum(lengths_kept)
    within = np.arange(kept_ends[-1] if len(kept_ends) else 0)
    within -= np.repeat(kept_ends - lengths_kept, lengths_kept)
    starts = np.repeat(ends - lengths_kept, lengths_kept)
    return Ids(flat[starts + within], lengths_kept.astype(np.int32))


def numbers_of(block: pa.Table, name: str, path: Path, line: int) -> npt.NDArray[np.float32]:
    """A column of numbers, NaN where it is empty; FormatError names the line that has none."""
    column = block[name].combine_chunks()
    try:
        numbers = pc.cast(column, pa.float32())
    except pa.ArrowInvalid as error:
        for place, text in enumerate(column.to_pylist()):
            if text is not None and not _is_number(text):
                raise FormatError(
                    path, line=line + place + 1, column=name, found=text, expected="a number"
                ) from error
        raise
    return np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=np.float32)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _vectors(path: Path) -> tuple[pa.Array, npt.NDArray[np.float32]]:
    """Keys as strings and their vectors, from HDF5 or NumPy files with ``key`` and ``value``."""
    import h5py

    if not path.is_file():
        raise ValueError(f"{path}: does not exist; the pretrained vectors of the data set")
    with h5py.File(path) as file:
        if missing := {"key", "value"} - set(file):
            raise ValueError(f"{path}: no {sorted(missing)}; an HDF5 file with key and value")
        keys = [k.decode() if isinstance(k, bytes) else str(k) for k in file["key"][:].tolist()]
        values = np.asarray(file["value"][:], dtype=np.float32)
    if values.ndim != 2 or len(values) != len(keys):
        raise ValueError(f"{path}: value has shape {values.shape}; ({len(keys)}, dimension)")
    return pa.array(keys, pa.string()), values


def _aligned(
    vocabulary: Vocabulary, keys: pa.Array, values: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """The vector of each row of a table; zeros where there is none."""
    table = np.zeros((vocabulary.num_rows, values.shape[1]), dtype=np.float32)
    table[vocabulary.rows(keys)] = values
    table[0] = 0
    return table
