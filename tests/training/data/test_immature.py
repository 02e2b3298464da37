"""What is learnt of labels that are not final is on average what the final ones would teach."""

import dataclasses

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.datasets.catalog import schema_of
from features.datasets.fetch.synthetic_shop import fetch
from features.places import place
from training.data.immature import corrected_labels
from training.metrics import log_losses

HOUR = 3_600.0
WINDOW, DAYS = 72 * HOUR, 10
SCHEMA = schema_of("synthetic-shop")
END = DAYS * 24 * HOUR
"""The moment of the training; what happens after it is not known."""
STEPS = 100


@dataclasses.dataclass(frozen=True)
class Shown:
    """Impressions of the shop, and what will come of each: seconds since the first day."""

    inputs: npt.NDArray[np.float64]
    at: npt.NDArray[np.float64]
    probability: npt.NDArray[np.float64]
    """Of an order; higher on the newest days."""
    ordered: npt.NDArray[np.bool_]
    delay: npt.NDArray[np.float64]

    @property
    def is_mature(self) -> npt.NDArray[np.bool_]:
        return self.at + WINDOW <= END

    def known(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Label at the end, and the share of events that mature rows say is known by then."""
        step = np.floor(np.minimum(END - self.at, WINDOW) / WINDOW * STEPS)
        late = np.ceil(self.delay / WINDOW * STEPS)
        counts = np.bincount(late[self.ordered & self.is_mature].astype(int), minlength=STEPS + 1)
        share = np.cumsum(counts) / counts.sum()
        return (self.ordered & (late <= step)).astype(np.int64), share[step.astype(int)]


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """The generated shop: its impressions, and the delays of all orders that fell due within it."""
    landing = tmp_path_factory.mktemp("landing")
    sizes = {"rows": 60_000, "users": 300, "items": 200, "days": DAYS, "seed": 3}
    fetch(SCHEMA, place(landing), **sizes)
    rows, orders = (
        pa.concat_tables(pq.read_table(file) for file in sorted((landing / name).glob("*.parquet")))
        for name in ("impressions", "labels/order")
    )
    shown_at = dict(zip(keys(rows), seconds(rows), strict=True))
    delays = [
        ordered_at - shown_at[key]
        for key, ordered_at in zip(keys(orders), seconds(orders), strict=True)
        if shown_at[key] + WINDOW <= END
    ]
    return rows, delays


def keys(rows: pa.Table) -> list[tuple[str, str]]:
    columns = (rows[name].to_pylist() for name in ("request_id", "item_id"))
    return list(zip(*columns, strict=True))


def seconds(rows: pa.Table) -> npt.NDArray[np.float64]:
    first = np.datetime64(SCHEMA.first_day, "us")
    return (rows["timestamp"].to_numpy().astype("M8[us]") - first) / np.timedelta64(1, "s")


@pytest.fixture
def shown(log, rise) -> Shown:
    """The shop with twenty times its orders, and ``rise`` times as many of late."""
    rows, delays = log
    at, draw = seconds(rows), np.random.default_rng(5)
    is_new = at + WINDOW > END
    probability = np.minimum(0.6, 20 * rows["order_probability"].to_numpy())
    probability *= np.where(is_new, rise, 1)
    device = np.unique(rows["device"].to_numpy(zero_copy_only=False), return_inverse=True)[1]
    inputs = [
        np.ones(len(at)),
        np.log1p(rows["position"].to_numpy()),
        np.log(rows["price"].to_numpy()),
        *(device == 0, device == 1),
        is_new,  # as the embeddings of new articles say it
    ]
    ordered, delay = draw.random(len(at)) < probability, draw.choice(delays, len(at))
    return Shown(np.stack(inputs, axis=1).astype(float), at, probability, ordered, delay)


def predicted(shown: Shown, rows: npt.NDArray[np.bool_], label: npt.NDArray[np.float64]):
    """Probabilities of all rows by a logistic regression on some of them, fitted by Newton."""
    inputs, label, weights = shown.inputs[rows], label[rows], np.zeros(shown.inputs.shape[1])
    for _ in range(12):
        found = 1 / (1 + np.exp(-inputs @ weights))
        gradient = inputs.T @ (found - label) + 1e-3 * weights
        curvature = (inputs * (found * (1 - found))[:, None]).T @ inputs
        weights -= np.linalg.solve(curvature + 1e-3 * np.eye(len(weights)), gradient)
    return 1 / (1 + np.exp(-shown.inputs @ weights))


@pytest.mark.parametrize("rise", [1.0, 1.5])
def test_the_newest_rows_are_calibrated_with_the_correction_and_too_low_without(shown, rise):
    known, share = shown.known()
    is_new, is_learnt = ~shown.is_mature, share >= 0.2
    assert share[is_new & is_learnt].mean() < 0.8
    corrected = corrected_labels(known[is_learnt], share[is_learnt])
    label = np.zeros(len(known))
    label[is_learnt] = corrected
    by_rows = {
        "mature": predicted(shown, shown.is_mature, shown.ordered.astype(float)),
        "corrected": predicted(shown, is_learnt, label),
        "uncorrected": predicted(shown, is_learnt, known.astype(float)),
    }
    calibration = {
        name: found[is_new].sum() / shown.ordered[is_new].sum() for name, found in by_rows.items()
    }
    assert calibration["corrected"] == pytest.approx(1, abs=0.05)
    assert calibration["uncorrected"] < 0.85
    loss = {
        name: log_losses(found[is_new], shown.ordered[is_new]).mean()
        for name, found in by_rows.items()
    }
    assert loss["corrected"] < loss["uncorrected"]
    # With nothing new to learn it costs less than a thousandth; with news it gains.
    assert loss["corrected"] < loss["mature"] * (1.001 if rise == 1 else 0.98)


def test_of_a_row_the_mean_of_what_is_learnt_is_its_probability():
    for probability, share in ((0.3, 0.2), (0.02, 0.9), (0.5, 1.0)):
        known = corrected_labels(np.array([0, 1]), np.full(2, share))
        chances = np.array([1 - probability * share, probability * share])
        assert chances @ known == pytest.approx(probability)
