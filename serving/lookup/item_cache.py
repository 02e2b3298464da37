"""Item features held in memory: encoded once, looked up by id, kept equal to the store's.

They are loaded at the start, and again when they change. One thread asks the store, every second or
so, for a number that changes with each write, and then for the items that were written since. A
request takes the snapshot that is there; it never waits for a load.
"""

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.encoding.encoded_table import EncodedTable
from features.encoding.primitives import IntArray
from features.online_store.codec import TooManyRowsError
from features.online_store.reader import OnlineRows
from features.schema import Dtype, Role, Schema
from serving.observability import metrics
from serving.settings import Store

logger = logging.getLogger(__name__)
LOAD_SECONDS = 10.0
"""How long the store may take to answer when all items are loaded."""
LOADS_ARE_ONE_IN = 5
"""A load is followed by four times its time without one: items that are written all the time would
else be loaded all the time, next to the requests."""
FEW_ARE_ONE_IN = 2
"""Of all items; where more have changed, all are loaded."""
_NEVER = object()
Identifiers = Sequence[int] | Sequence[str] | npt.NDArray[Any]


class NumberIndex:
    """Places of integer ids."""

    def __init__(self, ids: Sequence[int] | npt.NDArray[np.int64]) -> None:
        """Args: the ids; each stands once."""
        self._ids = given = np.array(ids, dtype=np.int64)
        self._places = np.argsort(given)
        self._sorted = given[self._places]

    def rows(self, ids: Identifiers, *, absent: int) -> IntArray:
        """The place of each id, ``absent`` where it is not there."""
        wanted = np.asarray(ids, dtype=np.int64)
        if not len(self._sorted):
            return np.full(len(wanted), absent, dtype=np.int64)
        near = np.minimum(np.searchsorted(self._sorted, wanted), len(self._sorted) - 1)
        return np.where(self._sorted[near] == wanted, self._places[near], absent)

    def extended(self, ids: Identifiers) -> "NumberIndex":
        """The same, with more ids behind the last."""
        return NumberIndex(np.concatenate([self._ids, np.asarray(ids, dtype=np.int64)]))


class TextIndex:
    """Places of ids that are text."""

    def __init__(self, ids: Sequence[str]) -> None:
        """Args: the ids; each stands once."""
        self._places = {one: place for place, one in enumerate(ids)}

    def rows(self, ids: Identifiers, *, absent: int) -> IntArray:
        """The place of each id, ``absent`` where it is not there."""
        get = self._places.get
        return np.fromiter((get(one, absent) for one in ids), np.int64, len(ids))  # type: ignore[arg-type]

    def extended(self, ids: Identifiers) -> "TextIndex":
        """The same, with more ids behind the last."""
        return TextIndex([*self._places, *ids])


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """All items of a store as they were at one time."""

    index: NumberIndex | TextIndex
    tables: dict[str, EncodedTable]
    num_items: int
    """Items that have a row in any table."""

    @staticmethod
    def of(
        schema: Schema, ids: list[int] | list[str], columns: Mapping[str, pa.Array]
    ) -> "Snapshot":
        """Encode every item table; the newest rows are row for row the ids."""
        tables = {
            table.name: EncodedTable.of(
                schema, table, columns, null_row=EncodedTable.null_row(schema, table)
            )
            for table in schema.tables
            if table.role is Role.ITEM
        }
        is_text = schema.item.dtype is Dtype.STRING
        index = TextIndex(ids) if is_text else NumberIndex(ids)  # type: ignore[arg-type]
        return Snapshot(index, tables, len(ids))

    def renewed(
        self, schema: Schema, ids: list[int] | list[str], columns: Mapping[str, pa.Array]
    ) -> "Snapshot":
        """The same with other rows for some items, or their first; nothing else is encoded."""
        places = self.rows(ids)
        is_new = places < 0
        places[is_new] = self.num_items + np.arange(is_new.sum())
        new: Any = [one for one, is_one in zip(ids, is_new.tolist(), strict=True) if is_one]
        tables = {
            name: table.renewed(
                EncodedTable.of(
                    schema,
                    table.table,
                    columns,
                    null_row=EncodedTable.null_row(schema, table.table),
                ),
                places,
                num_entities=self.num_items,
            )
            for name, table in self.tables.items()
        }
        index = self.index.extended(new) if new else self.index
        return Snapshot(index, tables, self.num_items + len(new))

    @property
    def num_bytes(self) -> int:
        """Memory of the tables."""
        return sum(table.num_bytes for table in self.tables.values())

    def rows(self, ids: Identifiers) -> IntArray:
        """The newest row of each item in every table; -1, the null row, where it has none."""
        return self.index.rows(ids, absent=-1)


@dataclasses.dataclass(frozen=True)
class Items:
    """Items in memory, and whether they are older than they may be without a word."""

    snapshot: Snapshot
    is_stale: bool = False


