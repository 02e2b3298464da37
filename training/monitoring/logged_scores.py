"""Rows of the prediction log, a day at a time and only the columns that are asked for.

``docs/prediction-log.md`` has the columns. A log that was begun under an older schema may lack some
of the features' columns: they are left out.
"""

import datetime
from collections.abc import Sequence

import pyarrow as pa

from features.lake.snapshot import open_table
from features.places import Place
from features.prediction_log.settings import Logging
from features.prediction_log.table import table_root
from features.schema import DAY, Schema


def log_folder(asked: Place | None) -> Place:
    """The folder of the logs: the one that was asked for, or ``RANKING_LOG_FOLDER``.

    Raises:
        ValueError: Neither is there.
    """
    if asked is not None:
        return asked
    settings = Logging.from_environment()
    if not settings.has_folder:
        raise ValueError("RANKING_LOG_FOLDER: not set; name the folder of the log with --log")
    return settings.folder


def logged_rows(
    folder: Place, schema: Schema, day: datetime.date, columns: Sequence[str]
) -> pa.Table:
    """The rows of the answers of a day (UTC), with those of some columns that the log has.

    Args:
        folder: Of all logs.
        schema: Of the data set.
        day: Of ``answered_at``.
        columns: Names; ``hour`` may be among them.

    Returns:
        The rows; none where the day has no answers, without columns where there is no log at all.
    """
    table = open_table(table_root(folder, schema.name))
    if table is None:
        return pa.table({})
    there = {field.name for field in table.schema().fields}
    wanted = [name for name in dict.fromkeys(columns) if name in there]
    return table.to_pyarrow_table(filters=[(DAY, "=", day)], columns=wanted)
