"""A small click log in landed files, and its schema file: good, until a test spoils something."""

import csv
import datetime
import random
from collections.abc import Callable
from pathlib import Path

Row = dict[str, object]
FIRST_DAY = datetime.date(2025, 3, 1)
ROWS_A_DAY = 400
SCHEMA = """\
name: clicks
doc: What visitors were shown.
licence: ours
first_day: 2025-03-01
holdout_days: 1
epoch: 2024-01-01
time_context: [hour_of_day]
user: {name: visitor, type: int64, kind: sparse, hash_size: 1000, minimum: 0, doc: The visitor.}
item: {name: article, type: int64, kind: sparse, num_ids: 50, minimum: 0, doc: The article.}
context:
  device: {type: string, kind: sparse, vocabulary: [desktop, phone], doc: Device of the request.}
  basket: {type: float64, kind: dense, minimum: 0, doc: Worth of the basket.}
  tags: {type: list<string>, kind: sparse, vocabulary: [new, red, sale], max_length: 3, doc: Words.}
  coupon: {type: string, kind: sparse, hash_size: 100, nullable: true, doc: Coupon of the visitor.}
stored:
  clicked: {type: int64, minimum: 0, maximum: 1, doc: Whether it was clicked.}
  dwell: {type: float64, minimum: 0, nullable: true, doc: Seconds on the page.}
labels:
  click: {column: clicked, positive_from: 1, delay: 10m, prior_rate: 0.2}
target: click
tables:
  - {kind: user_state, history_length: 10, ttl: 30d, delay: 5m}
  - {kind: item_daily, windows_days: [1, 7], ttl: 7d, delay: 2h}
limits:
  min_positive_rate: 0.05
  max_positive_rate: 0.5
  min_share_of_trailing_rows: 0.5
  max_times_trailing_rows: 3
  max_rows_of_user: 100
source:
  format: csv
  time: {column: at}
  list_separator: "|"
"""


def rows_of(day: int, number: int = ROWS_A_DAY) -> list[Row]:
    """The good rows of a day, by its place in the log."""
    drawn = random.Random(day)
    start = datetime.datetime.combine(FIRST_DAY + datetime.timedelta(days=day), datetime.time())
    return [
        {
            "example_id": 100_000 * day + n,
            "visitor": drawn.randrange(40),
            "article": drawn.randrange(40),
            "at": (start + datetime.timedelta(days=1) * n / number).isoformat() + "Z",
            "device": drawn.choice(["desktop", "phone"]),
            "basket": round(100 * drawn.random(), 2),
            "tags": "|".join(drawn.sample(["new", "red", "sale"], 2)),
            "coupon": f"c-{drawn.randrange(8)}",
            "clicked": int(drawn.random() < 0.2),
            "dwell": round(60 * drawn.random(), 1),
        }
        for n in range(number)
    ]


def land(
    folder: Path,
    *,
    days: int = 3,
    spoil: Callable[[int, list[Row]], object] = lambda day, rows: None,
) -> Path:
    """Land days and the schema file; returns its path. ``spoil`` may change the rows of a day."""
    for day in range(days):
        rows = rows_of(day)
        spoil(day, rows)
        path = folder / "landing" / "clicks" / "impressions" / f"{_date(day)}.csv"
        write(path, rows)
    schema = folder / "clicks.yaml"
    schema.write_text(SCHEMA)
    return schema


def day_file(folder: Path, day: int) -> Path:
    """The landed file of a day."""
    return folder / "landing" / "clicks" / "impressions" / f"{_date(day)}.csv"


def write(path: Path, rows: list[Row]) -> None:
    """Write rows as a CSV file with a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _date(day: int) -> datetime.date:
    return FIRST_DAY + datetime.timedelta(days=day)