class HeldItems:
    """Holds the newest snapshot; ``__call__`` gives it to a request."""

    def __init__(self, settings: Store, *, equal_at: Callable[[], float], model: str) -> None:
        """Nothing is held yet.

        Args:
            settings: From which age on items are flagged.
            equal_at: Since when, by ``time.monotonic``, they are known to equal the store's.
            model: Whose requests use them.
        """
        self._model = model
        self._settings = settings
        self._equal_at = equal_at
        self.snapshot: Snapshot | None = None

    def __call__(self) -> Items | None:
        """The items, flagged where they were not compared with the store for too long."""
        snapshot = self.snapshot
        is_stale = self.age_seconds > self._settings.stale_seconds
        return None if snapshot is None else Items(snapshot, is_stale=is_stale)

    @property
    def age_seconds(self) -> float:
        """Since the items were last found equal to the store's."""
        return time.monotonic() - self._equal_at()

    def show_age(self) -> None:
        """Have the metric say the age from now on."""
        metrics.ITEMS_AGE.labels(self._model).set_function(lambda: self.age_seconds)

    def hold(self, snapshot: Snapshot | None) -> None:
        """Give this snapshot to every request from now on; None: items are read for each."""
        self.snapshot = snapshot
        if snapshot is not None:
            metrics.ITEMS_ROWS.labels(self._model).set(snapshot.num_items)
            metrics.ITEMS_BYTES.labels(self._model).set(snapshot.num_bytes)


class ItemRefresh:
    """Keeps the newest snapshot; ``__call__`` gives it to a request."""

    def __init__(
        self,
        schema: Schema,
        rows: OnlineRows,
        settings: Store,
        *,
        on_look: Callable[[Snapshot | None, float], None] | None = None,
    ) -> None:
        """Nothing is loaded yet.

        Args:
            schema: The schema.
            rows: The store.
            settings: How often to read it.
            on_look: Takes, after each look into the store, the snapshot, and since when it is known
                to equal the store's.
        """
        self._schema = schema
        self._rows = rows
        self._settings = settings
        self._on_look = on_look
        self.held = HeldItems(settings, equal_at=lambda: self._equal_at, model=schema.name)
        self._model = schema.name
        self._version: object = _NEVER
        self._equal_at = float("-inf")
        self._next_load = float("-inf")
        self._is_failing = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="item-refresh", daemon=True)

    def __call__(self) -> Items | None:
        """As ``HeldItems`` has it."""
        return self.held()

    def start(self) -> None:
        """Load, and go on comparing; a store that does not answer now may do so later."""
        if self._settings.max_item_rows:
            self.held.show_age()
            self.look()
            self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def look(self, *, may_load: bool = True) -> None:
        """Compare once, and load where the store has changed; without, the items age."""
        try:
            # Before the rows are read: what is written meanwhile is seen at the next look.
            started, version = time.monotonic(), self._rows.version(Role.ITEM)
            if version != self._version:
                if not may_load:
                    return
                self._load()
                self._version = version
                ended = time.monotonic()
                self._next_load = ended + (LOADS_ARE_ONE_IN - 1) * (ended - started)
        except Exception:
            # Whatever the store's client raises: the items that are there go on serving, and age.
            if not self._is_failing:
                logger.exception("%s: items: not read; those in memory stay", self._model)
            self._is_failing = True
            metrics.ITEMS_FAILING.labels(self._model).set(1)
            metrics.ITEM_REFRESHES.labels(self._model, "failed").inc()
        else:
            self._equal_at = started
            self._is_failing = False
            metrics.ITEMS_FAILING.labels(self._model).set(0)
        if self._on_look is not None:
            self._on_look(self.held.snapshot, self._equal_at)

    def _load(self) -> None:
        held = self.held.snapshot
        changed = None if held is None else self._rows.changed(Role.ITEM, self._version)
        if held is None or changed is None or not self._is_few(changed):
            self._load_all()
        elif changed:
            columns = self._rows.read(Role.ITEM, changed)
            self._swap(held.renewed(self._schema, changed, columns), "renewed")

    def _is_few(self, changed: Sequence[int | str]) -> bool:
        """Whether it pays to load the changed items only, and there is room for them."""
        held = self.held.snapshot
        num_items = held.num_items if held else 0
        has_room = num_items + len(changed) <= self._settings.max_item_rows
        return has_room and len(changed) * FEW_ARE_ONE_IN <= num_items

    def _load_all(self) -> None:
        started = time.monotonic()
        try:
            ids, columns = self._rows.read_all(Role.ITEM, most=self._settings.max_item_rows)
        except TooManyRowsError as error:
            logger.warning("%s: items: %s; read for each request", self._model, error)
            metrics.ITEM_REFRESHES.labels(self._model, "too_many").inc()
            self.held.hold(None)
            return
        held = self.held.snapshot
        if not ids and held is not None and held.num_items:
            # A Redis that was restarted without its data: who fills it again writes, and is seen.
            raise ValueError(f"items: none; {held.num_items} are in memory")
        snapshot = Snapshot.of(self._schema, ids, columns)
        self._swap(snapshot, "swapped")
        seconds = time.monotonic() - started
        logger.info("%s: %d items loaded in %.2f s", self._model, snapshot.num_items, seconds)

    def _swap(self, snapshot: Snapshot, outcome: str) -> None:
        self.held.hold(snapshot)
        metrics.ITEM_REFRESHES.labels(self._model, outcome).inc()

    def _poll(self) -> None:
        while not self._stopped.wait(self._settings.poll_seconds):
            self.look(may_load=time.monotonic() >= self._next_load)
