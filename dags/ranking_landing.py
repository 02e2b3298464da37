"""Has a day landed? The sensor that waits for it, its trigger, and the rule that they apply.

While a day has not landed, the sensor is deferred: Airflow's triggerer looks, and no worker waits.
The triggerer imports this module by its name, so this folder must be on its PYTHONPATH.
"""

import asyncio
import datetime
import io
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import ranking_alerts
import ranking_assets as assets
from airflow.sdk import BaseSensorOperator, Context, timezone
from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred
from airflow.triggers.base import BaseTrigger, TriggerEvent
from ranking_assets import DataSet
from ranking_jobs import DAY
from upath import UPath


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
        """Whether its files are there, and whole."""
        return all(map(has_landed, self.files()))

    def files(self) -> list[UPath]:
        """Of the impressions, and of the events of labels that come later."""
        return [self.data_set.landed_file(self.day), *self.data_set.event_files(self.day)]

    def execute(self, context: Context) -> dict[str, str]:
        """The day, where it has landed; else wait for it."""
        if self.poke(context):
            return {"landed": self.day}
        trigger = LandedTrigger(
            files=list(map(str, self.files())),
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
            f"no whole {next((file for file in self.files() if not has_landed(file)), 'file')}"
        )
        context["ti"].xcom_push(key="return_value", value={"skipped": reason})
        # No later day is built before this one, so somebody has to know; a skip alerts nobody.
        skipped = AirflowSkipException(reason)
        ranking_alerts.alert({**context, "exception": skipped}, data_set=self.data_set)
        raise AirflowSkipException(reason)


class LandedTrigger(BaseTrigger):
    """Fires with True once a day has landed, or with False when its time is over."""

    def __init__(self, *, files: list[str], until: datetime.datetime, poll_seconds: float) -> None:
        """Args: the day's files, until when to look, and the time between two looks."""
        super().__init__()
        self.files = files
        self.until = until
        self.poll_seconds = poll_seconds

    def serialize(self) -> tuple[str, dict[str, object]]:
        """As Airflow keeps it, so that any triggerer goes on with it."""
        kept = {"files": self.files, "until": self.until, "poll_seconds": self.poll_seconds}
        return "ranking_landing.LandedTrigger", kept

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look, and look again."""
        places = [assets.place(file) for file in self.files]
        # In a thread: many triggers share the loop, and a look may ask an object store.
        while not (has := await asyncio.to_thread(lambda: all(map(has_landed, places)))):
            if timezone.utcnow() >= self.until:
                break
            await asyncio.sleep(self.poll_seconds)
        yield TriggerEvent(has)


def has_landed(path: UPath) -> bool:
    """Whether a file, or a folder of files, is there and was written to its end.

    The rule of ``features.spark.landing``, which a DAG file must not import; tests compare both.
    """
    if not path.exists():
        return False
    files = [path]
    if path.is_dir():
        entries = list(path.iterdir())
        names = {entry.name for entry in entries}
        # On a disk it is renamed into place; elsewhere Spark puts its mark last.
        is_complete = isinstance(path, Path) or "_SUCCESS" in names
        if not is_complete or "_temporary" in names:
            return False
        files = [entry for entry in entries if entry.name[0] not in "._"]
    return all(_ends_well(file) for file in files)


_ENDS = {".parquet": b"PAR1", ".tsv": b"\n", ".csv": b"\n", ".jsonl": b"\n"}
"""Last bytes of a file that is whole, by the end of its name."""


def _ends_well(file: UPath) -> bool:
    end = _ENDS.get(file.suffix, b"")
    with file.open("rb") as content:
        size = content.seek(0, io.SEEK_END)
        content.seek(max(0, size - len(end)))
        return content.read() == end if end else True
