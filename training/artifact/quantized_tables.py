"""Embedding tables as they are served: float32, or int8 and int4 with scale and bias for each row.

A quantised row is a float16 scale, a float16 bias and the codes; a value is code * scale + bias.
FBGEMM's inference kernel reads all three alike, and looks all features of a call up at once.
"""

import dataclasses
import enum
from collections.abc import Mapping, Sequence

import fbgemm_gpu  # noqa: F401  # registers the operators
import numpy as np
import torch
from fbgemm_gpu.split_embedding_configs import SparseType
from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation, PoolingMode
from torch import Tensor
from torchrec.modules.embedding_configs import EmbeddingBagConfig

from features.encoding.encode import Ids

_ALIGNMENT = 64
"""Bytes; where each table begins."""


class TablePrecision(enum.StrEnum):
    """Numbers of the embedding tables in an artifact."""

    FP32 = "fp32"
    INT8 = "int8"
    INT4 = "int4"

    def num_bytes(self, config: EmbeddingBagConfig) -> int:
        """Bytes of a table."""
        rows: int = config.num_embeddings
        return rows * self.row_bytes(config)

    def row_bytes(self, config: EmbeddingBagConfig) -> int:
        """Bytes of a row of a table."""
        columns: int = config.embedding_dim
        if self is TablePrecision.FP32:
            return 4 * columns
        return 4 + (columns if self is TablePrecision.INT8 else columns // 2)


class ServedTables:
    """The tables of a ranker in one precision, in one piece of memory.

    Args:
        configs: The tables and the features that read them.
        memory: (bytes,) uint8, as ``of`` puts the tables together; it is only read.
        precision: Of all of them.

    Raises:
        ValueError: The memory is of another size.
    """

    def __init__(
        self, configs: Sequence[EmbeddingBagConfig], memory: Tensor, precision: TablePrecision
    ) -> None:
        self.precision = precision
        self.widths = {name: c.embedding_dim for c in configs for name in c.feature_names}
        self._starts, size = _starts(configs, precision)
        if len(memory) != size:
            raise ValueError(f"tables {precision}: {len(memory)} bytes; expected {size}")
        self._lookups: dict[tuple[str, ...], _Lookup] = {}
        self.memory = memory

    @classmethod
    def of(
        cls,
        configs: Sequence[EmbeddingBagConfig],
        rows: Mapping[str, Tensor],
        precision: TablePrecision,
    ) -> "ServedTables":
        """The tables of some rows.

        Args:
            configs: The tables and the features that read them.
            rows: Of each table its rows as ``packed`` makes them.
            precision: Of all of them.

        Raises:
            ValueError: A table is missing, or has another shape than its configuration.
        """
        starts, size = _starts(configs, precision)
        memory = torch.zeros(size, dtype=torch.uint8)
        for config in configs:
            _check(config, rows, precision)
            flat = rows[config.name].contiguous().view(torch.uint8).flatten()
            start = starts[config.feature_names[0]]
            memory[start : start + len(flat)] = flat
        return cls(configs, memory, precision)

    @property
    def num_bytes(self) -> int:
        """Memory that the tables take."""
        return self.memory.nbytes

    def pool(self, ids: Mapping[str, Ids]) -> Tensor:
        """The mean of each bag's rows, 0 for an empty bag: (B, the features' columns together).

        Args:
            ids: B bags for each feature; the columns of the result are in this order.
        """
        lookup = self._lookup(tuple(ids))
        bags = list(ids.values())
        offsets = np.zeros(sum(len(bag.lengths) for bag in bags) + 1, dtype=np.int64)
        np.cumsum(np.concatenate([bag.lengths for bag in bags]), out=offsets[1:])
        values = np.concatenate([bag.values for bag in bags])
        pooled: Tensor = torch.ops.fbgemm.int_nbit_split_embedding_codegen_lookup_function(
            self.memory,
            self.memory[:0],
            *lookup.layout,
            *lookup.widest,
            torch.from_numpy(values),
            torch.from_numpy(offsets),
            PoolingMode.MEAN.value,
            None,
            SparseType.FP32.as_int(),
            row_alignment=1,
        )
        return pooled

    def _lookup(self, names: tuple[str, ...]) -> "_Lookup":
        """The arguments of the kernel for some features; kept, for there are two such sets."""
        if names not in self._lookups:
            self._lookups[names] = self._made_lookup(names)
        return self._lookups[names]

    def _made_lookup(self, names: tuple[str, ...]) -> "_Lookup":
        widths = [self.widths[name] for name in names]
        code, count = SparseType(self.precision.value).as_int(), len(names)
        ends = torch.tensor([0, *np.cumsum(widths)], dtype=torch.int32)
        widest = {"int4": 0, "int8": 0, "fp32": 0, self.precision.value: max(widths)}
        return _Lookup(
            layout=(
                torch.full((count,), EmbeddingLocation.HOST.value, dtype=torch.int32),
                torch.tensor([self._starts[name] for name in names]),
                torch.full((count,), code, dtype=torch.uint8),
                ends,
                int(ends[-1]),
            ),
            widest=(0, widest["int4"], widest["int8"], 0, widest["fp32"]),
        )


@dataclasses.dataclass(frozen=True)
class _Lookup:
    """The arguments of the kernel for one set of features."""

    layout: tuple[Tensor, Tensor, Tensor, Tensor, int]
    """Placements (host), first bytes, type codes, first columns, all columns."""
    widest: tuple[int, int, int, int, int]
    """Columns of the widest table in int2, int4, int8, float16 and float32."""


def packed(weight: Tensor, precision: TablePrecision) -> Tensor:
    """(rows, columns) float32 as the kernel reads them; quantised rows as (rows, bytes) uint8.

    Raises:
        ValueError: The columns do not fill whole bytes.
    """
    if precision is TablePrecision.FP32:
        return weight.detach()
    bits = 8 if precision is TablePrecision.INT8 else 4
    if weight.shape[1] % 4:
        raise ValueError(f"tables {precision}: {weight.shape[1]} columns; a multiple of 4")
    fused = torch.ops.fbgemm.FloatToFusedNBitRowwiseQuantizedSBHalf(weight.detach(), bits)
    # The kernel wants scale and bias before the codes; the quantiser puts them behind.
    return torch.cat([fused[:, -4:], fused[:, :-4]], dim=1)


def _starts(
    configs: Sequence[EmbeddingBagConfig], precision: TablePrecision
) -> tuple[dict[str, int], int]:
    """The first byte of each feature's table, and the bytes of all tables."""
    starts: dict[str, int] = {}
    size = 0
    for config in configs:
        starts |= dict.fromkeys(config.feature_names, size)
        size += -(-precision.num_bytes(config) // _ALIGNMENT) * _ALIGNMENT
    return starts, size


def _check(
    config: EmbeddingBagConfig, rows: Mapping[str, Tensor], precision: TablePrecision
) -> None:
    if config.name not in rows:
        raise ValueError(f"table {config.name}: missing; there are {sorted(rows)}")
    found = rows[config.name]
    kind = torch.float32 if precision is TablePrecision.FP32 else torch.uint8
    width = precision.row_bytes(config) // kind.itemsize
    if (tuple(found.shape), found.dtype) != ((config.num_embeddings, width), kind):
        raise ValueError(
            f"table {config.name}: {tuple(found.shape)} {found.dtype}; expected "
            f"{(config.num_embeddings, width)} {kind} for {precision}"
        )
