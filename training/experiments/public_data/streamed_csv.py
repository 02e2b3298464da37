"""Training rows in a text file larger than memory: parsed, encoded and given out block by block."""

import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from features.places import Place
from training.experiments.public_data.data import FormatError, IntArray, Split

BLOCK_BYTES = 64 << 20
"""Bytes of text in memory at a time; rows are shuffled within it."""


@dataclasses.dataclass(frozen=True)
class TextFormat:
    """How the lines of a file are read; every column as a string."""

    columns: tuple[str, ...]
    delimiter: str = ","
    has_header: bool = True


@dataclasses.dataclass(frozen=True)
class Block:
    """Some rows of a file; what reads a column raises FormatError with the first wrong line."""

    table: pa.Table
    """All columns as strings, null where they are empty."""
    path: Place
    line: int
    """The one before the first row."""

    def labels(self, name: str) -> IntArray:
        """A column of 0 and 1."""
        label = self.numbers(name)
        self.require(np.isin(label, (0, 1)), name, expected="0 or 1")
        return label.astype(np.int64)

    def numbers(self, name: str) -> npt.NDArray[np.float32]:
        """A column of numbers, NaN where it is empty."""
        column = self.table[name].combine_chunks()
        try:
            numbers = pc.cast(column, pa.float32())
        except pa.ArrowInvalid:
            self.require(np.array([*map(_is_number, column)]), name, expected="a number")
            raise
        return np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=np.float32)

    def require(self, is_right: npt.NDArray[np.bool_], name: str, *, expected: str) -> None:
        """FormatError with the first of a column's values that is not right."""
        if not is_right.all():
            index = int(np.argmin(is_right))
            found = str(self.table[name][index].as_py())
            line = self.line + index + 1
            raise FormatError(self.path, line=line, column=name, found=found, expected=expected)


@dataclasses.dataclass(frozen=True)
class StreamedRows:
    """Rows ``start`` to ``stop`` of some files read one after the other, encoded on the way."""

    paths: Sequence[Place]
    text: TextFormat
    encode: Callable[[Block], Split]
    start: int
    stop: int

    def parts(self) -> Iterator[Split]:
        """One pass, a block at a time."""
        return map(self.encode, blocks(self.paths, self.text, start=self.start, stop=self.stop))

    def __len__(self) -> int:
        """Rows of one pass."""
        return self.stop - self.start

    def whole(self) -> Split:
        """All rows, held in memory; ValueError when there are none."""
        parts = list(self.parts())
        if not parts:
            raise ValueError(f"{self.paths[-1]}: no rows; at least one to evaluate")
        return Split.joined(parts)


def blocks(
    paths: Sequence[Place], text: TextFormat, *, start: int = 0, stop: int = sys.maxsize
) -> Iterator[Block]:
    """The rows of some files, block by block.

    Raises:
        FormatError: A line has another number of fields, or the header lacks a column.
    """
    seen = 0
    for path in paths:
        line = 1 if text.has_header else 0
        for batch in _batches(path, text):
            first, last = max(0, start - seen), min(batch.num_rows, stop - seen)
            if first < last:
                yield Block(pa.table(batch.slice(first, last - first)), path, line + first)
            seen += batch.num_rows
            line += batch.num_rows
            if seen >= stop:
                return


def _batches(path: Place, text: TextFormat) -> Iterator[pa.RecordBatch]:
    wrong: list[csv.InvalidRow] = []

    def note(row: csv.InvalidRow) -> str:
        wrong.append(row)
        return "error"

    names = None if text.has_header else list(text.columns)
    try:
        with csv.open_csv(
            path,
            read_options=csv.ReadOptions(
                use_threads=False, block_size=BLOCK_BYTES, column_names=names
            ),
            parse_options=csv.ParseOptions(
                delimiter=text.delimiter,
                quote_char=False,
                # Left out, they would not count, and every later line would be named too low.
                ignore_empty_lines=False,
                invalid_row_handler=note,
            ),
            convert_options=csv.ConvertOptions(
                column_types={name: pa.string() for name in text.columns},
                include_columns=list(text.columns),
                strings_can_be_null=True,
                null_values=[""],
            ),
        ) as reader:
            yield from reader
    except KeyError as error:
        raise FormatError(
            path, line=1, column="header", found=str(error), expected=", ".join(text.columns)
        ) from error
    except pa.ArrowInvalid as error:
        if not wrong:
            raise FormatError(
                path, line=1, column=1, found=str(error), expected="lines of text"
            ) from error
        row = wrong[0]
        column = min(row.actual_columns, row.expected_columns) + 1
        expected = f"{row.expected_columns} fields, found {row.actual_columns}"
        raise FormatError(
            path, line=row.number or 0, column=column, found=row.text, expected=expected
        ) from error


def num_rows_of(paths: Sequence[Place], text: TextFormat) -> int:
    """Rows of some files."""
    return sum(block.table.num_rows for block in blocks(paths, text))


def _is_number(value: pa.Scalar) -> bool:
    try:
        value.cast(pa.float32())
    except pa.ArrowInvalid:
        return False
    return True
