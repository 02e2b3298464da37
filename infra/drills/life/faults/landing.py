"""Faults of what lands."""

import abc
import datetime
import io

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.drills.life.faults.fault import Fault, Outcome, RunFault, named
from infra.drills.life.world import ONE_DAY, World

_SHARE_WITHOUT_DEVICE = 0.99


class _Landing(RunFault):
    """Another file than the right one; the right one comes later."""

    clears_all = True

    def heal(self, world: World, day: datetime.date) -> None:
        """The right file lands."""
        world.land(day)


class LateDay(_Landing):
    """Nothing lands while the run waits."""

    name, alert = "late-day", "day-not-landed"
    words = "The day's file comes after the run has given up waiting."

    def prepare(self, world: World, day: datetime.date) -> None:
        """Nothing lands."""


class HalfFile(_Landing):
    """A file that was cut off."""

    name, alert = "half-file", "day-not-landed"
    words = "The day's file is cut off in the middle."

    def prepare(self, world: World, day: datetime.date) -> None:
        """The first half lands."""
        whole = world.whole(day).read_bytes()
        world.land_bytes(day, whole[: len(whole) // 2])


class _WrongRows(_Landing):
    """A whole file with rows that must not be published."""

    alert = "critical-validation"

    def prepare(self, world: World, day: datetime.date) -> None:
        """The day's rows land, changed."""
        file = io.BytesIO()
        pq.write_table(self.changed(pq.read_table(world.whole(day), partitioning=None)), file)
        world.land_bytes(day, file.getvalue())

    @abc.abstractmethod
    def changed(self, rows: pa.Table) -> pa.Table:
        """The rows that land."""


class Nulls(_WrongRows):
    """A column that is empty."""

    name, words = "nulls", "The logger has lost the device of nearly all requests."
    reason = "quarantine"

    def changed(self, rows: pa.Table) -> pa.Table:
        """Most rows without a device."""
        count = round(_SHARE_WITHOUT_DEVICE * len(rows))
        devices = [None] * count + rows["device"].to_pylist()[count:]
        return _with(rows, "device", pa.array(devices, pa.string()))


class ChangedType(_WrongRows):
    """A column of another type."""

    name, words = "changed-type", "The label comes as text since the logger's last release."
    reason = "click"

    def changed(self, rows: pa.Table) -> pa.Table:
        """Labels as text."""
        return _with(rows, "click", rows["click"].cast(pa.string()))


class Tomorrow(_WrongRows):
    """Rows of another day."""

    name, words = "wrong-clock", "The logger's clock is a day ahead."
    reason = "quarantine"

    def changed(self, rows: pa.Table) -> pa.Table:
        """All rows a day later."""
        later = pc.add(rows["timestamp"], pa.scalar(ONE_DAY))
        return _with(rows, "timestamp", later.cast(rows["timestamp"].type))


class NoLabels(_WrongRows):
    """A label source that stopped."""

    name, words = "labels-stop", "The source of the clicks has stopped: nobody clicks any more."
    reason = "label rate"

    def changed(self, rows: pa.Table) -> pa.Table:
        """No row has a click."""
        return _with(rows, "click", pa.array([0] * len(rows), pa.int64()))


class SchemaChanged(_Landing):
    """A feature that was added to the schema file, and not rolled out."""

    name, alert = "added-feature", "schema-changed"
    words = "Somebody adds a feature to the schema file that runs, and rolls it back."

    _before = ""

    def prepare(self, world: World, day: datetime.date) -> None:
        """The day lands; the schema has a window more."""
        world.land(day)
        file = world.schema_file
        text = file.read_text(encoding="utf-8")
        self._before = text
        wider = text.replace("windows_days: [1, 7, 28]", "windows_days: [1, 3, 7, 28]")
        if wider == text:
            raise RuntimeError(f"{file}: has no windows_days to widen")
        file.write_text(wider, encoding="utf-8")

    def heal(self, world: World, day: datetime.date) -> None:
        """The schema is what it was."""
        if self._before:
            world.schema_file.write_text(self._before, encoding="utf-8")


class LandedAgain(Fault):
    """A past day lands again with fewer rows, after it was learnt."""

    name, alert = "landed-again", "landed-again"
    words = "A day of the past lands once more, without a tenth of its rows."
    first_day = 4
    days_back = 2

    def undo(self, world: World, day: datetime.date) -> None:
        """The right file of that day lands."""
        world.land(day - self.days_back * ONE_DAY)

    def happen(self, world: World, day: datetime.date) -> Outcome:
        """A run for the past day is refused; the day's own run is not disturbed.

        The right file lands again, and is found to be what the lake has.
        """
        past = day - self.days_back * ONE_DAY
        rows = pq.read_table(world.whole(past), partitioning=None)
        file = io.BytesIO()
        pq.write_table(rows.slice(0, len(rows) * 9 // 10), file)
        world.land_bytes(past, file.getvalue())
        again = world.runs.start_by_hand(world.daily, past, name=f"again-on-{day}")
        world.runs.wait(again)
        is_named, by = named(world, again, self.alert, task="ingest", reason=str(past))
        self.undo(world, day)
        asked = ("ingest", "features", "ingest", f"--date={past}")
        is_as_before = bool(world.jobs.run(*asked, folders="landing lake").get("unchanged"))
        world.land(day)
        run = world.runs.start(world.daily, day)
        is_healed = world.runs.wait(run) == "success" and is_as_before
        return Outcome(is_named, by, is_healed=is_healed)


def _with(rows: pa.Table, name: str, values: "pa.Array | pa.ChunkedArray") -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, values)
