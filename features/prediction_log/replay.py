"""From rows of the prediction log to what the model was given."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.encoding.encode import RowStatus
from features.prediction_log.columns import status_column
from features.schema import REQUEST_TIME, Schema

_USABLE = RowStatus.USABLE.name.lower()


def encoded_columns(schema: Schema, rows: pa.Table) -> dict[str, pa.Array]:
    """What was encoded: values of rows that could not be used are null.

    ``features.encoding.encode.encode`` makes the model's inputs of them, to the bit. Where ids were
    hashed the user's id is null, and so an input that is made of it is another one.

    Args:
        schema: The schema whose fingerprint the rows have.
        rows: Of the log.
    """
    own = [column.name for _, column in schema.entities()]
    own += [*(column.name for column in schema.context), REQUEST_TIME.name]
    found = {name: rows.column(name).combine_chunks() for name in own}
    for table in schema.tables:
        usable = pc.equal(rows.column(status_column(table)), _USABLE).combine_chunks()
        for name in table.encoded_columns:
            found[name] = where(rows.column(name).combine_chunks(), usable)
    return found


def where(values: pa.Array, is_kept: pa.Array) -> pa.Array:
    """The values, null where they are not kept; of any type, lists too."""
    kept = is_kept.to_numpy(zero_copy_only=False)
    if kept.all():
        return values
    return values.take(pa.array(np.arange(len(values)), mask=~kept))
