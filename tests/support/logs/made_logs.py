"""Logs that have no schema file yet: ratings, clicks by request, typed impressions."""

import datetime
import random
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv

START = datetime.datetime(2025, 3, 1, tzinfo=datetime.UTC)


def write_csv(path: Path, columns: dict[str, object], separator: str = ",") -> Path:
    """Write columns as a file with a header."""
    with pa.OSFile(str(path), "wb") as file:
        options = pa_csv.WriteOptions(delimiter=separator, quoting_style="needed")
        pa_csv.write_csv(pa.table(columns), file, options)
    return path


def ratings(rows: int = 4000) -> dict[str, object]:
    """As MovieLens has them."""
    drawn = random.Random(0)
    return {
        "userId": [drawn.randint(1, 150) for _ in range(rows)],
        "movieId": [drawn.randint(1, 300) for _ in range(rows)],
        "rating": [drawn.choice([1, 2, 3, 4, 4, 5]) for _ in range(rows)],
        "timestamp": [874_724_710 + 400 * n for n in range(rows)],
    }


def clicks(requests: int = 300) -> dict[str, object]:
    """Requests of ten items, with UUIDs; users and items are texts."""
    drawn, rows = random.Random(1), []
    for number in range(requests):
        request = str(uuid.UUID(int=drawn.getrandbits(128)))
        visitor, moment = (
            f"v-{drawn.randrange(60):x}",
            START + datetime.timedelta(minutes=31 * number),
        )
        for place, item in enumerate(drawn.sample(range(50), 10)):
            clicked = drawn.random() < 0.2
            rows.append(
                {
                    "request_uuid": request,
                    "visitor": visitor,
                    "sku": f"SKU-{item:03d}",
                    "at": f"{moment:%Y-%m-%d %H:%M:%S}",
                    "position": place + 1,
                    "device": drawn.choice(["phone", "no"]),
                    "price": 5 + item,
                    "seconds_on_page": 3 + drawn.random() if clicked else 0.0,
                    "clicked": int(clicked),
                    "ordered": int(clicked and drawn.random() < 0.3),
                }
            )
    return {name: [row[name] for row in rows] for name in rows[0]}


def impressions(rows: int = 3000) -> dict[str, object]:
    """A log whose types say what is what."""
    drawn = random.Random(2)
    moments = [1_735_689_600_000_000 + 90_000_000 * n for n in range(rows)]
    return {
        "example_id": list(range(rows)),
        "member_id": [drawn.randrange(200) for _ in range(rows)],
        "article_id": [drawn.randrange(1 << 50) for _ in range(rows)],
        "timestamp": pa.array(moments, pa.timestamp("us", "UTC")),
        "platform": [drawn.choice(["web", "app"]) for _ in range(rows)],
        "campaign_tags": [drawn.sample(["a", "b", "c"], 2) for _ in range(rows)],
        "amount": pa.array([drawn.choice([None, 1.5, 2.0]) for _ in range(rows)]),
        "is_new": [drawn.random() < 0.5 for _ in range(rows)],
        "click": [int(drawn.random() < 0.3) for _ in range(rows)],
    }
