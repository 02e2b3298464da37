"""A Parquet file of one day of a table, by pyarrow, with a footer that describes its rows."""

import datetime
import hashlib
import uuid
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import Schema

from features.lake.commit import commit
from features.lake.day_rows import FOOTER, FileDescription, WrittenFile
from features.lake.snapshot import snapshot
from features.places import Place, arrow_file, is_local
from features.schema import DAY

ROW_GROUP_ROWS = 65_536
ROW_HASH, MIXED_HASH = "__row_hash", "__mixed_hash"
"""Columns that rows carry to their file, and that are not written: a hash, and the hash of it."""


class DayFile:
    """A Parquet file of one day that is being written, and the sums of its rows' hashes."""

    def __init__(
        self,
        root: Place,
        name: str,
        day: datetime.date,
        schema: pa.Schema,
        description: FileDescription,
        *,
        row_group_rows: int = ROW_GROUP_ROWS,
    ) -> None:
        """Args: the table's folder, the file's name, its day, its columns, and what it says."""
        self.day = day
        self._path, self._description = f"{DAY}={day.isoformat()}/{name}.parquet", description
        self._rows, self._sum, self._xor = 0, 0, 0
        self._names, self._row_group_rows = schema.names, row_group_rows
        self._held: list[pa.Table] = []
        place = root / self._path
        if is_local(place):
            place.parent.mkdir(parents=True, exist_ok=True)
        self._files, self._name = arrow_file(place)
        self._file = pq.ParquetWriter(
            self._name, schema.remove_metadata(), compression="zstd", filesystem=self._files
        )

    def write(self, rows: pa.RecordBatch) -> None:
        """Append rows that carry their hashes."""
        hashes = rows.column(ROW_HASH).to_numpy()
        # In two halves: the sum of many 64-bit numbers does not fit into one.
        high, low = hashes >> 32, hashes & 0xFFFFFFFF
        total = (int(high.sum()) << 32) + int(low.sum())
        mixed = int(np.bitwise_xor.reduce(rows.column(MIXED_HASH).to_numpy(), initial=0))
        own = rows.select(self._names)
        self.append(pa.Table.from_batches([own]), total, mixed)

    def append(self, rows: pa.Table, hash_sum: int, hash_xor: int = 0) -> None:
        """Append rows whose hashes have these sums."""
        self._rows += len(rows)
        self._sum += hash_sum
        self._xor ^= hash_xor
        self._held.append(rows)
        if sum(map(len, self._held)) >= self._row_group_rows:
            self.end_row_group()

    def end_row_group(self) -> None:
        """Let the rows so far be a row group of their own."""
        if self._held:
            rows = pa.concat_tables(self._held)
            self._file.write_table(rows, self._row_group_rows)
            self._held = []

    def finish(self) -> WrittenFile:
        """Write the footer; returns what is in the file."""
        self.end_row_group()
        written = WrittenFile(self._path, 0, self.day, self._rows, self._sum, self._xor)
        self._file.add_key_value_metadata({FOOTER: written.footer(self._description)})
        self._file.close()
        num_bytes = self._files.get_file_info(self._name).size
        return WrittenFile(self._path, num_bytes, self.day, self._rows, self._sum, self._xor)


def replace_day(
    root: Place,
    day: datetime.date,
    rows: Iterable[pa.Table],
    *,
    fingerprint: str = "",
    row_group_rows: int = ROW_GROUP_ROWS,
    job: str = "",
) -> int:
    """Replace one day of a table by rows from Arrow, table by table; returns the version.

    For callers without Spark. The content hash is that of the tables in their order; ``job`` is
    what the log says who wrote.
    """
    file: DayFile | None = None
    schema, name, description = pa.schema([]), uuid.uuid4().hex, FileDescription(fingerprint)
    for table in rows:
        if file is None:
            schema = table.schema
            file = DayFile(root, name, day, schema, description, row_group_rows=row_group_rows)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as stream:
            stream.write_table(table)
        digest = hashlib.sha256(sink.getvalue()).digest()
        file.append(table, int.from_bytes(digest[:8], "little"))
    if file is None:
        raise ValueError(f"{root.name} on {day}: no rows to write")
    struct = Schema.from_arrow(schema.append(pa.field(DAY, pa.date32()))).to_json()
    base = snapshot(root).numbers([day])
    metadata = {"fingerprint": fingerprint, **({"job": job} if job else {})}
    return commit(root, [file.finish()], base, struct=struct, metadata=metadata)
