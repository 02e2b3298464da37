"""A sweep is done once, keeps to its budget, and is judged on rows that it did not train on."""

import json
import shutil

import numpy as np
import pytest

from training.data.dataset import ExampleTable
from training.distributed.process_group import process_group
from training.experiments.one_pass import FACTOR, START, Rates
from training.experiments.scaling.points import read_points
from training.experiments.sweep.runs import Runs
from training.experiments.sweep.sizes import sizes_of
from training.experiments.sweep.sweep import Sweep
from training.recipes import recipe_of
from training.registry.mlflow_registry import Registry


@pytest.fixture(scope="module")
def group():
    with process_group():
        yield


def sweep(built, folder, *, budget_seconds=600, seeds=2, last=None):
    registry = Registry(folder / "mlflow", "synthetic-scaling")
    runs = Runs(ExampleTable(built.lake, built.schema), registry, last=last, batch_size=256)
    return Sweep(runs, folder / "scaling", seeds=seeds, budget_seconds=budget_seconds)


@pytest.fixture(scope="module")
def swept(built, group, tmp_path_factory):
    folder = tmp_path_factory.mktemp("swept")
    sizes = sizes_of("data", recipe_of("wukong-tiny"), num_points=5)
    found = sweep(built, folder).run(sizes)
    return folder, sizes, found


def runs(folder):
    return (folder / "scaling" / "synthetic-runs.jsonl").read_text().splitlines()


def test_every_size_has_its_seeds_at_the_rate_that_validation_chose(built, swept):
    folder, _, found = swept
    points = read_points(folder / "scaling" / "synthetic.jsonl")
    assert found["left_out"] == []
    amounts = sorted({point.x for point in points})
    assert len(amounts) == 5
    assert amounts[-1] == ExampleTable(built.lake, built.schema).num_rows(built.days[:-2])
    assert amounts[0] == pytest.approx(amounts[-1] / 16, rel=0.1)
    journal = [json.loads(line) for line in runs(folder)]
    for point in points:
        tried = [run for run in journal if run["examples"] == point.examples and run["seed"] == 0]
        best = min(tried, key=lambda run: run["valid_ne"])
        chosen = (best["learning_rate"], best["tables_learning_rate"])
        assert (point.learning_rate, point.tables_learning_rate) == chosen
        for field in ("learning_rate", "tables_learning_rate"):
            rates = sorted({run[field] for run in tried})
            assert len(rates) >= 2
            assert np.divide(rates[1:], rates[:-1]) == pytest.approx(FACTOR)


def test_a_sweep_that_is_done_does_nothing_again(built, swept):
    folder, sizes, _ = swept
    before = runs(folder)
    again = sweep(built, folder, budget_seconds=0)
    found = again.run(sizes)
    assert runs(folder) == before
    assert found["left_out"] == []
    assert found["estimated_minutes"] == 0


def test_what_is_done_of_other_batches_or_of_one_seed_alone_is_not_taken_for_done(built, swept):
    """The time that a size takes is the budget's, so it must not be 0 by mistake."""
    folder, sizes, _ = swept
    registry = Registry(folder / "mlflow", "synthetic-scaling")
    table = ExampleTable(built.lake, built.schema)
    other = Runs(table, registry, last=None, batch_size=128)
    others = Sweep(other, folder / "scaling", seeds=2, budget_seconds=0)
    assert others._estimate(sizes[0]) > 0
    of_one = sweep(built, folder, seeds=1)
    assert of_one._estimate(sizes[0]) == 0
    of_one._known_points.clear()
    assert of_one._estimate(sizes[0]) > 0


