"""How old what answers is: the model and the feature rows that the endpoint has read.

As Prometheus has it, a gauge is the moment, in seconds since 1970, and the rule subtracts it from
``time()``; NaN has no age. Of a log that has ended (``last_day`` of its schema) there are none: all
are old.
"""

import datetime
import math

from prometheus_client import Gauge

from features.schema import Schema

READY = Gauge(
    "ranking_model_ready",
    "1 where a version of the model is loaded, else 0.",
    ["model"],
)
MODEL_DAY = Gauge(
    "ranking_model_day_timestamp_seconds",
    "End of the day of the log for which the champion was made.",
    ["model"],
)
MODEL_LOADED = Gauge(
    "ranking_model_loaded_timestamp_seconds",
    "When this server began to answer with its champion.",
    ["model"],
)
NEWEST_ROW = Gauge(
    "ranking_online_row_timestamp_seconds",
    "Event time of the newest row of a table of state or of days: among the items in memory, or "
    "among all that requests have read since the start.",
    ["model", "table"],
    multiprocess_mode="livemax",
)
OF_EACH = (READY, MODEL_DAY, MODEL_LOADED)
"""What every process knows of the whole server."""


def show_champion(schema: Schema, version: str | None, *, now: float) -> None:
    """Say which champion answers from now on, and how old it is.

    Args:
        schema: Of the model.
        version: Begins with its day, YYYY-MM-DD; of one that does not, there is no age. None: no
            version is loaded.
        now: Seconds since 1970.
    """
    is_going_on = version is not None and schema.last_day is None
    READY.labels(schema.name).set(version is not None)
    MODEL_LOADED.labels(schema.name).set(math.nan if version is None else now)
    MODEL_DAY.labels(schema.name).set(_end_of_day(version or "") if is_going_on else math.nan)


def _end_of_day(version: str) -> float:
    """The end of the day with which a version begins, in seconds since 1970; NaN without one."""
    try:
        day = datetime.datetime.fromisoformat(version[: len("2025-01-31")])
    except ValueError:
        return math.nan
    return (day.replace(tzinfo=datetime.UTC) + datetime.timedelta(days=1)).timestamp()
