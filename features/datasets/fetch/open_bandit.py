"""The small Open Bandit data set, as the Open Bandit Pipeline's wheel carries it."""

import csv
import datetime
import io
from collections import defaultdict
from collections.abc import Iterator
from operator import itemgetter

from features.places import Place
from features.schema import Schema
from features.spark import landing as land

_SUFFIX = "tsv"
_WHEEL = "obp==0.4.1"
_SHA256 = "87dec9caf4283c25ab13036532e0a24566f1c7bdcad1653a8ded43b2f5ef8208"
_POLICIES = ("bts", "random")
_CAMPAIGNS = ("all", "men", "women")
_USER_FEATURES = tuple(f"user_feature_{n}" for n in range(4))
_ITEM_FEATURES = tuple(f"item_feature_{n}" for n in range(4))
_HEADER = ("example_id", "item_id", "timestamp", "position", "click", "propensity", "policy")


def fetch(schema: Schema, landing: Place, **_: int) -> dict[str, int]:
    """Land the log: one file a day with both policies and all campaigns, and the items."""
    wheel = land.download_wheel(_WHEEL, _SHA256)
    by_day: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    number = 0
    for policy in _POLICIES:
        for campaign in _CAMPAIGNS:
            for row in _rows(wheel, f"obp/dataset/obd/{policy}/{campaign}/{campaign}.csv"):
                by_day[row["timestamp"][:10]].append(_landed(row, number, policy, campaign))
                number += 1
    for day, rows in by_day.items():
        path = land.impressions_file(landing, datetime.date.fromisoformat(day), _SUFFIX)
        land.write_rows(path, (*_HEADER, *_USER_FEATURES), sorted(rows, key=itemgetter(2)))
    items = [
        (f"{campaign}-{row['item_id']}", *(row[name] for name in _ITEM_FEATURES))
        for campaign in _CAMPAIGNS
        for row in _rows(wheel, f"obp/dataset/obd/random/{campaign}/item_context.csv")
    ]
    land.write_rows(landing / "items.tsv", ("item_id", *_ITEM_FEATURES), items)
    return {"rows": number, "days_with_rows": len(by_day)}


def _rows(wheel: Place, member: str) -> Iterator[dict[str, str]]:
    return csv.DictReader(io.StringIO(land.member_text(wheel, member)))


def _landed(row: dict[str, str], number: int, policy: str, campaign: str) -> tuple[str, ...]:
    return (
        str(number),
        f"{campaign}-{row['item_id']}",
        row["timestamp"],
        row["position"],
        row["click"],
        row["propensity_score"],
        policy,
        *(row[name] for name in _USER_FEATURES),
    )
