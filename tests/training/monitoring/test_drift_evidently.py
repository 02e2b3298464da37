"""Our distances are Evidently's on the same rows; its report is written where it is installed."""

import os

import numpy as np
import pytest
from support.training.artifacts import random_rows

from features.datasets.catalog import schema_of
from training.artifact.reference import example_rows
from training.data.profile import Key, Profile, profile_rows
from training.data.sketches import Categories, Numbers
from training.monitoring import drift_evidently
from training.monitoring.drift_statistics import psi, statistics

os.environ["DO_NOT_TRACK"] = "1"
pytestmark = pytest.mark.filterwarnings("ignore")  # of Evidently's own imports
SCHEMA = schema_of("synthetic")
POINTS = 1_500


@pytest.fixture(scope="module")
def evidently():
    return pytest.importorskip("evidently")


def profile(seed):
    return Profile(
        {}, profile_rows(SCHEMA, example_rows(SCHEMA, random_rows(SCHEMA, 400, seed=seed)))
    )


def test_psi_ks_and_missing_values_are_those_of_evidently(evidently):
    import pandas as pd
    from evidently.metrics import MissingValueCount, ValueDrift
    from scipy import stats

    random = np.random.default_rng(0)
    was = pd.DataFrame(
        {"n": random.integers(0, 100, POINTS) * 1.0, "c": random.integers(1, 6, POINTS)}
    )
    now = pd.DataFrame(
        {"n": random.integers(4, 104, POINTS) * 1.0, "c": random.integers(1, 7, POINTS)}
    )
    now.loc[:99, "c"] = 1
    now.loc[:29, "n"] = np.nan
    definition = evidently.DataDefinition(numerical_columns=["n"], categorical_columns=["c"])
    sets = [evidently.Dataset.from_pandas(one, definition) for one in (now, was)]
    metrics = [
        ValueDrift(column="n", method="ks"),
        ValueDrift(column="c", method="psi"),
        MissingValueCount(column="n"),
    ]
    theirs = [one["value"] for one in evidently.Report(metrics).run(*sets).dict()["metrics"]]

    sketches = [Numbers.of(one["n"].to_numpy(), np.ones(POINTS)) for one in (was, now)]
    ours = {one.name: one.value for one in statistics(*sketches)}
    known = POINTS - 30
    p = stats.kstwo.sf(ours["ks"], round(POINTS * known / (POINTS + known)))
    assert p == pytest.approx(float(theirs[0]), rel=0.2)
    cells = [np.bincount(one["c"], minlength=7)[1:] / POINTS for one in (was, now)]
    kept = [
        Categories.of(one["c"].to_numpy(), np.ones(POINTS), missing=0.0, rows=POINTS)
        for one in (was, now)
    ]
    assert psi(*cells) == pytest.approx(float(theirs[1]))
    assert {one.name: one.value for one in statistics(*kept)}["psi"] == pytest.approx(
        psi(*cells), rel=0.01
    )
    assert ours["missing"] == pytest.approx(float(theirs[2]["share"]))


def test_the_columns_are_distributed_as_the_profile_says():
    made = profile(0)
    frame = drift_evidently.frame(SCHEMA, made)
    sketch = made.sketches[Key("all", "item_price")]
    assert frame["item_price"].median() == pytest.approx(
        sketch.quantiles(np.array([0.5]))[0], rel=0.01
    )
    gone = sketch.missing / (sketch.missing + sketch.total)
    assert frame["item_price"].isna().mean() == pytest.approx(gone, abs=1e-3)
    device = made.sketches[Key("all", "device")]
    assert set(frame["device"]) == {"phone", "tablet", "desktop", "unknown"}
    shares = frame["device"].value_counts(normalize=True)
    assert shares["unknown"] == pytest.approx(device.unknown / device.total, abs=1e-3)


def test_a_report_is_one_page(evidently, tmp_path, monkeypatch):
    monkeypatch.setattr(drift_evidently, "MOST_POINTS", 200)
    names = ("item_price", "device")
    small = [
        Profile({}, {Key("all", name): made.sketches[Key("all", name)] for name in names})
        for made in (profile(0), profile(1))
    ]
    name = drift_evidently.write_report(tmp_path, SCHEMA, reference=small[0], day=small[1])
    assert "item_price" in (tmp_path / name).read_text()
    assert os.environ["DO_NOT_TRACK"] == "1"
