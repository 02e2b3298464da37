"""The values that embedding tables start with: of seed, table, row and column, and nothing else.

Whoever holds a part of a table makes just that part, equal to the bit to the same part of any other
way to spread it: each block of rows is a stream of random numbers of its own, which a hash of seed,
table and block begins.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_BLOCK_ROWS = 1_024
"""That are drawn from one stream; another number would give other values."""


@torch.no_grad()
def fill(
    part: Tensor,
    *,
    seed: int,
    table: str,
    num_columns: int,
    std: float,
    offsets: Sequence[int] = (0, 0),
) -> None:
    """Fill a part of a table with its normally distributed first values.

    Args:
        part: (rows, columns) float32; of a table that is spread over ranks, one shard.
        seed: Of the run.
        table: Its name.
        num_columns: Of the whole table; all of them are drawn for each row of the part.
        std: Standard deviation.
        offsets: The part's first row and column in the table.
    """
    digest = hashlib.sha256(f"{seed} {table}".encode()).digest()
    key = int.from_bytes(digest[:16], "little")
    drawn = np.empty((_BLOCK_ROWS, num_columns), dtype=np.float32)
    first_row, first_column = offsets
    columns = slice(first_column, first_column + part.shape[1])
    last_row = first_row + part.shape[0]
    for start in range(first_row - first_row % _BLOCK_ROWS, last_row, _BLOCK_ROWS):
        # Twice as fast as a generator that counts, Philox.
        stream = np.random.SFC64(np.random.SeedSequence([key, start // _BLOCK_ROWS]))
        count = min(_BLOCK_ROWS, last_row - start)
        np.random.Generator(stream).standard_normal(out=drawn[:count], dtype=np.float32)
        np.multiply(drawn[:count], np.float32(std), out=drawn[:count])
        skipped = max(0, first_row - start)
        rows = torch.from_numpy(drawn[skipped:count, columns])
        row = start + skipped - first_row
        part[row : row + len(rows)].copy_(rows)
