"""Which rows judge a version where rows are learnt before their label is final.

A version that has learnt the newest days has learnt the days on which it is to be judged. So some
requests, always the same ones (``Immature.JUDGED_PERCENT``), are learnt when they are mature and no
longer held out, never before: on those nobody has trained. Needs no Spark.
"""

import zlib

import pyarrow as pa

from features.schema import EXAMPLE_ID, Immature, Schema


def judged_key(schema: Schema) -> str:
    """The column whose rows are kept together: a page of results, else an impression alone."""
    return schema.request.name if schema.request else EXAMPLE_ID


def judged_rows(schema: Schema, rows: pa.Table) -> pa.Table:
    """The rows on which a version may be judged; all of them where only mature ones are learnt."""
    if schema.label.immature is None:
        return rows
    keys = rows.column(judged_key(schema)).combine_chunks().dictionary_encode()
    if isinstance(keys, pa.ChunkedArray):
        keys = keys.combine_chunks()
    is_judged = [is_judged_key(key) for key in keys.dictionary.to_pylist()]
    return rows.filter(pa.array(is_judged, pa.bool_()).take(keys.indices))


def is_judged_key(key: str | int) -> bool:
    """Whether rows of a key are judged; Spark's ``crc32`` of the text is the same number."""
    return zlib.crc32(str(key).encode()) % 100 < Immature.JUDGED_PERCENT
