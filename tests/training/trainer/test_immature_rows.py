"""Rows whose label is not final are learnt on top of the day's own ranker, and judged on others."""

import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.training.artifacts import random_rows
from support.training.commands import run_command
from support.training.written_examples import replace_day

from features.datasets.catalog import schema_of
from features.labels.judged import is_judged_key
from features.places import place
from features.schema import KNOWN_SHARE
from features.schema.fingerprints import rows_fingerprint
from training.checkpoint.catalog import Checkpoints
from training.data.batches import batches
from training.data.dataset import TABLE, ExampleTable
from training.data.immature import IMMATURE_EXAMPLES
from training.recipes import recipe_of

pytestmark = pytest.mark.distributed
FILE = Path(__file__).parents[2] / "support" / "labels" / "orders.yaml"
FIRST = datetime.date(2025, 3, 1)
LAST = FIRST + datetime.timedelta(days=3)
NUM_ROWS = 400


@pytest.fixture
def lake(tmp_path, monkeypatch) -> Path:
    """Four mature days of random rows, and what the run of the last may learn before its time."""
    declared = FILE.read_text().replace(
        "    delay: 2h\n", "    delay: 2h\n    immature: {correction: inverse_probability}\n"
    )
    (tmp_path / "orders.yaml").write_text(declared)
    monkeypatch.setenv("RANKING_SCHEMAS", str(tmp_path / "orders.yaml"))
    schema, root = schema_of("orders"), tmp_path / "lake"
    write, folder = {"fingerprint": rows_fingerprint(schema)}, place(root) / schema.name
    for number in range(4):
        day = FIRST + datetime.timedelta(days=number)
        rows = random_rows(schema, NUM_ROWS, seed=number)
        at = rows.column_names.index("request_id")
        pages = pa.array([f"{day}-{row // 8}" for row in range(NUM_ROWS)])
        replace_day(folder / TABLE, day, [rows.set_column(at, "request_id", pages)], **write)
    rows = random_rows(schema, 200, seed=9)
    share = pa.array(np.where(rows["label"].to_numpy(), 0.5, 0.8))
    rows = rows.append_column(KNOWN_SHARE, share)
    replace_day(folder / IMMATURE_EXAMPLES, LAST, [rows], **write)
    return root


def flags(tmp_path, *names: str) -> list[str]:
    folders = {"tracking": "mlflow", "lake": "lake"}
    return [f"--{name}={tmp_path / folders.get(name, name)}" for name in names]


def test_a_day_learns_them_on_top_and_the_next_goes_on_from_below(lake, tmp_path):
    day, table = f"--date={LAST}", ("tracking", "lake", "checkpoints")
    train = ["train", "--dataset=orders", *flags(tmp_path, *table, "reports"), "--ranks=1"]
    own = run_command(*train, day, "--recipe=wukong-tiny")
    on_top = run_command(*train, day, "--immature")
    assert on_top["name"] == f"{LAST}-immature-wukong-tiny"
    assert (on_top["parent"], on_top["examples"]) == (str(LAST), 200)
    assert on_top["trained_through"] == own["trained_through"]
    known = on_top["immature"]
    assert known["mean_weight"] == 2
    assert known["positive_rate"] == 2 * known["positives"] / 200
    # Both are judged on requests that neither has learnt before they were mature.
    checkpoints = Checkpoints(place(tmp_path / "checkpoints"), schema_of("orders"))
    assert own["metrics"]["rows"] == on_top["metrics"]["rows"] == num_judged(lake)
    following = LAST + datetime.timedelta(days=1)
    parent = checkpoints.parent_for(recipe_of("wukong-tiny"), following, LAST)
    assert parent.name == str(LAST)
    exported = run_command(
        *("export", "--dataset=orders", day, *flags(tmp_path, *table, "artifacts"))
    )
    assert exported["version"].startswith(f"{LAST}-immature-")
    judge = ["evaluate", "--dataset=orders", day, *flags(tmp_path, *table, "artifacts", "reports")]
    judged = run_command(*judge)
    assert judged["candidate"] == exported["version"]
    assert judged["metrics"]["rows"] == num_judged(lake)
    assert f"requests: {num_judged(lake)} of {NUM_ROWS} rows judge" in judged["notes"][-1]


def num_judged(lake: Path) -> int:
    rows = ExampleTable(place(lake), schema_of("orders")).read([LAST]).table
    return sum(map(is_judged_key, rows["request_id"].to_pylist()))


def test_what_is_learnt_of_a_known_positive_is_more_than_one(lake):
    table = ExampleTable(place(lake), schema_of("orders"), table=IMMATURE_EXAMPLES)
    found = batches(table, [LAST], batch_size=64, shuffle_rows=1_000, seed=0)
    learnt = np.concatenate([batch.label.numpy()[batch.weight.numpy() > 0] for batch in found])
    assert {*learnt.tolist()} == {0, 2}
    assert learnt.sum() == 2 * table.positives([LAST])


def test_a_label_that_does_not_declare_it_is_an_error():
    asked = ["train", "--dataset=synthetic-shop", f"--date={LAST}", "--immature"]
    said = "--immature: label click of synthetic-shop declares none"
    assert said in run_command(*asked, code=1)["error"]
