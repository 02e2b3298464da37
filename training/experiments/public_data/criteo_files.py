"""Criteo's click logs: tab-separated, no header, a label, 13 counts and 26 hexadecimal categories.

``train.txt`` of the Kaggle challenge: the first eight tenths train, the next validates, the last
tests (the file is ordered by time). The Terabyte's ``day_0`` to ``day_23``, plain or gzipped: the
last day tests, the last tenth of the day before validates. Both are streamed; a category's row is
its number modulo the rows of its table, so no pass over the data has to count first.
"""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.places import Place
from features.schema import Kind
from training.experiments.public_data.data import (
    BenchmarkData,
    IntArray,
    Split,
    require_files,
    split_of,
)
from training.experiments.public_data.streamed_csv import (
    Block,
    StreamedRows,
    TextFormat,
    num_rows_of,
)
from training.model.inputs import Inputs, SparseInput

LABEL = "label"
COUNTS = tuple(f"I{n}" for n in range(1, 14))
CATEGORIES = tuple(f"C{n}" for n in range(1, 27))
TEXT = TextFormat((LABEL, *COUNTS, *CATEGORIES), delimiter="\t", has_header=False)
TERABYTE_CARDINALITIES = (
    *(40_000_000, 39_060, 17_295, 7_424, 20_265, 3, 7_122, 1_543, 63, 40_000_000, 3_067_956),
    *(405_282, 10, 2_209, 11_938, 155, 4, 976, 14, 40_000_000, 40_000_000, 40_000_000, 590_152),
    *(12_973, 108, 36),
)
"""Values of each category, as MLPerf counts and caps them; their sum is 204,184,588."""
_SPARE, _MOST_ROWS = 4, 40_000_000
TERABYTE_ROWS = tuple(min(_SPARE * values, _MOST_ROWS) for values in TERABYTE_CARDINALITIES)
"""Four rows for each value, so that most values have a row of their own under the remainder."""
KAGGLE_ROWS = (1_000_000,) * len(CATEGORIES)
_TRAIN, _VALID = 0.8, 0.9


def read_criteo_kaggle(folder: Place) -> BenchmarkData:
    """``train.txt`` of the challenge; its ``test.txt`` has no labels and is not read."""
    paths = require_files(folder, ("train.txt",))
    num_rows = num_rows_of(paths, TEXT)
    ends = [0, round(num_rows * _TRAIN), round(num_rows * _VALID), num_rows]
    return _data("criteo-kaggle", paths, ends, KAGGLE_ROWS)


def read_criteo_terabyte(folder: Place) -> BenchmarkData:
    """The days that are there, at least two, in their order; the last one tests."""
    days = _days(folder)
    counts = [num_rows_of([path], TEXT) for path in days]
    total, before = sum(counts), sum(counts[:-1])
    ends = [0, before - round(counts[-2] * (1 - _VALID)), before, total]
    return _data("criteo-terabyte", days, ends, TERABYTE_ROWS)


def _days(folder: Place) -> list[Place]:
    found = {}
    for number in range(24):
        for path in (folder / f"day_{number}", folder / f"day_{number}.gz"):
            if path.is_file():
                found[number] = path
    if len(found) < 2 or sorted(found) != list(range(min(found), max(found) + 1)):
        raise ValueError(
            f"--data {folder}: days {sorted(found)}; at least two of day_0 to day_23 (or .gz) in a "
            "row"
        )
    return [found[number] for number in sorted(found)]


def _data(name: str, paths: list[Place], ends: list[int], rows: tuple[int, ...]) -> BenchmarkData:
    sizes = dict(zip(CATEGORIES, rows, strict=True))

    def encode(block: Block) -> Split:
        columns = {name: _rows(block, name, size) for name, size in sizes.items()}
        dense = np.stack([block.numbers(name) for name in COUNTS], axis=1)
        return split_of(columns, block.labels(LABEL), dense=dense)

    train, valid, test = (
        StreamedRows(paths, TEXT, encode, start, stop) for start, stop in itertools.pairwise(ends)
    )
    sparse = tuple(SparseInput(name, size + 1, name) for name, size in sizes.items())
    inputs = Inputs(sparse=sparse, dense=(Kind.COUNT,) * len(COUNTS))
    return BenchmarkData(
        name=name, inputs=inputs, train=train, valid=valid.whole(), test=test.whole()
    )


def _rows(block: Block, name: str, size: int) -> IntArray:
    """Row 0 for a missing category, else one of the rows 1 to ``size``."""
    filled = pc.fill_null(block.table[name].combine_chunks(), "")
    is_hex = np.asarray(pc.match_substring_regex(filled, "^[0-9a-fA-F]{0,8}$"))
    block.require(is_hex, name, expected="eight hexadecimal digits, or nothing")
    numbers = pc.cast(pc.binary_join_element_wise("0x0", filled, ""), pa.int64())
    is_missing = np.asarray(pc.equal(filled, ""))
    return np.where(is_missing, 0, np.asarray(numbers) % size + 1)
