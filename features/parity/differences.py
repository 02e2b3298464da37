"""Where two sets of raw columns differ: by value, and by what the encoder makes of them."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.encoding.encode import Ids, ModelInputs
from features.schema import FeatureTable, Schema

Mask = npt.NDArray[np.bool_]


def differing_values(one: pa.Array, other: pa.Array) -> Mask:
    """(N,) whether values differ; null and NaN, which are both missing, do not."""
    if pa.types.is_list(one.type):
        return _differing_lists(one, other)
    gone, other_gone = (pc.is_null(side, nan_is_null=True) for side in (one, other))
    is_equal = pc.or_(pc.and_(gone, other_gone), pc.fill_null(pc.equal(one, other), False))
    found: Mask = pc.invert(is_equal).to_numpy(zero_copy_only=False)
    return found


def _differing_lists(one: pa.Array, other: pa.Array) -> Mask:
    lengths, others = (
        pc.fill_null(pc.list_value_length(side), -1).to_numpy(zero_copy_only=False)
        for side in (one, other)
    )
    differs: Mask = lengths != others
    filled = np.flatnonzero(~differs & (lengths > 0))
    if len(filled):
        flat = differing_values(*(side.take(pa.array(filled)).flatten() for side in (one, other)))
        starts = np.cumsum(lengths[filled]) - lengths[filled]
        differs[filled] = np.logical_or.reduceat(flat, starts)
    return differs


def differing_inputs(one: ModelInputs, other: ModelInputs, schema: Schema) -> dict[str, Mask]:
    """(N,) for each input of the model, whether any bit of it differs."""
    bits = one.dense.view(np.uint32) != other.dense.view(np.uint32)
    found = {name: bits[:, place] for place, name in enumerate(schema.dense_inputs())}
    return found | {name: _differing_bags(ids, other.ids[name]) for name, ids in one.ids.items()}


def _differing_bags(one: Ids, other: Ids) -> Mask:
    differs: Mask = one.lengths != other.lengths
    filled = np.flatnonzero(~differs & (one.lengths > 0))
    if len(filled):
        flat = one.take(filled).values != other.take(filled).values
        lengths = one.lengths[filled]
        differs[filled] = np.logical_or.reduceat(flat, np.cumsum(lengths) - lengths)
    return differs


def features_of(schema: Schema, table: FeatureTable) -> dict[str, tuple[str, ...]]:
    """The features of a table, each with the inputs of the model that are made of it.

    They are its stored columns that the encoder reads, and whether there was a row at all. An
    affinity is made of a user's row and of an attribute of items: of features of two tables.
    """
    columns = {column.name: column for column in table.columns}
    found: dict[str, tuple[str, ...]] = {}
    for name in table.encoded_columns:
        if name in columns:
            own = columns[name]
            is_dense = own in table.dense_columns
            inputs = own.dense_names if is_dense else (name,) * (own in table.sparse_columns)
            liked = (one.column.name for one in schema.affinities if one.on == name)
            found[name] = (*inputs, *table.derived_from(name), *liked)
    return {**found, table.missing_indicator: (table.missing_indicator,)}


def used_only(values: Mapping[str, pa.Array], is_kept: Mask) -> dict[str, pa.Array]:
    """The values, null where they are not kept."""
    if is_kept.all():
        return dict(values)
    places = pa.array(np.arange(len(is_kept)), mask=~is_kept)
    return {name: column.take(places) for name, column in values.items()}
