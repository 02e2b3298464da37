"""The newest day that has landed, and the newest day of each table of the lake: what ages say.

As Prometheus has it, a gauge is a moment in seconds since 1970, which a rule subtracts from
``time()``. The push exports them because it looks at both places all the time; without a push
Airflow's deadlines say that a day is not done.
"""

import datetime
import logging
import time

from prometheus_client import Gauge

from features.datasets.readers import reader_of
from features.lake.lake import EXAMPLES, IMPRESSIONS, ONE_DAY
from features.pipeline.aggregates import midnight
from features.pipeline.workspace import Workspace
from features.places import Place
from features.schema import Schema, TableKind

logger = logging.getLogger(__name__)
LOOK_SECONDS = 60.0
"""Between two looks: days change slowly, and in an object store a look is several requests."""
MOST_DAYS = 31
"""Of landed days that are not built yet, how many are looked for."""
LANDED = Gauge(
    "ranking_landed_day_timestamp_seconds",
    "End of the newest day that has landed whole.",
    ["model"],
)
BUILT = Gauge(
    "ranking_lake_day_timestamp_seconds",
    "End of the newest day of a table of the lake; of examples whose labels come later, the "
    "moment when those of the day were final.",
    ["model", "table"],
)


def daily_tables(schema: Schema) -> list[str]:
    """The tables of the lake that get a partition every day; attributes change when they do."""
    features = [one.name for one in schema.tables if one.kind is not TableKind.ATTRIBUTES]
    return [IMPRESSIONS, *features, EXAMPLES]


class Ages:
    """Looks at the landed and the built days of one data set, and shows the newest."""

    def __init__(self, work: Workspace, landing: Place) -> None:
        """Args: schema and lake, and where impressions of all data sets land."""
        self._work = work
        self._landing = landing / work.schema.name
        self._next_look = float("-inf")

    def look(self, today: datetime.date) -> None:
        """Look, if it is time to; a log that has ended has no ages.

        Args:
            today: No later day can have landed.
        """
        if self._work.schema.last_day is not None or time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_SECONDS
        try:
            self._show(today)
        except Exception as error:  # noqa: BLE001  # whatever the places' clients raise
            # What keeps a push from going on it says itself; a moment that stands still ages.
            logger.warning("ages: not known: %s", error)

    def _show(self, today: datetime.date) -> None:
        schema, lake = self._work.schema, self._work.lake
        for table in daily_tables(schema):
            if days := lake.days(table):
                final = schema.maturity_days if table == EXAMPLES else 0
                BUILT.labels(schema.name, table).set(_end(days[-1] + final * ONE_DAY))
        built = lake.days(IMPRESSIONS)
        if newest := self._newest_landed(built[-1] if built else None, today):
            LANDED.labels(schema.name).set(_end(newest))

    def _newest_landed(
        self, built: datetime.date | None, today: datetime.date
    ) -> datetime.date | None:
        """The newest of the days after the newest built one that have landed, else that one."""
        reader = reader_of(self._work.schema)
        for past in range(MOST_DAYS):
            day = today - past * ONE_DAY
            if built is not None and day <= built:
                break
            if reader.has_landed(self._landing, day):
                return day
        return built


def _end(day: datetime.date) -> float:
    return midnight(day + ONE_DAY).timestamp()
