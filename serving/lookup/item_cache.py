"""Item features held in memory: encoded once, looked up by id, kept equal to the store's.

With them declared tables by a key of neither user nor item, such as a category: it has few values.

They are loaded at the start, and again when they change. One thread asks the store, every second or
so, for a number that changes with each write, and then for the items that were written since. A
request takes the snapshot that is there; it never waits for a load.
"""

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Sequence

from features.online_store.codec import TooManyRowsError
from features.online_store.reader import OnlineRows
from features.schema import Role, Schema
from features.schema.keys import small_keys
from serving.lookup.snapshot import Snapshot, microseconds_now
from serving.observability import metrics, request_metrics
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


@dataclasses.dataclass(frozen=True)
class Items:
    """Items in memory, and whether they are older than they may be without a word."""

    snapshot: Snapshot
    is_stale: bool = False
    age_seconds: float = 0.0
    """Since they were last found equal to the store's."""


class HeldItems:
    """Holds the newest snapshot; ``__call__`` gives it to a request."""

    def __init__(self, settings: Store, *, equal_at: Callable[[], float], schema: Schema) -> None:
        """Nothing is held yet.

        Args:
            settings: From which age on items are flagged.
            equal_at: Since when, by ``time.monotonic``, they are known to equal the store's.
            schema: Of the model whose requests use them.
        """
        self._schema = schema
        self._model = schema.name
        self._settings = settings
        self._equal_at = equal_at
        self.snapshot: Snapshot | None = None

    def __call__(self) -> Items | None:
        """The items, flagged where they were not compared with the store for too long."""
        snapshot = self.snapshot
        age = self.age_seconds
        is_stale = age > self._settings.stale_seconds
        return None if snapshot is None else Items(snapshot, is_stale=is_stale, age_seconds=age)

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
            for part in (snapshot, *snapshot.by_key.values()):
                for rows in part.tables.values():
                    request_metrics.show_newest_row(self._schema, rows)


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
        self.held = HeldItems(settings, equal_at=lambda: self._equal_at, schema=schema)
        self._model = schema.name
        self._versions: dict[str, object] = {}
        self._snapshots: dict[str, Snapshot | None] = dict.fromkeys(
            [Role.ITEM, *small_keys(schema)]
        )
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
            started, now = time.monotonic(), microseconds_now()
            versions = {of: self._rows.version(of) for of in self._snapshots}
            changed = [of for of in versions if versions[of] != self._versions.get(of, _NEVER)]
            if changed and not may_load:
                return
            for of in changed:
                self._load(of, now)
                self._versions[of] = versions[of]
            if changed:
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

    def _load(self, of: str, began_at: int) -> None:
        held = self._snapshots[of]
        since = self._versions.get(of, _NEVER)
        changed = None if held is None else self._rows.changed(of, since)
        if held is None or changed is None or not self._is_few(changed, held):
            self._load_all(of, began_at)
        elif changed:
            columns = self._rows.read(of, changed)
            self._swap(of, held.renewed(self._schema, changed, columns), "renewed", began_at)

    def _is_few(self, changed: Sequence[int | str], held: Snapshot) -> bool:
        """Whether it pays to load the changed rows only, and there is room for them."""
        has_room = held.num_items + len(changed) <= self._settings.max_item_rows
        return has_room and len(changed) * FEW_ARE_ONE_IN <= held.num_items

    def _load_all(self, of: str, began_at: int) -> None:
        started = time.monotonic()
        try:
            ids, columns = self._rows.read_all(of, most=self._settings.max_item_rows)
        except TooManyRowsError as error:
            logger.warning("%s: %s rows: %s; read for each request", self._model, of, error)
            self._swap(of, None, "too_many", began_at)
            return
        held = self._snapshots[of]
        if not ids and held is not None and held.num_items:
            # A Redis that was restarted without its data: who fills it again writes, and is seen.
            raise ValueError(f"{of} rows: none; {held.num_items} are in memory")
        snapshot = Snapshot.of(self._schema, ids, columns, of=of)
        self._swap(of, snapshot, "swapped", began_at)
        seconds = time.monotonic() - started
        number = snapshot.num_items
        logger.info("%s: %d %s rows loaded in %.2f s", self._model, number, of, seconds)

    def _swap(self, of: str, snapshot: Snapshot | None, outcome: str, began_at: int) -> None:
        self._snapshots[of] = snapshot
        items = self._snapshots[Role.ITEM]
        by_key = {key: one for key, one in self._snapshots.items() if one and key != Role.ITEM}
        self.held.hold(items and dataclasses.replace(items, by_key=by_key, version=began_at))
        metrics.ITEM_REFRESHES.labels(self._model, outcome).inc()

    def _poll(self) -> None:
        while not self._stopped.wait(self._settings.poll_seconds):
            self.look(may_load=time.monotonic() >= self._next_load)
