"""The row of a user in the tables of a checkpoint, put back to where an untrained one begins.

A checkpoint's tensors are files of pieces. The pieces with the row are written anew, and all others
copied as they are, into a folder of their own: until the manifest names it, the checkpoint is what
it was, and a reader of either finds one whole save.
"""

import dataclasses
import hashlib
import io
import pickle
import uuid
from collections.abc import Iterator, Mapping
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import torch
from torch import Tensor
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex, TensorStorageMetadata

from features.encoding.primitives import embedding_rows
from features.places import Place
from features.schema import Kind, Schema
from training.checkpoint.catalog import Checkpoint, publish
from training.checkpoint.storage import TensorsReader
from training.config.recipe import Recipe, recipe_from_dict
from training.distributed.embedding_plan import fill_part, table_of

_METADATA = ".metadata"
_COPIED_AT_ONCE = 2**22


class UserRow(NamedTuple):
    """A row of an embedding table that a user's id is looked up in."""

    table: str
    number: int


class _Piece(NamedTuple):
    """A part of a tensor, as a file has it."""

    key: MetadataIndex
    file: str
    offset: int
    length: int


def row_of_user(schema: Schema, user_id: int | str, num_rows: int | None = None) -> UserRow | None:
    """The row of a user; None where no table has one.

    Args:
        schema: The data set's schema.
        user_id: The user's id.
        num_rows: Of the table, where it is not as long as the schema says.
    """
    column = schema.user
    if column is None or column.kind is not Kind.SPARSE:
        return None
    if num_rows is not None and column.hash_size and not column.num_ids:
        column = dataclasses.replace(column, hash_size=num_rows - 1)
    (row,) = embedding_rows(column, pa.array([user_id])).tolist()
    owner = schema.table_owners[column.name].name
    return UserRow(owner, row) if 0 < row < (num_rows or row + 1) else None


def reset_row(checkpoint: Checkpoint, schema: Schema, user_id: int | str) -> dict[str, int]:
    """Put a user's row and its moments back to their first values, in a finished checkpoint.

    The bits of all other rows stay. A checkpoint in which the row is at its first values is left as
    it is.

    Returns:
        By tensor, how many rows were changed; one in each piece.

    Raises:
        CorruptError: The checkpoint's files are not what was written.
    """
    checkpoint.verify()
    metadata = TensorsReader(checkpoint.tensors).read_metadata()
    recipe = recipe_from_dict(checkpoint.manifest.recipe)
    changed: dict[_Piece, bytes] = {}
    counts: dict[str, int] = {}
    for piece in _pieces(metadata):
        rows = _rows_in(metadata, piece, schema, user_id)
        content = _reset(checkpoint.tensors, metadata, piece, rows, recipe) if rows else None
        if content is not None:
            changed[piece] = content
            counts[piece.key.fqn] = counts.get(piece.key.fqn, 0) + len(rows)
    if changed:
        _replace(checkpoint, metadata, changed)
    return counts


def first_values(table: str, row: int, num_columns: int, recipe: Recipe) -> Tensor:
    """(1, columns) float32: what an untrained ranker has in a row."""
    part = torch.empty((1, num_columns))
    fill_part(
        part,
        seed=recipe.training.seed,
        table=table,
        num_columns=num_columns,
        std=recipe.model.embedding_std,
        offsets=(row, 0),
    )
    return part


def _pieces(metadata: Metadata) -> Iterator[_Piece]:
    """All pieces, in the order in which they lie in their files."""
    found = [
        _Piece(key, info.relative_path, info.offset, info.length)
        for key, info in metadata.storage_data.items()
    ]
    yield from sorted(found, key=lambda piece: (piece.file, piece.offset))


