"""A small log of a shop whose users and items have texts as ids, and its impressions none."""

import datetime
import random
import uuid
from pathlib import Path

from features.datasets.schema_files.build import DataSet, read_data_set
from features.places import put_whole

SCHEMA = """\
name: text-ids
doc: Visits of a shop that knows its visitors by UUIDs.
licence: ours
first_day: 2025-03-01
holdout_days: 1
epoch: 2024-01-01
time_context: [hour_of_day]
example_id: {from: [visitor, article, timestamp]}
user: {name: visitor, type: string, kind: sparse, hash_size: 1000, doc: The visitor's UUID.}
item: {name: article, type: string, kind: sparse, hash_size: 1000, doc: The article's code.}
stored:
  bought: {type: int64, minimum: 0, maximum: 1, doc: Whether it was bought.}
label: {column: bought, positive_from: 1, delay: 1h, prior_rate: 0.2}
tables:
  - {kind: user_state, history_length: 10, ttl: 30d, delay: 5m}
  - {kind: item_daily, windows_days: [1, 7], ttl: 7d, delay: 2h}
  - kind: user_attributes
    doc: What is known of a visitor.
    columns: {country: {type: string, kind: sparse, vocabulary: [de, fr], doc: Country.}}
limits:
  min_positive_rate: 0.01
  max_positive_rate: 0.9
  min_share_of_trailing_rows: 0.2
  max_times_trailing_rows: 5
source:
  format: csv
  time: {column: at, unit: seconds}
"""
FIRST = datetime.date(2025, 3, 1)
NUM_DAYS = 3
NUM_ROWS = 300
"""A day."""
USERS = [str(uuid.UUID(int=(n + 1) << 100 | n)) for n in range(20)]
ARTICLES = [f"Ä-{n:03d} a, b" for n in range(15)]


def data_set(folder: Path) -> DataSet:
    """The schema, written and read."""
    path = folder / "text-ids.yaml"
    path.write_text(SCHEMA)
    return read_data_set(path)


def land(landing: Path) -> None:
    """Write the days' files and the users' attributes below ``landing/text-ids``."""
    drawn = random.Random(0)
    for number in range(NUM_DAYS):
        day = FIRST + datetime.timedelta(days=number)
        midnight = datetime.datetime.combine(day, datetime.time(), datetime.UTC).timestamp()
        lines = ["visitor,article,at,bought"]
        for n in range(NUM_ROWS):
            ids = f'{drawn.choice(USERS)},"{drawn.choice(ARTICLES)}"'
            bought = int(drawn.random() < 0.3)
            lines.append(f"{ids},{int(midnight) + 250 * n},{bought}")
        text = "\n".join(lines) + "\n"
        put_whole(landing / "text-ids" / "impressions" / f"{day}.csv", text.encode())
    known = [f"{user},{'de' if n % 2 else 'fr'}" for n, user in enumerate(USERS)]
    text = "\n".join(["visitor,country", *known]) + "\n"
    put_whole(landing / "text-ids" / "users.csv", text.encode())
