"""A user in exported rankers: rows of a golden request go, rows of served tables are only named.

The tables are what the version's name, its hashes and its gate's decision are of; they are not
changed. The next export is made of a checkpoint in which the row is reset.
"""

import dataclasses
import hashlib
import io
import json
from collections.abc import Callable

import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from safetensors import safe_open
from safetensors.torch import load

from features.places import Place, is_local, put_whole, uri
from features.schema import Schema
from training.artifact.golden import GOLDEN
from training.artifact.manifest import MANIFEST, Manifest, read_manifest
from training.artifact.quantized_tables import TablePrecision, packed
from training.config.recipe import recipe_from_dict
from training.erasure.embedding_row import UserRow, first_values, row_of_user

_WEIGHTS = "weights.safetensors"


def versions(root: Place) -> list[Place]:
    """Folders of finished artifacts, the oldest first."""
    return sorted(path.parent for path in root.glob(f"[0-9]*/{MANIFEST}"))


def erase_golden(
    folder: Place, schema: Schema, user_id: int | str, note: Callable[[str], None], planned: str
) -> int:
    """Remove a user's rows from an artifact's golden request; returns how many there were.

    The scores of the other rows are what they were. A server that loads the version between the two
    writes refuses it, and does so no more when the command is run again.

    Args:
        folder: The artifact's.
        schema: The data set's schema.
        user_id: The user's id.
        note: Takes the hash that the file is going to have, before it is written.
        planned: What a killed run has noted; empty: nothing.

    Raises:
        ValueError: All its rows are the user's: none would be left to prove a copy by.
    """
    content = (folder / GOLDEN).read_bytes()
    digest, manifest = hashlib.sha256(content).hexdigest(), read_manifest(folder)
    if planned and digest == planned != manifest.content_sha256[GOLDEN]:
        _put_manifest(folder, manifest, digest)
    rows = pq.read_table(io.BytesIO(content))
    if schema.user is None or schema.user.name not in rows.column_names:
        return 0
    is_other = pc.fill_null(pc.not_equal(rows.column(schema.user.name), user_id), True)
    kept = rows.filter(is_other)
    if len(kept) == len(rows):
        return 0
    if not len(kept):
        raise ValueError(f"artifact {folder.name}: all rows of its golden request are the user's")
    made = io.BytesIO()
    pq.write_table(kept, made)
    digest = hashlib.sha256(made.getvalue()).hexdigest()
    note(digest)
    put_whole(folder / GOLDEN, made.getvalue())
    _put_manifest(folder, manifest, digest)
    return len(rows) - len(kept)


def _put_manifest(folder: Place, manifest: Manifest, digest: str) -> None:
    hashes = {**manifest.content_sha256, GOLDEN: digest}
    changed = dataclasses.asdict(dataclasses.replace(manifest, content_sha256=hashes))
    put_whole(folder / MANIFEST, json.dumps(changed, indent=1).encode())


def has_trained_row(folder: Place, schema: Schema, user_id: int | str) -> bool:
    """Whether an artifact's table has another row for the user than an untrained ranker's."""
    manifest, user = read_manifest(folder), schema.user
    owner = schema.table_owners[user.name].name if user else ""
    found = _row(folder, owner, lambda size: row_of_user(schema, user_id, size))
    if found is None:
        return False
    try:
        recipe = recipe_from_dict(manifest.config)
    except ValueError:
        return True
    precision = TablePrecision(manifest.tables)
    row, number = found
    width = _columns(row, precision)
    first = packed(first_values(owner, number, width, recipe), precision)
    return not torch.equal(row, first)


def _row(
    folder: Place, table: str, row_of: Callable[[int], UserRow | None]
) -> tuple[torch.Tensor, int] | None:
    """The row of a table, as the file has it, and its number; None where there is none."""
    prefix = f"embeddings.embedding_bags.{table}."
    file = folder / _WEIGHTS
    if not is_local(file):
        tensors = load(file.read_bytes())
        names = {name: tensors[name].shape[0] for name in tensors if name.startswith(prefix)}
        for name, size in names.items():
            found = row_of(size)
            if found is not None:
                return tensors[name][found.number : found.number + 1], found.number
        return None
    with safe_open(uri(file), framework="pt") as opened:
        for name in opened.keys():  # noqa: SIM118 - it is no mapping
            if name.startswith(prefix):
                part = opened.get_slice(name)
                found = row_of(part.get_shape()[0])
                if found is not None:
                    return part[found.number : found.number + 1], found.number
    return None


def _columns(row: torch.Tensor, precision: TablePrecision) -> int:
    if precision is TablePrecision.FP32:
        return row.shape[1]
    return (row.shape[1] - 4) * (1 if precision is TablePrecision.INT8 else 2)
