"""Frappe and MovieLens as libfm files: ``-1 451:1 4149:1 …``, the label, then the fields."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from training.experiments.public_data.data import (
    BenchmarkData,
    InMemory,
    Split,
    Vocabulary,
    split_of,
)
from training.experiments.public_data.errors import FormatError
from training.model.inputs import Inputs, SparseInput

_PARTS = ("train", "validation", "test")
_POSITIVE, _NEGATIVE = {"1", "1.0", "+1"}, {"-1", "-1.0", "0", "0.0"}


def find_libfm(folder: Path) -> list[Path] | None:
    """The three files of a folder, whatever their prefix; None where they are not all there."""
    found = []
    for part in _PARTS:
        paths = sorted(folder.glob(f"*{part}.libfm"))
        if len(paths) != 1:
            return None
        found += paths
    return found


def read_libfm(name: str, paths: list[Path], *, fields: tuple[str, ...]) -> BenchmarkData:
    """A data set of one-hot fields in a fixed order, the first of them the user.

    Raises:
        FormatError: A line has another number of fields, a label that is none, or a value that is
            not ``index:1``.
    """
    tables = [_read(path, fields) for path in paths]
    vocabularies = {field: Vocabulary.of(tables[0][0][field]) for field in fields}

    def split(table: pa.Table, label: npt.NDArray[np.int64]) -> Split:
        columns = {field: vocabularies[field].rows(table[field]) for field in fields}
        return split_of(columns, label, users=table[fields[0]])

    train, valid, test = (split(*table) for table in tables)
    sparse = tuple(SparseInput(f, v.num_rows, f) for f, v in vocabularies.items())
    return BenchmarkData(
        name=name,
        inputs=Inputs(sparse=sparse, dense=()),
        train=InMemory(train),
        valid=valid,
        test=test,
    )


def _read(path: Path, fields: tuple[str, ...]) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    rows: list[list[str]] = []
    label = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            words = line.split()
            if not words:
                continue
            label.append(_label(path, number, words[0]))
            if len(words) != len(fields) + 1:
                raise FormatError(
                    path,
                    line=number,
                    column=min(len(words), len(fields) + 1) + 1,
                    found=line.strip(),
                    expected=f"{len(fields)} features {', '.join(fields)}",
                )
            rows.append([_index(path, number, c, w) for c, w in enumerate(words[1:], start=2)])
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(fields)
    table = pa.table({f: pa.array(c, pa.string()) for f, c in zip(fields, columns, strict=True)})
    return table, np.array(label, dtype=np.int64)


def _label(path: Path, number: int, word: str) -> int:
    if word in _POSITIVE:
        return 1
    if word in _NEGATIVE:
        return 0
    raise FormatError(path, line=number, column=1, found=word, expected="1, or -1 or 0")


def _index(path: Path, number: int, column: int, word: str) -> str:
    index, colon, value = word.partition(":")
    if not (index.isdigit() and (not colon or value in {"1", "1.0"})):
        raise FormatError(path, line=number, column=column, found=word, expected="index:1")
    return index
