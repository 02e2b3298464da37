"""MicroVideo1.7M_x1, KuaiVideo_x1 and TaobaoAd_x1 as BARS publishes them.

``train.csv`` and ``test.csv`` with a header, histories as ids joined by ``^`` with the newest
last, pretrained vectors as ``key`` and ``value`` of an HDF5 file. BARS has no validation file and
stops on the test rows; here the last tenth of the training rows validates.
"""

import collections
import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.encoding.encode import Ids
from features.places import Place
from features.schema import Kind
from training.experiments.public_data.data import (
    BenchmarkData,
    IntArray,
    Split,
    Vocabulary,
    require_files,
    split_of,
)
from training.experiments.public_data.streamed_csv import (
    Block,
    StreamedRows,
    TextFormat,
    blocks,
    num_rows_of,
)
from training.model.inputs import Inputs, PretrainedInput, SparseInput

SEPARATOR = "^"
VECTOR = "_vector"
"""Suffix of the input that looks a field up in its pretrained vectors."""
VALID_SHARE = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceFormat:
    """What the columns of one data set mean; others are not read."""

    label: str
    fields: tuple[str, ...]
    """One value each, the user's first."""
    histories: Mapping[str, str]
    """Columns of many values, each with the field whose table it shares."""
    max_length: int
    """Newest values of a history that are read."""
    numbers: tuple[str, ...] = ()
    min_count: int = 1
    """Rarer values share the row of the unknown."""
    vectors: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Fields that have pretrained vectors too, with the file; their histories have them as well."""


MICROVIDEO = SequenceFormat(
    label="is_click",
    fields=("user_id", "item_id", "cate_id"),
    histories={"clicked_items": "item_id", "clicked_categories": "cate_id"},
    max_length=100,
    vectors={"item_id": "item_image_emb_dim64.h5"},
)
KUAIVIDEO = SequenceFormat(
    label="is_click",
    fields=("user_id", "item_id"),
    histories={"pos_items": "item_id", "neg_items": "item_id"},
    max_length=100,
    min_count=10,
    vectors={"item_id": "item_visual_emb_dim64.h5"},
)
TAOBAO_AD = SequenceFormat(
    label="clk",
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


def read_sequences(name: str, folder: Place, form: SequenceFormat) -> BenchmarkData:
    """One of the three data sets; training rows are streamed, validation and test are held.

    Raises:
        ValueError: A file is missing, or is not in the format; names file, line and column.
    """
    train, test = require_files(folder, ("train.csv", "test.csv"))
    text = TextFormat((form.label, *form.fields, *form.histories, *form.numbers))
    num_rows = num_rows_of([train], text)
    ends = round(num_rows * (1 - VALID_SHARE))
    vocabularies = _vocabularies(train, text, form, ends)
    owners = {field: field for field in form.fields} | dict(form.histories)
    readers = {name: (name, vocabularies[field]) for name, field in owners.items()}
    lengths = dict.fromkeys(form.histories, form.max_length)
    sparse = [
        SparseInput(name, vocabularies[field].num_rows, field, lengths.get(name, 1))
        for name, field in owners.items()
    ]
    vectors = {}
    for field, file in form.vectors.items():
        keys, values = _vectors(folder / file)
        # Ids of their own: an item that no training row has still has a vector, and no trained row.
        table = np.concatenate([np.zeros((1, values.shape[1]), dtype=np.float32), values])
        for name in (name for name, owner in owners.items() if owner == field):
            readers[name + VECTOR] = (name, Vocabulary(keys))
            vectors[name + VECTOR] = table

    def encode(block: Block) -> Split:
        columns: dict[str, IntArray | Ids] = {
            name: _bags(block.table[column], known, form.max_length)
            if column in form.histories
            else known.rows(block.table[column])
            for name, (column, known) in readers.items()
        }
        numbers = [block.numbers(name) for name in form.numbers]
        return split_of(
            columns,
            block.labels(form.label),
            dense=np.stack(numbers, axis=1) if numbers else None,
            users=block.table[form.fields[0]],
        )

    return BenchmarkData(
        name=name,
        inputs=Inputs(
            sparse=tuple(sparse),
            dense=(Kind.COUNT,) * len(form.numbers),
            pretrained=tuple(PretrainedInput(n, *v.shape) for n, v in vectors.items()),
        ),
        train=StreamedRows([train], text, encode, 0, ends),
        valid=StreamedRows([train], text, encode, ends, num_rows).whole(),
        test=StreamedRows([test], text, encode, 0, num_rows_of([test], text)).whole(),
        pretrained=vectors,
    )


def _vocabularies(
    train: Place, text: TextFormat, form: SequenceFormat, stop: int
) -> dict[str, Vocabulary]:
    """The vocabulary of each field in the training rows, its histories included."""
    counts = {field: collections.Counter[str]() for field in form.fields}
    for block in blocks([train], text, stop=stop):
        for column in (*form.fields, *form.histories):
            values = block.table[column].combine_chunks()
            if column in form.histories:
                values = pc.list_flatten(pc.split_pattern(values, SEPARATOR))
            pairs = pc.value_counts(values).to_pylist()
            found = {pair["values"]: pair["counts"] for pair in pairs if pair["values"]}
            counts[form.histories.get(column, column)].update(found)
    return {
        field: Vocabulary(
            pa.array([value for value, n in found.items() if n >= form.min_count], pa.string())
        )
        for field, found in counts.items()
    }


def _bags(values: pa.ChunkedArray, vocabulary: Vocabulary, max_length: int) -> Ids:
    """The newest values of each history; an empty one has no rows."""
    lists = pc.split_pattern(pc.fill_null(values.combine_chunks(), ""), SEPARATOR)
    lengths = np.asarray(pc.list_value_length(lists))
    row = np.repeat(np.arange(len(lengths)), lengths)
    behind = np.cumsum(lengths)[row] - np.arange(len(row))
    # "" splits into one empty string, which is no value.
    is_kept = (behind <= max_length) & np.asarray(pc.not_equal(lists.flatten(), ""))
    kept_lengths = np.bincount(row[is_kept], minlength=len(lengths)).astype(np.int32)
    return Ids(vocabulary.rows(lists.flatten())[is_kept], kept_lengths)


def _vectors(path: Place) -> tuple[pa.Array, npt.NDArray[np.float32]]:
    """Keys as strings and their vectors, from an HDF5 file with ``key`` and ``value``."""
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
