"""Has a day landed? The sensor that waits for it, and its trigger.

While a day has not landed, the sensor is deferred: Airflow's triggerer looks, and no worker waits.
The triggerer imports this module by its name, so this folder must be on its PYTHONPATH.
"""

import asyncio
import datetime
from collections.abc import AsyncIterator, Sequence

import ranking_alerts
import ranking_assets as assets
from airflow.sdk import BaseSensorOperator, Context, timezone
from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred
from airflow.triggers.base import BaseTrigger, TriggerEvent
from ranking_assets import DataSet
from ranking_jobs import DAY

from ranking_landing.files import has_landed
from ranking_landing.tables import has_rows_since


class LandedSensor(BaseSensorOperator):
    """Waits, deferred, until a day has landed; gives up with an alert, and skips.

    A file that is still being written does not count: it has another name, or no proper end.
    """

    template_fields: Sequence[str] = ("day",)
    ui_color = "#fff4e5"

    def __init__(self, *, data_set: DataSet, day: str = DAY, **kwargs: object) -> None:
        """Wait for ``day`` of a data set, by default the run's; ``timeout`` says how long."""
        super().__init__(**kwargs)
        self.data_set = data_set
        self.day = day

    def poke(self, context: Context) -> bool:
        """Whether all has landed that the day needs."""
        return self.missing() is None

    def missing(self) -> str | None:
        """The first file, or table, that is not there, is cut off, or has not come so far."""
        file, source = self.data_set.landed_file(self.day), self.data_set.log.source
        if not has_day(str(file), self.day, source):
            return f"{file}{_of_what(source, self.day)}"
        events = self.data_set.event_files(self.day)
        return next((str(file) for file in events if not has_landed(file)), None)

    def execute(self, context: Context) -> dict[str, str]:
        """The day, where it has landed; else wait for it."""
        if self.poke(context):
            return {"landed": self.day}
        trigger = LandedTrigger(
            file=str(self.data_set.landed_file(self.day)),
            events=list(map(str, self.data_set.event_files(self.day))),
            day=self.day,
            source=self.data_set.log.source,
            until=timezone.utcnow() + datetime.timedelta(seconds=self.timeout),
            poll_seconds=self.poke_interval,
        )
        raise TaskDeferred(trigger=trigger, method_name="looked")

    def looked(self, context: Context, event: bool) -> dict[str, str]:
        """The day, where the trigger has found it; else skip."""
        if event:
            return {"landed": self.day}
        reason = (
            f"day {self.day} of {self.data_set.name} did not land within {self.timeout:.0f} s: "
            f"no whole {self.missing() or 'file'}"
        )
        context["ti"].xcom_push(key="return_value", value={"skipped": reason})
        # No later day is built before this one, so somebody has to know; a skip alerts nobody.
        skipped = AirflowSkipException(reason)
        ranking_alerts.alert({**context, "exception": skipped}, data_set=self.data_set)
        raise AirflowSkipException(reason)


class LandedTrigger(BaseTrigger):
    """Fires with True once a day has landed, or with False when its time is over."""

    def __init__(
        self,
        *,
        file: str,
        until: datetime.datetime,
        poll_seconds: float,
        day: str = "",
        events: Sequence[str] = (),
        source: dict[str, str] | None = None,
    ) -> None:
        """Look for a day.

        Args:
            file: The day's file, or the table.
            until: When to give up.
            poll_seconds: Between two looks.
            day: The day, YYYY-MM-DD.
            events: The files with the events of labels that come later.
            source: What the schema file says of where it lands (``Log.source``).
        """
        super().__init__()
        self.file, self.day, self.source = file, day, source or {}
        self.events = list(events)
        self.until = until
        self.poll_seconds = poll_seconds

    def serialize(self) -> tuple[str, dict[str, object]]:
        """As Airflow keeps it, so that any triggerer goes on with it."""
        names = ("file", "day", "events", "source", "until", "poll_seconds")
        kept = {name: getattr(self, name) for name in names}
        return "ranking_landing.sensor.LandedTrigger", kept

    def _has_landed(self) -> bool:
        if not has_day(self.file, self.day, self.source):
            return False
        return all(has_landed(assets.place(file)) for file in self.events)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look, and look again."""
        # In a thread: many triggers share the loop, and a look may ask an object store.
        while not (has := await asyncio.to_thread(self._has_landed)):
            if timezone.utcnow() >= self.until:
                break
            await asyncio.sleep(self.poll_seconds)
        yield TriggerEvent(has)


def has_day(file: str, day: str, source: dict[str, str]) -> bool:
    """Whether a day has landed: its file, its rows in a table; of a topic, whether it is over."""
    form = source.get("format", "")
    if form == "kafka":
        ended = datetime.date.fromisoformat(day) + datetime.timedelta(days=1)
        return bool(timezone.utcnow() >= assets.midnight(ended))
    if form in {"delta", "iceberg"}:
        table, moment = assets.place(file), datetime.date.fromisoformat(day)
        return has_rows_since(table, moment, source, assets.table_io())
    return has_landed(assets.place(file), source.get("marker", ""))


def _of_what(source: dict[str, str], day: str) -> str:
    """What else was waited for, in words."""
    if source["marker"]:
        return f" with its marker {source['marker'].replace('{day}', day)}"
    is_table = source["format"] in {"delta", "iceberg"}
    return f" ({source['format']}) with rows of it or of a later day" * is_table