def test_a_journal_of_earlier_code_is_left_as_it_is(built, swept, tmp_path):
    """Its lines need not have the fields of today."""
    folder, _, _ = swept
    shutil.copytree(folder / "scaling", tmp_path / "scaling")
    journal = tmp_path / "scaling" / "synthetic-runs.jsonl"
    earlier = {"key": "0" * 16, "axis": "data", "valid_ne": 0.9, "setting": "of other code"}
    journal.write_text(journal.read_text() + json.dumps(earlier) + "\n")
    assert earlier["key"] not in sweep(built, tmp_path).outcomes
    assert len(runs(tmp_path)) == len(runs(folder)) + 1


def test_a_line_that_a_kill_cut_off_is_a_run_to_do_again(built, swept, tmp_path):
    folder, sizes, _ = swept
    journal = tmp_path / "scaling" / "synthetic-runs.jsonl"
    journal.parent.mkdir(parents=True)
    lines = runs(folder)
    journal.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:40])
    resumed = sweep(built, tmp_path)
    assert len(resumed.outcomes) == len(lines) - 1
    resumed.run(sizes)
    assert {json.loads(line)["key"] for line in lines} == set(resumed.outcomes)
    # What was cut off is gone: the line behind it is whole.
    assert set(sweep(built, tmp_path).outcomes) == set(resumed.outcomes)


def test_what_the_budget_does_not_hold_is_named(built, group, tmp_path):
    found = sweep(built, tmp_path, budget_seconds=0).run(
        sizes_of("rows", recipe_of("wukong-tiny"), num_points=5)
    )
    assert found["left_out"] == [f"×{4.0**-n:g}" for n in (4, 3, 2, 1, 0)]
    assert found["estimated_minutes"] > 0


def test_fewer_rows_share_ids_and_keep_the_unknown(built, group, tmp_path):
    made = sweep(built, tmp_path)
    (smallest, *_) = sizes_of("rows", recipe_of("wukong-tiny"), num_points=5)
    table = made.runs.table_of(smallest)
    examples = table.encode(table.buffers(built.days[:1], rows=10_000)[0].read())
    whole = ExampleTable(built.lake, built.schema)
    original = whole.encode(whole.buffers(built.days[:1], rows=10_000)[0].read())
    for sparse in table.inputs.sparse:
        now, was = examples.inputs.ids[sparse.name], original.inputs.ids[sparse.name]
        assert now.values.max() < sparse.num_rows
        assert np.array_equal(now.values == 0, was.values == 0)
        assert np.array_equal(now.lengths, was.lengths)
    items = dict(zip([s.name for s in table.inputs.sparse], table.inputs.sparse, strict=True))
    assert items["item_id"].num_rows == round(100_001 / 256)
    assert items["device"].num_rows == 4


def test_another_configuration_is_another_key(built, group, tmp_path):
    made = sweep(built, tmp_path)
    sizes = sizes_of("data", recipe_of("wukong-tiny"), num_points=5)
    configurations = [
        *((sizes[-1], START, 0), (sizes[-1], START, 1), (sizes[0], START, 0)),
        *((sizes[-1], START.times(field, 1), 0) for field in ("dense", "tables")),
    ]
    assert len({made.runs.key_of(*one) for one in configurations}) == len(configurations)


def test_points_of_other_days_leave_the_study(built, swept, tmp_path):
    """They were judged on other rows: no curve may mix the two."""
    folder, _, _ = swept
    shutil.copytree(folder / "scaling", tmp_path / "scaling")
    assert read_points(tmp_path / "scaling" / "synthetic.jsonl") != []
    earlier = sweep(built, tmp_path, budget_seconds=0, last=built.days[-2])
    assert earlier.points.read_text() == ""
    assert len(runs(tmp_path)) == len(runs(folder))


def test_a_run_that_diverges_ends_at_once_and_is_no_failure(built, group, tmp_path):
    made = sweep(built, tmp_path)
    (smallest, *_) = sizes_of("rows", recipe_of("wukong-tiny"), num_points=5)
    outcome = made.runs.train(smallest, Rates(dense=1e12, tables=0.05), 0)
    assert np.isnan([outcome.valid_ne, outcome.test_ne, outcome.test_log_loss]).all()
