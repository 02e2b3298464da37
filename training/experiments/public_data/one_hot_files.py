"""Frappe and MovieLens as BARS and libfm publish them: one value a field, the first is the user.

CSV with a header, its columns in any order; or libfm's
``-1 451:1 4149:1 …``, the label, then the fields.
"""

import functools
import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from features.places import Place
from training.experiments.public_data.data import (
    BenchmarkData,
    FormatError,
    IntArray,
    Vocabulary,
    require_files,
    split_of,
)
from training.experiments.public_data.streamed_csv import Block, TextFormat, blocks
from training.model.inputs import Inputs, SparseInput

LABEL = "label"
FILES = ("train.csv", "valid.csv", "test.csv")
_PARTS = ("train", "validation", "test")
_LABELS = {"1": 1, "1.0": 1, "+1": 1, "-1": 0, "-1.0": 0, "0": 0, "0.0": 0}

Rows = tuple[pa.Table, IntArray]
"""Strings by field, and labels."""


def read_one_hot(name: str, folder: Place, fields: Sequence[str]) -> BenchmarkData:
    """A data set of categorical fields only, from libfm's files where a folder has all three.

    ``fields`` are in the order of libfm's files, the user first.

    Raises:
        ValueError: A file is missing, or is not in the format; names file, line and column.
    """
    found = [sorted(folder.glob(f"*{part}.libfm")) for part in _PARTS]
    if all(len(paths) == 1 for paths in found):
        parts = [_read_libfm(path, fields) for (path,) in found]
    else:
        parts = [_read_csv(path, fields) for path in require_files(folder, FILES)]
    vocabularies = {field: Vocabulary.of(parts[0][0][field]) for field in fields}
    train, valid, test = (
        split_of(
            {field: known.rows(table[field]) for field, known in vocabularies.items()},
            label,
            users=table[fields[0]],
        )
        for table, label in parts
    )
    sparse = tuple(SparseInput(f, known.num_rows, f) for f, known in vocabularies.items())
    inputs = Inputs(sparse=sparse, dense=())
    return BenchmarkData(name=name, inputs=inputs, train=train, valid=valid, test=test)


def _read_csv(path: Place, fields: Sequence[str]) -> Rows:
    tables = [block.table for block in blocks([path], TextFormat((LABEL, *fields)))]
    if not tables:
        raise ValueError(f"{path}: no rows; at least one")
    whole = Block(pa.concat_tables(tables), path, line=1)
    return whole.table, whole.labels(LABEL)


def _read_libfm(path: Place, fields: Sequence[str]) -> Rows:
    rows: list[list[str]] = []
    label = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            words = line.split()
            if not words:
                continue
            wrong = functools.partial(FormatError, path, line=number)
            if words[0] not in _LABELS:
                raise wrong(column=1, found=words[0], expected="1, or -1 or 0")
            if len(words) != len(fields) + 1:
                column = min(len(words), len(fields) + 1) + 1
                expected = f"{len(fields)} features {', '.join(fields)}"
                raise wrong(column=column, found=line.strip(), expected=expected)
            for column, word in enumerate(words[1:], start=2):
                if not re.fullmatch(r"\d+(:1(\.0)?)?", word):
                    raise wrong(column=column, found=word, expected="index:1")
            label.append(_LABELS[words[0]])
            rows.append([word.partition(":")[0] for word in words[1:]])
    columns = np.array(rows, dtype=str).reshape(-1, len(fields)).T
    return pa.table(dict(zip(fields, columns, strict=True))), np.array(label, dtype=np.int64)
