"""Rows of erased users, left out of what lands."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from features.lake.erased import erased_users, hash_key, hash_text
from features.places import Place
from features.schema import REQUEST_TIME, Schema

_HASH, _UNTIL = "__id_hash", "__erased_until"


def without_erased(
    frame: DataFrame, lake: Place, schema: Schema, *, have_moments: bool = True
) -> DataFrame:
    """Rows but those of erased users; all rows where they have no user's id.

    Args:
        frame: What has landed.
        lake: The tables of the data set.
        schema: Its schema.
        have_moments: Whether rows have the moment of an impression: then those after the erasure
            are kept, else all rows of an erased user are left out; as are those of which it cannot
            be read.

    Raises:
        ValueError: The list of erased users cannot be read.
    """
    user, erased = schema.user, erased_users(lake)
    if user is None or user.name not in frame.columns or not erased:
        return frame
    rows = [(one.id_hash, one.until) for one in erased]
    listed = frame.sparkSession.createDataFrame(rows, f"{_HASH} string, {_UNTIL} timestamp")
    text = F.concat(F.lit(hash_text(hash_key(lake))), F.col(user.name).cast("string"))
    is_erased = F.sha2(text, 256) == F.col(_HASH)
    if have_moments:
        # A row whose moment cannot be read may be from before.
        is_before = F.coalesce(F.col(REQUEST_TIME.name) <= F.col(_UNTIL), F.lit(True))
        is_erased = is_erased & is_before
    return frame.join(F.broadcast(listed), is_erased, how="left_anti")
