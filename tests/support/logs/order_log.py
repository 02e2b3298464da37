"""A log whose orders come within a day, in files of their own: good, until a test spoils it."""

import datetime
import random
from collections.abc import Callable
from pathlib import Path

from support.logs.click_log import Row, write

FIRST_DAY = datetime.date(2025, 3, 1)
ONE_DAY = datetime.timedelta(days=1)
DAYS = 5
ROWS_A_DAY = 300
SCHEMA = """\
name: orders
doc: Articles of a page, and what was ordered within a day.
licence: ours
first_day: 2025-03-01
holdout_days: 1
epoch: 2024-01-01
user: {name: visitor, type: int64, kind: sparse, hash_size: 1000, minimum: 0, doc: The visitor.}
item: {name: article, type: int64, kind: sparse, num_ids: 50, minimum: 0, doc: The article.}
request: {name: page, type: string, doc: The page.}
context:
  position: {type: int64, kind: sparse, num_ids: 9, minimum: 0, neutral: 0, doc: Place on the page.}
labels:
  order:
    source: {format: csv, time: {column: at}, columns: {article: item}}
    join: [page, article]
    window: 1d
    delay: 1h
    prior_rate: 0.2
target: order
tables:
  - {kind: user_state, history_length: 10, ttl: 30d, delay: 5m}
  - {kind: item_daily, windows_days: [1, 7], ttl: 7d, delay: 2h}
limits:
  min_positive_rate: 0.05
  max_positive_rate: 0.5
  min_share_of_trailing_rows: 0.5
  max_times_trailing_rows: 3
source:
  format: csv
  time: {column: at}
"""


def shown() -> list[Row]:
    """The impressions of all days; three articles a page, a different one in each place."""
    drawn = random.Random(1)
    start = datetime.datetime.combine(FIRST_DAY, datetime.time(), datetime.UTC)
    return [
        {
            "example_id": n,
            "page": f"p{n // 3}",
            "visitor": n // 3 * 7 % 20,
            "article": 10 * (n % 3) + drawn.randrange(10),
            "position": n % 3,
            "at": start + n * ONE_DAY / ROWS_A_DAY,
        }
        for n in range(DAYS * ROWS_A_DAY)
    ]


def ordered(rows: list[Row]) -> list[Row]:
    """An order of each fifth impression on average, up to twenty hours after it."""
    drawn = random.Random(2)
    return [
        {
            "page": row["page"],
            "item": row["article"],
            "at": row["at"] + datetime.timedelta(minutes=drawn.randrange(1, 1200)),
            "shown_at": row["at"],
        }
        for row in rows
        if drawn.random() < 0.2
    ]


def land(
    folder: Path,
    *,
    spoil: Callable[[list[Row]], object] = lambda events: None,
    spoil_shown: Callable[[list[Row], list[Row]], object] = lambda rows, events: None,
    file_of: Callable[[Row], datetime.date] = lambda event: event["at"].date(),
) -> Path:
    """Land all days and the schema file; returns its path.

    Args:
        folder: Gets ``landing`` and ``orders.yaml``.
        spoil: May change the events, which have the moment of their impression as ``shown_at``.
        spoil_shown: May change the impressions, and is given the events too.
        file_of: The day in whose file an event lands.
    """
    rows = shown()
    events = ordered(rows)
    spoil(events)
    spoil_shown(rows, events)
    for day in (FIRST_DAY + n * ONE_DAY for n in range(DAYS)):
        of_day = [row for row in rows if row["at"].date() == day]
        write(folder / "landing" / "orders" / "impressions" / f"{day}.csv", _texts(of_day))
        of_day = _texts([event for event in events if file_of(event) == day])
        if of_day:
            write(events_file(folder, day), of_day)
        else:
            events_file(folder, day).parent.mkdir(parents=True, exist_ok=True)
            events_file(folder, day).write_text("page,item,at\n")
    schema = folder / "orders.yaml"
    schema.write_text(SCHEMA)
    return schema


def events_file(folder: Path, day: datetime.date) -> Path:
    """The landed file of a day's events."""
    return folder / "landing" / "orders" / "labels" / "order" / f"{day}.csv"


def _texts(rows: list[Row]) -> list[Row]:
    return [
        {
            name: value.isoformat() if isinstance(value, datetime.datetime) else value
            for name, value in row.items()
            if name != "shown_at"
        }
        for row in rows
    ]
