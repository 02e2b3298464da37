"""A shop whose orders come up to a day and a half after what was shown: its log, and its jobs."""

import datetime
import random
from pathlib import Path

from features.datasets.catalog import schema_of
from features.labels.events import events_struct, events_table, raw_events_table
from features.lake.lake import IMPRESSIONS, IMPRESSIONS_RAW, Lake, day_range
from features.pipeline import jobs
from features.pipeline.ingestion.ingest import ingest
from features.pipeline.workspace import Workspace
from features.schema import EXAMPLE_ID, SOURCE
from features.validation import checks

FILE = Path(__file__).with_name("orders.yaml")
FIRST = datetime.date(2025, 3, 1)
DAYS = day_range(FIRST, FIRST + datetime.timedelta(days=4))
HOUR = 3_600


class Shop:
    """The landed log, and the jobs of its days."""

    def __init__(self, spark, root: Path) -> None:
        self.landing, self.reports = root / "landing", root / "reports"
        self.schema = schema_of("orders")
        self.work = Workspace(spark, self.schema, Lake(root / "lake", "orders"))
        drawn = random.Random(7)
        # Three articles a request, which may be the same one.
        requests = [
            (f"u{drawn.randrange(6)}", self.midnight(day) + HOUR * drawn.randrange(24))
            for day in DAYS
            for _ in range(9)
        ]
        self.shown = [
            (n, user, drawn.randrange(4), at)
            for n, (user, at) in enumerate(request for request in requests for _ in range(3))
        ]
        # Before anything was shown, at its very moment, within the window, after it, and twice.
        self.orders = [
            (user, item, at + HOUR * drawn.choice([-1, 0, 1, 5, 20, 36, 36, 37, 60]))
            for _, user, item, at in self.shown
            if drawn.random() < 0.5
        ]

    @staticmethod
    def midnight(day: datetime.date) -> int:
        return int(datetime.datetime.combine(day, datetime.time(), datetime.UTC).timestamp())

    def land(self, days, *, orders=None) -> None:
        for day in days:
            start, end = self.midnight(day), self.midnight(day) + 24 * HOUR
            lines = ["example_id,request_id,user_id,item_id,at,clicked"]
            lines += [
                f"{n},r{n // 3},{u},{i},{at},0" for n, u, i, at in self.shown if start <= at < end
            ]
            self._put(f"impressions/{day}.csv", lines)
            events = self.orders if orders is None else orders
            lines = ["user_id,article,at"]
            lines += [f"{u},{i},{at}" for u, i, at in events if start <= at < end]
            self._put(f"labels/order/{day}.csv", lines)

    def _put(self, name: str, lines: list[str]) -> None:
        path = self.landing / "orders" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([*lines, ""]))

    def check(self, days):
        ingest(self.work, self.landing, days)
        return checks.check_log(self.work, days, self.reports)

    def take(self, days) -> None:
        """As ``check``, without a judgement of rows that are good."""
        ingest(self.work, self.landing, days)
        work, label = self.work, self.schema.label
        rows = work.impressions(days, IMPRESSIONS_RAW).drop(*SOURCE)
        work.replace(rows, IMPRESSIONS, days, keys=["timestamp", EXAMPLE_ID])
        struct = events_struct(self.schema, label)
        events = work.lake.read(work.spark, raw_events_table(label), struct, days)
        work.replace(events, self.events, days, keys=struct.names)

    def build(self, days) -> None:
        jobs.publish_features(self.work, jobs.build(self.work, self.landing, days), days)

    def run(self, days) -> None:
        """The jobs of each day, one day after the other; what is mature becomes examples."""
        for day in days:
            self.take([day])
            self.build([day])
            mature = day - datetime.timedelta(days=self.schema.maturity_days)
            if mature >= FIRST:
                jobs.examples(self.work, [mature])

    def hashes(self, *tables: str) -> dict:
        lake = self.work.lake
        return {
            (t, day): lake.manifest(t, day).content_hash for t in tables for day in lake.days(t)
        }

    def positives(self) -> set[int]:
        """By the definition: each order goes to the newest impression at or before it."""
        found = set()
        for user, item, at in self.orders:
            before = [
                (when, n)
                for n, who, what, when in self.shown
                if (who, what) == (user, item) and when <= at
            ]
            if before and at - max(before)[0] <= 36 * HOUR:
                found.add(max(before)[1])
        return found

    @property
    def events(self) -> str:
        return events_table(self.schema.label)
