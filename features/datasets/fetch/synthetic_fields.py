"""Generator of the log of small fields, whose true click probabilities are known.

The log odds of a click are a weighted sum of products: each takes two or three fields, and from
each of them a number that is linear in three hidden properties of the field's value. The weights
fall by a power of the product's rank, so that each product that a ranker learns takes a little
less off its loss than the one before.
"""

import dataclasses
import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.places import Place
from features.schema import EXAMPLE_ID, Schema
from features.spark import landing as land

_SUFFIX = "parquet"
_ITEMS = "items.parquet"
_ORDERS = (2, 3)
_NUM_PRODUCTS = 400
_WEIGHT_EXPONENT = -0.3
_PROPERTIES = 3
_MEAN = 0.3
"""Of a product's factors: not zero, so that an interaction of three shows in pairs first."""
_LOG_ODDS_DEVIATION = 4.0
_MOST_LOG_ODDS = 6.0
_SAMPLE_ROWS = 50_000
_SECONDS_PER_DAY = 86_400

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class ClickModel:
    """The hidden truth: which fields interact, and how strongly."""

    fields: list[Ints]
    """Of each product, the fields that it takes."""
    factors: list[Floats]
    """Of each product, (fields, values) what each value of each field contributes."""
    weights: Floats
    centre: float = 0.0
    scale: float = 1.0

    @classmethod
    def of(cls, seed: int, sizes: list[int]) -> "ClickModel":
        """The model of a seed, its log odds centred and scaled on a sample.

        ``sizes`` has the number of values of each field.
        """
        random = np.random.default_rng([seed, 0])
        num_fields, num_values = len(sizes), max(sizes)
        properties = random.normal(size=(num_fields, num_values, _PROPERTIES))
        fields, factors = [], []
        for number in range(_NUM_PRODUCTS):
            taken = random.choice(num_fields, _ORDERS[number % len(_ORDERS)], replace=False)
            direction = random.normal(size=(len(taken), _PROPERTIES))
            direction /= np.linalg.norm(direction, axis=1, keepdims=True)
            fields.append(taken)
            factors.append(_MEAN + np.einsum("fvp,fp->fv", properties[taken], direction))
        ranks = np.arange(1, _NUM_PRODUCTS + 1)
        weights = ranks**_WEIGHT_EXPONENT * random.choice([-1, 1], _NUM_PRODUCTS)
        model = cls(fields, factors, weights)
        sample = model.log_odds(_values(random, sizes, _SAMPLE_ROWS))
        deviation = float(sample.std()) / _LOG_ODDS_DEVIATION
        return dataclasses.replace(model, centre=float(sample.mean()), scale=1 / deviation)

    def log_odds(self, values: Ints) -> Floats:
        """Log odds of a click, for rows of (fields,) values."""
        total = np.zeros(len(values))
        for taken, factors, weight in zip(self.fields, self.factors, self.weights, strict=True):
            product = np.full(len(values), weight)
            for field, factor in zip(taken, factors, strict=True):
                product *= factor[values[:, field]]
            total += product
        return (total - self.centre) * self.scale

    def probability(self, values: Ints) -> Floats:
        """Click probabilities for rows of (fields,) values; never nearer than exp(-6) to 0 or 1."""
        log_odds = np.clip(self.log_odds(values), -_MOST_LOG_ODDS, _MOST_LOG_ODDS)
        return 1 / (1 + np.exp(-log_odds))


def fetch(
    schema: Schema, landing: Place, *, rows: int, days: int, seed: int, **_: int
) -> dict[str, int | float]:
    """Generate and land a log of ``rows`` impressions over ``days`` days.

    A day's rows depend on the seed, the day and how many there are, so a longer log begins alike.

    Returns:
        The numbers of rows and days, and the mean log loss of the true probabilities, which is the
        best that any model can expect.
    """
    for name, value, least in (("rows", rows, days), ("days", days, 1)):
        if value < least:
            raise ValueError(f"{name}: {value}; at least {least}")
    model = ClickModel.of(seed, _sizes(schema))
    total = 0.0
    for number in range(days):
        first, last = rows * number // days, rows * (number + 1) // days
        table = _day(schema, model, seed, number, first=first, size=last - first)
        day = schema.first_day + datetime.timedelta(days=number)
        land.write_table(land.impressions_file(landing, day, _SUFFIX), table)
        true = table.column("true_probability").to_numpy()
        total += float(-(true * np.log(true) + (1 - true) * np.log1p(-true)).sum())
    items = np.arange(schema.item.num_ids)
    sizes = pa.table({schema.item.name: items, "item_size": (items + 1) / len(items)})
    land.write_table(landing / _ITEMS, sizes)
    return {"rows": rows, "days": days, "best_log_loss": total / rows}


def _sizes(schema: Schema) -> list[int]:
    """How many values each field has, the item first."""
    return [schema.item.num_ids, *(column.num_ids for column in schema.context)]


def _values(random: np.random.Generator, sizes: list[int], rows: int) -> Ints:
    """(rows, fields) values, the item first; all equally frequent."""
    return random.integers(0, sizes, (rows, len(sizes)))


def _day(
    schema: Schema, model: ClickModel, seed: int, number: int, *, first: int, size: int
) -> pa.Table:
    random = np.random.default_rng([seed, 1, number])
    values = _values(random, _sizes(schema), size)
    probability = model.probability(values)
    midnight = datetime.datetime.combine(schema.first_day, datetime.time(), datetime.UTC)
    start = int(midnight.timestamp()) + number * _SECONDS_PER_DAY
    seconds = start + np.arange(size) * _SECONDS_PER_DAY // size
    names = (schema.item.name, *(column.name for column in schema.context))
    return pa.table(
        {
            EXAMPLE_ID: np.arange(first, first + size),
            **{name: values[:, index] for index, name in enumerate(names)},
            "timestamp": pa.array(seconds * 1_000_000).cast(pa.timestamp("us", tz="UTC")),
            "click": (random.random(size) < probability).astype(np.int64),
            "true_probability": probability,
        }
    )
