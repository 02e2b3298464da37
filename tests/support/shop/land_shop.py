"""A small log in CSV files: popular articles, tastes of visitors, places of which some are seen."""

import csv
import datetime
import random
from pathlib import Path

FIRST_DAY = datetime.datetime(2025, 3, 1, tzinfo=datetime.UTC)
VISITORS, ARTICLES = 120, 40


def land_shop(folder: Path, *, days: int, rows_a_day: int) -> None:
    """Land ``impressions/<day>.csv`` for some days, and ``items.csv``."""
    drawn = random.Random(0)
    (folder / "impressions").mkdir(parents=True)
    for number in range(days):
        start = FIRST_DAY + datetime.timedelta(days=number)
        rows = [_row(drawn, start, n, rows_a_day) for n in range(rows_a_day)]
        ids = range(number * rows_a_day, (number + 1) * rows_a_day)
        table = [{"example_id": one, **row} for one, row in zip(ids, rows, strict=True)]
        _write(folder / "impressions" / f"{start:%Y-%m-%d}.csv", table)
    items = [
        {"article": f"a-{n}", "price": 1.5 * n, "name": f"Article {n}"} for n in range(ARTICLES)
    ]
    _write(folder / "items.csv", items)


def _row(drawn: random.Random, start: datetime.datetime, n: int, of: int) -> dict[str, object]:
    visitor, article, place = drawn.randrange(VISITORS), drawn.randrange(ARTICLES), n % 10
    moment = start + datetime.timedelta(days=1) * n / of
    popularity = (article / ARTICLES) ** 2
    taste = 1.3 if visitor % 3 == article % 3 else 0.7
    chance = taste * (0.03 + 0.7 * popularity) / (1 + place / 10)
    return {
        "visitor": f"v-{visitor}",
        "article": f"a-{article}",
        "at": moment.isoformat(),
        "device": drawn.choice(["phone", "desktop"]),
        "place": place,
        "basket": "" if visitor % 2 else 10.5,
        "since": int(FIRST_DAY.timestamp() * 1_000_000) - visitor * 3_600_000_000,
        "clicked": int(drawn.random() < chance),
    }


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
