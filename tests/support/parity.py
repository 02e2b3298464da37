"""A replay of MovieLens, the endpoint's inputs over its store, and their differences.

``Replay`` lands the log, pushes and builds up to any moment. ``Online`` reads a copy of the store
as the endpoint does. ``differences`` names every input that is not the training example's.
"""

import bisect
import dataclasses
import datetime
import json
import shutil

import numpy as np
import pyarrow as pa

from features.datasets.catalog import schema_of
from features.encoding.encode import Ids, ModelInputs, RowStatus, encode
from features.lake.lake import ONE_DAY, Lake, day_range
from features.schema import TableKind
from features.spark import landing as land

SCHEMA = schema_of("movielens-100k")
FIRST, LAST = datetime.date(1998, 3, 28), datetime.date(1998, 4, 17)
UTC = datetime.UTC
MINUTE = datetime.timedelta(minutes=1)
BUILD_AFTER = 75 * MINUTE
"""After midnight the day before is built and brought online; it counts from two o'clock on."""
DAYS = [datetime.date(1998, 4, day) for day in (1, 2, 3, 15, 17)]
"""The busiest."""
KINDS = {
    "before the build": range(0, 75, 15),
    "before it counts": range(75, 76),
    "morning": range(120, 720, 15),
    "evening": range(720, 1440, 15),
}
"""Minutes after midnight, of which the one with most impressions is a moment of the test."""
EACH = 100
"""Impressions of a moment, at most."""
STATE, DAILY = SCHEMA.table("user_state"), SCHEMA.table("item_daily")


class LakeUntil(Lake):
    """A lake of which only the days until ``last`` are built yet."""

    last = FIRST

    def days(self, table):
        return [day for day in super().days(table) if day <= self.last]


class Replay:
    """Lands the log, pushes and builds, up to any moment."""

    def __init__(self, work) -> None:
        from features.push.push_day import LandedUsers

        self.root = work.lake.root.parent.parent
        self.log = self.root / "log" / SCHEMA.name
        self.landing = self.root / "landing" / SCHEMA.name
        self.work = dataclasses.replace(work, lake=LakeUntil(self.root / "lake", SCHEMA.name))
        self.landed = LandedUsers(self.work, self.root / "landing")
        self.now = midnight(DAYS[0] - ONE_DAY)
        self.build(day_range(FIRST, self.now.date() - ONE_DAY))

    def advance(self, until: datetime.datetime) -> None:
        """Everything that happens until a moment."""
        ended = day_range(self.work.lake.last + ONE_DAY, until.date() - ONE_DAY)
        over = [day for day in ended if midnight(day + ONE_DAY) + BUILD_AFTER <= until]
        if over:
            self.land(midnight(over[-1] + ONE_DAY))
            self.build(over)
        self.land(until)
        self.push(until)

    def build(self, days: list[datetime.date]) -> None:
        """Days whose files land, that are built, and that come online."""
        from features.pipeline import materialize

        for day in days:
            path = land.impressions_file(self.landing, day, "tsv")
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(land.impressions_file(self.log, day, "tsv"), path)
        self.work.lake.last = days[-1]
        materialize.materialize_days(self.work, self.root / "feast", days)

    def land(self, until: datetime.datetime) -> None:
        """The rows since the last landing, as parts of their days."""
        for day in day_range(self.now.date(), until.date()):
            header, *lines = land.impressions_file(self.log, day, "tsv").read_text().splitlines()
            within = [line for line in lines if self.now <= moment_of(line) < until]
            if within:
                name = f"{until:%H%M%S}.tsv"
                path = self.landing / land.INTRADAY / day.isoformat() / name
                land.write_rows(path, header.split("\t"), [line.split("\t") for line in within])
        self.now = max(self.now, until)

    def push(self, until: datetime.datetime) -> None:
        from features.online_store import feast_store

        batch = self.landed.poll(lambda _newest: until)
        if batch is not None and len(batch.rows):
            feast = feast_store.open_store(SCHEMA, self.root / "feast")
            feast_store.write(feast, STATE, batch.rows)


def midnight(day: datetime.date) -> datetime.datetime:
    return datetime.datetime.combine(day, datetime.time(), UTC)


def moment_of(line: str) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(line.split("\t")[4]), UTC)