def _rows_in(
    metadata: Metadata, piece: _Piece, schema: Schema, user_id: int | str
) -> dict[int, UserRow]:
    """Rows of a piece that are the user's, by their place in the piece."""
    name = piece.key.fqn
    whole = metadata.state_dict_metadata[name]
    table = table_of(name)
    if not table or not isinstance(whole, TensorStorageMetadata) or not whole.size:
        return {}
    num_rows, _ = _size_of_weight(metadata, name)
    user = row_of_user(schema, user_id, num_rows)
    if user is None or user.table != table:
        return {}
    offset = piece.key.offset[0] if piece.key.offset else 0
    size = next(
        one.sizes[0] for one in whole.chunks if one.offsets == (piece.key.offset or one.offsets)
    )
    # Of moments, the shards of columns lie one behind the other.
    everywhere = range(user.number, whole.size[0], num_rows)
    return {row - offset: user for row in everywhere if offset <= row < offset + size}


def _weight_of(name: str) -> str:
    """The tensor of a table's weights, to which a tensor of its optimiser belongs."""
    begin = name.index("embedding_bags.")
    return f"model.embeddings.{name[begin:].split('.weight')[0]}.weight"


def _size_of_weight(metadata: Metadata, name: str) -> tuple[int, int]:
    """Rows and columns of the table that a tensor belongs to."""
    found = metadata.state_dict_metadata[_weight_of(name)]
    assert isinstance(found, TensorStorageMetadata), found
    rows, columns = found.size
    return rows, columns


def _reset(
    folder: Place, metadata: Metadata, piece: _Piece, rows: Mapping[int, UserRow], recipe: Recipe
) -> bytes | None:
    """A piece with its rows reset; None where they are as an untrained ranker has them."""
    with (folder / piece.file).open("rb") as file:
        file.seek(piece.offset)
        tensor = torch.load(io.BytesIO(file.read(piece.length)), weights_only=True)
    is_weight = piece.key.fqn == _weight_of(piece.key.fqn)
    before = tensor.clone()
    for place, user in rows.items():
        if is_weight:
            _, num_columns = _size_of_weight(metadata, piece.key.fqn)
            first_column = piece.key.offset[1] if piece.key.offset else 0
            values = first_values(user.table, user.number, num_columns, recipe)
            tensor[place] = values[0, first_column : first_column + tensor.shape[1]].to(
                tensor.dtype
            )
        else:
            tensor[place] = 0
    if torch.equal(before, tensor):
        return None
    content = io.BytesIO()
    torch.save(tensor, content)
    return content.getvalue()


def _replace(checkpoint: Checkpoint, metadata: Metadata, changed: Mapping[_Piece, bytes]) -> None:
    """Write the checkpoint's files anew, with other bytes for some pieces; then its manifest."""
    name, hashes = f"tensors-{uuid.uuid4().hex[:12]}", {}
    source, target = checkpoint.tensors, checkpoint.path / name
    target.mkdir(parents=True, exist_ok=True)
    by_file: dict[str, list[_Piece]] = {}
    for piece in _pieces(metadata):
        by_file.setdefault(piece.file, []).append(piece)
    for file, pieces in by_file.items():
        with (source / file).open("rb") as old, (target / file).open("wb") as new:
            hashes[file] = _copied(old, new, pieces, changed, metadata)
    content = pickle.dumps(metadata)
    (target / _METADATA).write_bytes(content)
    hashes[_METADATA] = hashlib.sha256(content).hexdigest()
    manifest = dataclasses.replace(checkpoint.manifest, files=hashes, tensors=name)
    publish(checkpoint.path, dataclasses.asdict(manifest))


def _copied(
    old: BinaryIO,
    new: BinaryIO,
    pieces: list[_Piece],
    changed: Mapping[_Piece, bytes],
    metadata: Metadata,
) -> str:
    """Copy a file piece by piece, and note where each lies now; returns the file's SHA-256."""
    digest, position = hashlib.sha256(), 0
    for piece in pieces:
        start = position
        for part in _parts(old, piece, changed.get(piece)):
            new.write(part)
            digest.update(part)
            position += len(part)
        info = metadata.storage_data[piece.key]
        metadata.storage_data[piece.key] = dataclasses.replace(
            info, offset=start, length=position - start
        )
    return digest.hexdigest()


def _parts(old: BinaryIO, piece: _Piece, content: bytes | None) -> Iterator[bytes]:
    if content is not None:
        yield content
        return
    old.seek(piece.offset)
    left = piece.length
    while left:
        part = old.read(min(left, _COPIED_AT_ONCE))
        left -= len(part)
        yield part
