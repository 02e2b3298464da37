"""LightGBM among the rankers: what it sees of a row, when it stops, what the command prints."""

import dataclasses
import json
from types import SimpleNamespace

import lightgbm
import numpy as np
import pytest
from support.training.written_examples import written_examples

from features.datasets.catalog import schema_of
from features.encoding.encode import Ids, ModelInputs
from features.schema import Kind
from training.__main__ import main
from training.experiments.public_data import trees
from training.experiments.public_data.data import BenchmarkData, Split
from training.experiments.public_data.trees import TreeSettings, run_trees, search_trees
from training.model.inputs import Inputs, SparseInput

INPUTS = Inputs(
    sparse=(
        SparseInput("user", 1_000, "user"),
        SparseInput("genres", 5, "genres", max_length=3),
        SparseInput("history", 400, "user", max_length=4),
    ),
    dense=(Kind.RATE, Kind.COUNT),
)


def problem(rows=6_000, *, noise=0.5):
    """A label that follows the user, a genre and a number which is missing in some rows."""
    random = np.random.default_rng(0)
    users = random.integers(1, 40, rows)
    lengths = random.integers(0, 4, rows).astype(np.int32)
    genres = random.integers(1, 5, lengths.sum())
    dense = random.normal(size=(rows, 2)).astype(np.float32)
    dense[random.random(rows) < 0.2, 0] = np.nan
    has_second = np.bincount(
        np.repeat(np.arange(rows), lengths), weights=genres == 2, minlength=rows
    )
    logit = random.normal(size=40)[users] + 1.5 * (has_second > 0) + np.nan_to_num(dense[:, 0])
    label = (logit - 1 + noise * random.logistic(size=rows) > 0).astype(np.int64)
    no_history = Ids(np.empty(0, np.int64), np.zeros(rows, np.int32))
    inputs = ModelInputs(
        dense,
        {
            "user": Ids(users, np.ones(rows, np.int32)),
            "genres": Ids(genres, lengths),
            "history": no_history,
        },
    )
    parts = np.split(np.arange(rows), [rows * 2 // 3, rows * 5 // 6])
    train, valid, test = (Split(inputs.take(p), label[p], users[p]) for p in parts)
    return BenchmarkData(name="small", inputs=INPUTS, train=train, valid=valid, test=test)


def test_a_row_is_numbers_categories_counts_and_lengths():
    inputs = ModelInputs(
        np.array([[0.5, np.nan], [1.5, 2.5]], np.float32),
        {
            "user": Ids(np.array([900, 7]), np.array([1, 1], np.int32)),
            "genres": Ids(np.array([2, 4, 2]), np.array([3, 0], np.int32)),
            "history": Ids(np.array([33, 44]), np.array([0, 2], np.int32)),
        },
    )
    nan = np.nan
    columns = trees._Columns.of(INPUTS, inputs, has_large_ids=True)
    np.testing.assert_array_equal(
        columns.matrix,
        [
            [0.5, nan, 900, 0, 0, 2, 0, 1, 0, nan],
            [1.5, 2.5, 7, 0, 0, 0, 0, 0, 2, 33],
        ],
    )
    assert columns.categorical == [2, 9]
    columns = trees._Columns.of(INPUTS, inputs, has_large_ids=False)
    np.testing.assert_array_equal(
        columns.matrix,
        [[0.5, nan, 0, 0, 2, 0, 1, 0], [1.5, 2.5, 0, 0, 0, 0, 0, 2]],
    )
    assert columns.categorical == []


def test_they_learn_users_genres_and_numbers_and_stop_when_validation_does():
    data = problem()
    found = run_trees(data, TreeSettings(), seed=1)
    assert found.test.auc > 0.85
    assert found.epochs < trees.MOST_TREES / 4
    assert found.params > found.epochs
    without = run_trees(data, TreeSettings(has_large_ids=False), seed=1)
    assert without.test.auc < found.test.auc - 0.02
    again = run_trees(data, TreeSettings(), seed=1)
    assert (again.test, again.epochs, again.params) == (found.test, found.epochs, found.params)


def test_a_search_tries_the_defaults_first_and_does_not_see_the_test_split(monkeypatch):
    tried, asked = [], lightgbm.train
    monkeypatch.setattr(
        lightgbm, "train", lambda params, *a, **k: (tried.append(params), asked(params, *a, **k))[1]
    )
    found = search_trees(dataclasses.replace(problem(), test=None), trials=4, num_rows=2_000)
    assert [one["num_leaves"] for one in tried][:1] == [31]
    assert len({one["learning_rate"] for one in tried}) == 4
    assert found.num_leaves in {one["num_leaves"] for one in tried}


def test_streamed_rows_are_refused():
    data = dataclasses.replace(problem(), train=SimpleNamespace())
    with pytest.raises(ValueError, match="--model lightgbm: small is streamed; it needs all rows"):
        run_trees(data, TreeSettings(), seed=0)


def test_the_command_reads_a_log_whose_users_are_not_pushed(tmp_path, capsys):
    """As the deployment has the schema, so as its examples were made."""
    schema = schema_of("synthetic-shop")
    assert not schema.can_push
    written_examples(tmp_path, num_rows=200, row_group=200, days=8, schema=schema)
    arguments = ["benchmark", "--dataset=synthetic-shop", f"--data={tmp_path}"]
    arguments += ["--model=lightgbm", "--seeds=2"]
    assert main(arguments) == 0
    *table, line = capsys.readouterr().out.strip().splitlines()
    figures = json.loads(line)
    assert table[2].startswith("| synthetic-shop | lightgbm |")
    assert (figures["recipe"], figures["batch_size"], figures["mflop_per_example"]) == (None,) * 3
    assert figures["params"] >= 2
    assert figures["search"]["settings"] == dataclasses.asdict(TreeSettings())
    assert main([*arguments, "--batch-size=64"]) == 1
    assert "lightgbm has none of them" in json.loads(capsys.readouterr().out)["error"]
