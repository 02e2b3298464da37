"""Frappe_x1 and MovielensLatest_x1 as BARS publishes them: CSV with a header, ``label`` first.

Every other column is one categorical field, its values numbers or strings.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from training.experiments.public_data.data import (
    BenchmarkData,
    InMemory,
    Split,
    Vocabulary,
    split_of,
)
from training.experiments.public_data.errors import FormatError, require_files
from training.model.inputs import Inputs, SparseInput

LABEL = "label"
FILES = ("train.csv", "valid.csv", "test.csv")
_LABELS = ("0", "1", "0.0", "1.0")


def read_categorical_csv(name: str, folder: Path, *, user: str) -> BenchmarkData:
    """A data set of categorical fields only.

    Args:
        name: Of the data set.
        folder: Where its three files are.
        user: Field that tells the users apart.

    Raises:
        ValueError: A file is missing, or is not in the format; names file, line and column.
    """
    train, valid, test = (read_strings(path) for path in require_files(folder, FILES))
    fields = [field for field in train.column_names if field != LABEL]
    if user not in fields:
        raise FormatError(
            folder / FILES[0], line=1, column="header", found=",".join(fields), expected=user
        )
    for path, table in ((FILES[1], valid), (FILES[2], test)):
        if table.column_names != train.column_names:
            raise FormatError(
                *(folder / path,),
                line=1,
                column="header",
                found=",".join(table.column_names),
                expected=",".join(train.column_names),
            )
    vocabularies = {field: Vocabulary.of(train[field]) for field in fields}

    def split(table: pa.Table, path: str) -> Split:
        columns = {field: vocabularies[field].rows(table[field]) for field in fields}
        return split_of(columns, labels_of(table, folder / path), users=table[user])

    sparse = tuple(SparseInput(f, v.num_rows, f) for f, v in vocabularies.items())
    return BenchmarkData(
        name=name,
        inputs=Inputs(sparse=sparse, dense=()),
        train=InMemory(split(train, FILES[0])),
        valid=split(valid, FILES[1]),
        test=split(test, FILES[2]),
    )


def read_strings(path: Path, *, label: str = LABEL) -> pa.Table:
    """A CSV file with its header, every column as strings; the label must be the first."""
    with path.open(encoding="utf-8") as file:
        header = file.readline().rstrip("\r\n").split(",")
    if header[0] != label:
        raise FormatError(path, line=1, column=1, found=header[0], expected=f"{label!r}")
    wrong: list[csv.InvalidRow] = []

    def note(row: csv.InvalidRow) -> str:
        wrong.append(row)
        return "skip"

    table = csv.read_csv(
        path,
        # One thread, so that a row without its fields is known by its line.
        read_options=csv.ReadOptions(use_threads=False),
        parse_options=csv.ParseOptions(invalid_row_handler=note, ignore_empty_lines=False),
        convert_options=csv.ConvertOptions(column_types={n: pa.string() for n in header}),
    )
    if wrong:
        row = wrong[0]
        raise FormatError(
            path,
            line=row.number or 0,
            column=min(row.actual_columns, row.expected_columns) + 1,
            found=row.text,
            expected=f"{row.expected_columns} fields, found {row.actual_columns}",
        )
    return table


def labels_of(
    table: pa.Table, path: Path, *, label: str = LABEL, allowed: Sequence[str] = _LABELS
) -> npt.NDArray[np.int64]:
    """The 0/1 labels of a table of strings."""
    values = pc.utf8_trim_whitespace(table[label])
    is_known = pc.is_in(values, value_set=pa.array(allowed))
    if not pc.all(is_known).as_py():
        row = int(pc.index(is_known, False).as_py())
        raise FormatError(
            path,
            line=row + 2,
            column=label,
            found=str(values[row].as_py()),
            expected="0 or 1",
        )
    return np.asarray(pc.starts_with(values, "1")).astype(np.int64)