def chosen(times: list, users: list, at: datetime.datetime) -> list[int]:
    """The first rows from a moment on whose inputs a store as of that moment has.

    Until the next build, and until something that the user did since could be counted on.
    """
    end = midnight(at.date()) + BUILD_AFTER
    end += ONE_DAY if at >= end else datetime.timedelta(0)
    rows, acted = [], {}
    for row in range(bisect.bisect_left(times, at), bisect.bisect_left(times, end)):
        acted.setdefault(users[row], times[row])
        if times[row] < acted[users[row]] + STATE.delay and len(rows) < EACH:
            rows.append(row)
    return rows


class Online:
    """The endpoint's own path over a store: its reader, its items in memory, its assembly."""

    def __init__(self, folder) -> None:
        from features.online_store.reader import open_rows
        from serving.lookup.item_cache import ItemRefresh
        from serving.lookup.transformer import Transformer
        from serving.settings import Store

        rows = open_rows(SCHEMA, folder, timeout_seconds=5)
        items = ItemRefresh(SCHEMA, rows, Store())
        items.look()
        assert items().snapshot.num_items > 1_000
        self.transformer = Transformer(SCHEMA, online=rows, items=items)

    def candidates(self, table: pa.Table, rows: list[int]) -> list:
        """One request for each impression."""
        from serving.protocol.inference_request import from_rest
        from serving.protocol.ranking_request import parse

        found = []
        for row in rows:
            values = {name: table.column(name)[row].as_py() for name in ("user_id", "item_id")}
            micros = table.column("timestamp")[row].value
            body = {
                "inputs": [
                    {"name": name, "shape": [1], "datatype": "INT64", "data": [value]}
                    for name, value in (*values.items(), ("timestamp", micros))
                ]
            }
            call = from_rest(json.dumps(body).encode(), json_length=None)
            request = parse(SCHEMA, call, now=datetime.datetime.now(UTC))
            found.append(self.transformer.transform(request))
        return found


def inputs_of_all(candidates, schema=SCHEMA) -> ModelInputs:
    names = [column.name for column in schema.sparse_inputs()]
    parts = [one.inputs.tiled(names) for one in candidates]
    return ModelInputs(
        np.concatenate([part.dense for part in parts]),
        {name: Ids.joined([part.ids[name] for part in parts]) for name in names},
    )


def differences(table: pa.Table, rows: list[int], candidates: list, schema=SCHEMA) -> list[str]:
    """Every difference in any bit: example, feature, both values, and the cause."""
    if not rows:
        return []
    taken = table.take(rows)
    offline = encode(schema, {name: taken.column(name) for name in taken.column_names})
    online = inputs_of_all(candidates, schema)
    found = []
    bits = offline.dense.view(np.uint32) != online.dense.view(np.uint32)
    for place, column in zip(*np.nonzero(bits), strict=True):
        pair = offline.dense[place, column], online.dense[place, column]
        found.append((place, schema.dense_inputs()[column], *pair))
    for name in offline.ids:
        for place in range(len(rows)):
            one = np.array([place])
            pair = [side.ids[name].take(one).values.tolist() for side in (offline, online)]
            if pair[0] != pair[1]:
                found.append((place, name, *pair))
    return [
        f"example {taken.column('example_id')[place]}, {name}: offline {left}, online {right}: "
        + cause(owner(name, schema), taken, place, candidates[place])
        for place, name, left, right in found
    ]


def owner(name: str, schema=SCHEMA):
    """The table that an input is made from."""
    for table in schema.tables:
        columns = [*table.columns, *table.derived_columns]
        names = {name for column in columns for name in (column.name, *column.dense_names)}
        if name == table.missing_indicator or name in names:
            return table
    raise AssertionError(name)


def cause(table, taken: pa.Table, place: int, candidates) -> str:
    """Why the store's row is not the training example's."""
    wanted = taken.column(table.timestamp_column)[place].as_py()
    answered = candidates.columns[table.timestamp_column][0].as_py()
    status = RowStatus(candidates.statuses[table.name][0])
    rows = f"online has the row of {answered}, training that of {wanted}"
    if status is not RowStatus.USABLE:
        why = {
            RowStatus.UNKNOWN: "never stored",
            RowStatus.EXPIRED: "beyond the time-to-live",
            RowStatus.FUTURE: "not yet visible",
        }[status]
        return f"{why}; {rows}"
    if wanted is None or answered > wanted:
        return f"visible too early; {rows}"
    if answered < wanted:
        return f"late {'push' if table.kind is TableKind.STATE else 'build'}; {rows}"
    return f"another value in the row of {wanted}"


def period(at: datetime.datetime) -> str:
    """What the night's build is to a request."""
    if at < midnight(at.date()) + BUILD_AFTER:
        return "before the build"
    return "before it counts" if at < midnight(at.date()) + DAILY.delay else "after"
