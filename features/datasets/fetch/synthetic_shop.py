"""Generator of a shop's log: pages of 20 items, clicks within minutes, orders within three days.

The probabilities of a click and of an order are known. A click needs that the item is looked at,
which becomes rarer down the page, and liked: quality, the user's taste for the category, the price
against what is usual in the category, the device. Prices change; users and items come and go.
Clicks and orders land as events of their own day, so the newest days' are not complete.
"""

import dataclasses
import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.places import Place
from features.schema import Schema
from features.spark import landing as land

PAGE = 20
"""Items of a request."""
_SUFFIX = "parquet"
_CLICK_RATE = 0.02
_CLICK_MEDIAN_SECONDS, _CLICK_MOST_SECONDS = 60.0, 29.5 * 60
_ORDER_MEAN_SECONDS, _ORDER_MOST_SECONDS = 12 * 3_600.0, 71.5 * 3_600
_PRICE_CHANGES_PER_DAY = 0.1
_STAYS = 0.5
"""Share of the users and items that are there on every day."""
_DAY_US = 86_400_000_000
_EVENING_HOUR, _SPREAD_HOURS = 19.0, 4.0
_FloatArray = npt.NDArray[np.float64]
_IntArray = npt.NDArray[np.int64]


def fetch(
    schema: Schema, landing: Place, *, rows: int, users: int, items: int, days: int, seed: int
) -> dict[str, int | float]:
    """Generate and land a log of about ``rows`` impressions, in whole requests, over some days.

    Returns:
        The numbers of rows, requests, days, clicks and orders, and the mean log loss of the true
        click probabilities, which is the best that any model can expect.

    Raises:
        ValueError: A size is too small: a page is 20 different items.
    """
    least = {"rows": PAGE * days, "users": 1, "items": 2 * PAGE, "days": 1}
    for name, value in (("days", days), ("users", users), ("items", items), ("rows", rows)):
        if value < least[name]:
            raise ValueError(f"{name}: {value}; at least {least[name]}")
    shop = _Shop.of(schema, users=users, items=items, days=days, seed=seed)
    shown = _shown(shop, rows // PAGE // days)
    drawn = _Outcomes.of(shop, shown)
    _land(schema, landing, shop, shown, drawn)
    true, clicked = drawn.click_probability, drawn.is_clicked
    best = -np.where(clicked, np.log(true), np.log1p(-true)).mean()
    return {
        "rows": len(true),
        "requests": len(true) // PAGE,
        "days": days,
        "clicks": int(clicked.sum()),
        "orders": int(drawn.is_ordered.sum()),
        "best_log_loss": float(best),
    }


@dataclasses.dataclass(frozen=True)
class _Shop:
    """What the shop is: its users, its items, and the prices of each day."""

    seed: int
    days: int
    categories: tuple[str, ...]
    devices: tuple[str, ...]
    taste: _FloatArray
    """(users, categories), log odds."""
    thrift: _FloatArray
    """(users,): what a price that is twice the usual costs, in log odds per log 2."""
    user_weight: _FloatArray
    user_days: _IntArray
    """(users, 2): the first day and the day after the last."""
    category: _IntArray
    quality: _FloatArray
    """(items,), log odds."""
    item_weight: _FloatArray
    item_days: _IntArray
    price: _FloatArray
    """(days, items), in euro."""
    relative_price: _FloatArray
    """(days, items): log of the price over the category's usual one."""

    @staticmethod
    def of(schema: Schema, *, users: int, items: int, days: int, seed: int) -> "_Shop":
        """The shop of a seed."""
        words = {column.name: column.vocabulary for column in schema.columns()}
        categories = words["item_category"]
        random = np.random.default_rng([seed, 0])
        category = random.integers(len(categories), size=items)
        usual = np.exp(random.normal(3, 0.7, len(categories)))[category]
        changes = random.random((days, items)) < _PRICE_CHANGES_PER_DAY
        factors = random.uniform(0.6, 1.1, (days, items))
        factors[0] = 1.0
        changes[0] = True
        since = np.maximum.accumulate(np.where(changes, np.arange(days)[:, None], 0), axis=0)
        base = usual * np.exp(random.normal(0, 0.3, items))
        price = np.round(base * np.take_along_axis(factors, since, axis=0), 2)
        return _Shop(
            seed=seed,
            days=days,
            categories=categories,
            devices=words["device"],
            taste=random.normal(0, 0.8, (users, len(categories))),
            thrift=random.gamma(2, 0.4, users),
            user_weight=random.gamma(0.7, 1, users) + 0.01,
            user_days=_presence(random, users, days),
            category=category,
            quality=random.normal(0, 0.6, items),
            item_weight=random.normal(0, 0.8, items),
            item_days=_presence(random, items, days, always=PAGE),
            price=price,
            relative_price=np.log(price / usual),
        )


def _presence(random: np.random.Generator, number: int, days: int, *, always: int = 1) -> _IntArray:
    """First day and the day after the last; half stay throughout, at least ``always`` of them."""
    first = random.integers(0, days, number)
    last = np.minimum(first + 1 + random.geometric(2 / (days + 1), number), days)
    stays = random.random(number) < _STAYS
    stays[:always] = True
    return np.stack([np.where(stays, 0, first), np.where(stays, days, last)], axis=1)


@dataclasses.dataclass(frozen=True)
class _Shown:
    """The impressions, row by row in order of time within each day."""

    request: npt.NDArray[np.str_]
    day: _IntArray
    moment_us: _IntArray
    """Microseconds since the beginning of the first day."""
    user: _IntArray
    item: _IntArray
    position: _IntArray
    device: _IntArray


def _shown(shop: _Shop, requests_per_day: int) -> _Shown:
    days = [_shown_on(shop, day, requests_per_day) for day in range(shop.days)]
    fields = [field.name for field in dataclasses.fields(_Shown)]
    return _Shown(**{name: np.concatenate([getattr(d, name) for d in days]) for name in fields})


def _shown_on(shop: _Shop, day: int, number: int) -> _Shown:
    """The requests of a day: who asks, when, on which device, and the page that is shown."""
    random = np.random.default_rng([shop.seed, 1, day])
    users, items = (_present(days, day) for days in (shop.user_days, shop.item_days))
    weights = shop.user_weight[users]
    user = random.choice(users, number, p=weights / weights.sum())
    hour = random.normal(_EVENING_HOUR, _SPREAD_HOURS, number) % 24
    moment = np.sort((hour * 3_600_000_000).astype(np.int64))
    device = random.integers(len(shop.devices), size=number)
    # Noise of Gumbel on the weights: the page is a draw without repetition, the popular ones first.
    popular = shop.item_weight[items] + random.gumbel(size=(number, len(items)))
    page = items[np.argsort(-popular, axis=1)[:, :PAGE]]
    return _Shown(
        request=np.repeat(_uuids(random, number), PAGE),
        day=np.full(number * PAGE, day),
        moment_us=np.repeat(day * _DAY_US + moment, PAGE),
        user=np.repeat(user, PAGE),
        item=page.ravel(),
        position=np.tile(np.arange(PAGE), number),
        device=np.repeat(device, PAGE),
    )


def _present(days: _IntArray, day: int) -> _IntArray:
    return np.flatnonzero((days[:, 0] <= day) & (day < days[:, 1]))


def _uuids(random: np.random.Generator, number: int) -> npt.NDArray[np.str_]:
    """Random UUIDs of version 4, as texts."""
    content = random.integers(0, 256, (number, 16), dtype=np.uint8)
    content[:, 6] = content[:, 6] & 0x0F | 0x40
    content[:, 8] = content[:, 8] & 0x3F | 0x80
    digits = (row.tobytes().hex() for row in content)
    return np.array([f"{d[:8]}-{d[8:12]}-{d[12:16]}-{d[16:20]}-{d[20:]}" for d in digits])


@dataclasses.dataclass(frozen=True)
class _Outcomes:
    """What came of each impression, and how probable it was."""

    click_probability: _FloatArray
    order_probability: _FloatArray
    is_clicked: npt.NDArray[np.bool_]
    is_ordered: npt.NDArray[np.bool_]
    click_us: _IntArray
    """Moment of the click, where there is one."""
    order_us: _IntArray

    @staticmethod
    def of(shop: _Shop, shown: _Shown) -> "_Outcomes":
        """Draw clicks and orders, and when they come."""
        random = np.random.default_rng([shop.seed, 2])
        click, order = _probabilities(shop, shown)
        number = len(click)
        is_clicked = random.random(number) < click
        is_ordered = is_clicked & (random.random(number) < order / click)
        seconds = np.minimum(
            _CLICK_MEDIAN_SECONDS * np.exp(random.normal(0, 1, number)), _CLICK_MOST_SECONDS
        )
        click_us = shown.moment_us + (seconds * 1e6).astype(np.int64)
        seconds = np.minimum(
            seconds + random.exponential(_ORDER_MEAN_SECONDS, number), _ORDER_MOST_SECONDS
        )
        order_us = shown.moment_us + (seconds * 1e6).astype(np.int64)
        return _Outcomes(click, order, is_clicked, is_ordered, click_us, order_us)


def _probabilities(shop: _Shop, shown: _Shown) -> tuple[_FloatArray, _FloatArray]:
    """Of a click, and of a click that an order follows."""
    category = shop.category[shown.item]
    price = shop.thrift[shown.user] * shop.relative_price[shown.day, shown.item]
    on_device = np.random.default_rng([shop.seed, 3]).normal(
        0, 0.4, (len(shop.devices), len(shop.categories))
    )
    liked = shop.quality[shown.item] + shop.taste[shown.user, category] - price
    liked += on_device[shown.device, category]
    looked_at = 1 / (1 + 0.15 * shown.position)
    click = looked_at * _sigmoid(liked + _offset(liked, looked_at))
    return click, click * _sigmoid(0.5 * shop.quality[shown.item] - price - 2.0)


def _offset(liked: _FloatArray, looked_at: _FloatArray) -> float:
    """What must be added to the log odds for the mean probability of a click."""
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        if (looked_at * _sigmoid(liked + middle)).mean() > _CLICK_RATE:
            high = middle
        else:
            low = middle
    return low


def _sigmoid(log_odds: _FloatArray) -> _FloatArray:
    return np.asarray(1 / (1 + np.exp(-log_odds)))


def _land(schema: Schema, landing: Place, shop: _Shop, shown: _Shown, drawn: _Outcomes) -> None:
    """Land the impressions by day, the events by their own day, and the items."""
    midnight = datetime.datetime.combine(schema.first_day, datetime.time(), datetime.UTC)
    start_us = round(midnight.timestamp() * 1e6)
    ids = {
        "request_id": pa.array(shown.request),
        "item_id": _names("item", shown.item),
    }
    impressions = pa.table(
        {
            **ids,
            "user_id": _names("user", shown.user),
            "timestamp": _moments(start_us, shown.moment_us),
            "position": shown.position,
            "device": pa.array(np.array(shop.devices)[shown.device]),
            "price": shop.price[shown.day, shown.item],
            "click_probability": drawn.click_probability,
            "order_probability": drawn.order_probability,
        }
    )
    events = {
        "click": (drawn.is_clicked, drawn.click_us),
        "order": (drawn.is_ordered, drawn.order_us),
    }
    for offset in range(shop.days):
        day = schema.first_day + datetime.timedelta(days=offset)
        of_day = impressions.filter(pa.array(shown.day == offset))
        land.write_table(land.impressions_file(landing, day, _SUFFIX), of_day)
        for label, (happened, moment_us) in events.items():
            chosen = pa.array(happened & (moment_us // _DAY_US == offset))
            table = pa.table({**ids, "timestamp": _moments(start_us, moment_us)}).filter(chosen)
            path = landing / "labels" / label / f"{day}.{_SUFFIX}"
            land.write_table(path, table)
    known = {
        "item_id": _names("item", np.arange(len(shop.category))),
        "item_category": pa.array(np.array(shop.categories)[shop.category]),
    }
    land.write_table(landing / f"items.{_SUFFIX}", pa.table(known))


def _names(prefix: str, numbers: _IntArray) -> pa.Array:
    return pa.array(np.char.add(f"{prefix}-", numbers.astype(str)))


def _moments(start_us: int, offset_us: _IntArray) -> pa.Array:
    return pa.array(start_us + offset_us, pa.timestamp("us", tz="UTC"))
