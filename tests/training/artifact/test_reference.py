"""An artifact carries the distributions on which its ranker was trained; no server reads them."""

import datetime
import json

import numpy as np
import pytest
from support.training.artifacts import random_ranker, random_rows, write_random
from support.training.written_examples import DAY_OF_ROWS, SCHEMA, days_of, written_examples

from training.artifact import artifact
from training.artifact.artifact import load
from training.artifact.manifest import ArtifactError, read_manifest
from training.artifact.quantized_tables import TablePrecision
from training.artifact.reference import REFERENCE, make_reference, read_reference
from training.artifact.scorer import Scorer
from training.data.profile import LABEL, SCORE, Key

ROWS = 300


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return written_examples(tmp_path_factory.mktemp("lake"), num_rows=ROWS, row_group=128, days=9)


@pytest.fixture(scope="module")
def score():
    return Scorer.of(random_ranker(SCHEMA), TablePrecision.INT8).score


@pytest.fixture(scope="module")
def reference(examples, score):
    learnt, held_out = days_of(examples)[:-1], days_of(examples)[-1:]
    return make_reference(SCHEMA, examples, learnt=learnt, held_out=held_out, score=score)


@pytest.fixture
def folder(tmp_path, reference):
    rows = random_rows(SCHEMA, artifact.GOLDEN_ROWS)
    plain = write_random(tmp_path / "plain", SCHEMA)
    fields = json.loads((plain / "manifest.json").read_text())
    kept = ("day", "trained_through", "recipe", "config", "parents", "metrics", "mlflow_run")
    manifest = artifact.write(
        tmp_path,
        random_ranker(SCHEMA),
        SCHEMA,
        rows,
        more_files={REFERENCE: reference.to_bytes()},
        **{name: fields[name] for name in kept},
    )
    return tmp_path / SCHEMA.name / manifest.version


def test_it_is_of_the_newest_week_that_was_learnt_and_scores_of_what_was_not(reference):
    last = DAY_OF_ROWS + datetime.timedelta(days=8)
    week = [str(last - datetime.timedelta(days=7)), str(last - datetime.timedelta(days=1))]
    about = reference.about
    assert (about["days"], about["rows"]) == (week, 7 * ROWS)
    assert (about["scored_days"], about["scored_rows"]) == ([str(last)] * 2, ROWS)


def test_labels_and_scores_are_those_of_the_days_held_out(examples, score, reference):
    held_out = examples.read(days_of(examples)[-1:])
    found = reference.sketches[Key("all", LABEL)]
    assert found.share == pytest.approx(float(held_out.label.mean()))
    median = reference.sketches[Key("all", SCORE)].quantiles(np.array([0.5]))[0]
    assert median == pytest.approx(float(np.median(score(held_out.inputs))), abs=0.02)


def test_without_days_held_out_they_are_of_the_newest_that_was_learnt(examples, score):
    days = days_of(examples)
    found = make_reference(SCHEMA, examples, learnt=days, held_out=[], score=score)
    assert found.about["scored_days"] == [str(days[-1])] * 2


def test_made_again_it_has_the_same_bytes(examples, score, reference):
    days = days_of(examples)
    again = make_reference(SCHEMA, examples, learnt=days[:-1], held_out=days[-1:], score=score)
    assert again.to_bytes() == reference.to_bytes()


def test_the_manifest_has_its_hash_and_what_is_read_is_what_was_written(folder, reference):
    assert REFERENCE in read_manifest(folder).content_sha256
    assert read_reference(folder).to_bytes() == reference.to_bytes()


def test_a_damaged_one_is_refused_by_its_reader_and_of_no_matter_to_a_server(folder):
    (folder / REFERENCE).write_bytes(b"changed")
    with pytest.raises(ArtifactError, match=r"reference.parquet: sha256 \w+; expected"):
        read_reference(folder)
    (folder / REFERENCE).unlink()
    with pytest.raises(ArtifactError, match=r"reference.parquet: no file; expected"):
        read_reference(folder)
    assert load(folder, SCHEMA).manifest.version == folder.name


def test_an_artifact_of_before_there_were_references_has_none(tmp_path):
    assert read_reference(write_random(tmp_path, SCHEMA)) is None
