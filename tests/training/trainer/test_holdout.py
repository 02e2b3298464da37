"""A run's holdout is read and scored in parts, and judged as a whole."""

import dataclasses

import pytest
import torch
from support.training.written_examples import SCHEMA, days_of, written_examples

from training.data.dataset import ExampleTable, user_groups
from training.distributed.process_group import process_group
from training.metrics import evaluate
from training.model.inputs import inputs_of
from training.recipes import recipe_of
from training.trainer.first_rows import FirstRows
from training.trainer.session import Session
from training.trainer.trainer import evaluate_days

BATCH = 64


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> ExampleTable:
    return written_examples(tmp_path_factory.mktemp("lake"), num_rows=500, row_group=200, days=2)


@pytest.fixture(scope="module")
def session():
    recipe = recipe_of("wukong-tiny")
    training = dataclasses.replace(recipe.training, batch_size=BATCH)
    recipe = dataclasses.replace(recipe, training=training)
    with process_group():
        yield Session(
            inputs_of(SCHEMA), recipe, FirstRows(torch.zeros(1, len(inputs_of(SCHEMA).dense)))
        )


def test_the_metrics_are_those_of_all_rows_scored_at_once(table, session):
    examples = table.read(days_of(table))
    groups = user_groups(examples, SCHEMA)
    expected = evaluate(session.predict(examples.inputs), examples.label, groups)
    assert expected.rows == 1_000
    assert expected.gauc > 0
    assert evaluate_days(session, table, days_of(table)) == expected


def test_rows_without_a_user_are_groups_of_their_own(table, session):
    nobody = ExampleTable(table.root.parents[1], SCHEMA)
    nobody.row_groups(days_of(table))  # made by the schema with users
    nobody.schema = dataclasses.replace(SCHEMA, user=None, tables=())
    nobody.encode = table.encode
    found = evaluate_days(session, nobody, days_of(table)).to_dict()
    assert (found["gauc"], found["one_class_users"]) == (None, 1.0)


def test_no_more_than_a_batch_is_in_memory_at_once(table, session, monkeypatch):
    sizes = []
    real = ExampleTable.encode
    monkeypatch.setattr(
        ExampleTable, "encode", lambda self, rows: sizes.append(len(rows)) or real(self, rows)
    )
    evaluate_days(session, table, days_of(table))
    assert max(sizes) == BATCH
    assert sum(sizes) == 1_000


def test_days_without_examples_have_no_metrics(table, session):
    assert evaluate_days(session, table, []) is None
