"""The part of an erasure that is in artifacts and the verdict, by the command."""

import datetime
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.erasure import planted
from support.training.artifacts import write_random

from features.datasets.catalog import schema_of
from features.encoding.primitives import embedding_rows
from features.erasure.proof import new_proof, put_proof, read_proof
from features.lake.erased import Erased, ErasedExamples, hash_key, id_hash, put_erased
from features.places import place
from features.provenance.learnt import Learnt, Step, put_learnt
from training.__main__ import main
from training.artifact import artifact
from training.artifact.golden import GOLDEN
from training.config.recipe import recipe_from_dict
from training.erasure import artifacts
from training.erasure.verdict import verdict
from training.recipes import recipe_of

SCHEMA = schema_of("synthetic")
USER, DAY = 7, datetime.date(2025, 1, 6)
NOW = datetime.datetime(2025, 2, 1, tzinfo=datetime.UTC)


@pytest.fixture
def var(tmp_path, monkeypatch):
    """A lake with this user, one who shares the row, and one who does not; and an artifact."""
    monkeypatch.setenv("RANKING_VAR", str(tmp_path))
    numbers = np.arange(1, 400_000)
    rows = embedding_rows(SCHEMA.user, pa.array(numbers))
    sharing = next(int(n) for n in numbers[rows == rows[USER - 1]] if n != USER)
    lake = place(tmp_path) / "lake" / SCHEMA.name
    users = pa.table({"user_id": [USER, sharing, 8]})
    for name in ("impressions", "examples"):
        planted.committed(lake / name, {DAY: users})
    write_random(place(tmp_path) / "artifacts", SCHEMA)
    return tmp_path


def forget(var, capsys, *flags):
    lake = place(var) / "lake" / SCHEMA.name
    user_hash = id_hash(hash_key(lake), USER)
    proof = new_proof(SCHEMA.name, user_hash, package="1", until=NOW)
    file = put_proof(place(var) / "proofs", proof)
    given = [f"--dataset={SCHEMA.name}", f"--proof={file}", "--grace-hours=0", *flags]
    code = main(["forget", *given, *([] if "--user" in flags else ["--user", str(USER)])])
    return code, json.loads(capsys.readouterr().out.splitlines()[-1]), read_proof(file)


def test_golden_rows_of_the_user_go_and_the_artifact_still_proves_itself(var, capsys):
    (folder,) = artifacts.versions(place(var) / "artifacts" / SCHEMA.name)
    before = pq.ParquetFile(folder / GOLDEN).read()
    mine = before["user_id"].to_pylist().count(USER)
    code, summary, proof = forget(var, capsys)
    assert (code, summary["golden_rows"]) == (0, {folder.name: mine}), summary
    after = pq.ParquetFile(folder / GOLDEN).read()
    assert after.to_pylist() == [row for row in before.to_pylist() if row["user_id"] != USER]
    artifact.load(folder, SCHEMA)
    models = proof["models"]
    assert models["row_shared_with"] == 1
    assert [one["what"] for one in models["left"]] == [
        f"the user's row in the tables of artifact {folder.name}"
    ]
    assert models["retrain"]["retrain"] == "no"
    code, summary, _ = forget(var, capsys)
    assert (code, summary["golden_rows"]) == (0, {})


def test_a_kill_between_the_two_writes_is_mended_by_the_next_run(var, monkeypatch):
    (folder,) = artifacts.versions(place(var) / "artifacts" / SCHEMA.name)
    planned = []

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(artifacts, "_put_manifest", killed)
        with pytest.raises(KeyboardInterrupt):
            artifacts.erase_golden(folder, SCHEMA, USER, planned.append, "")
    with pytest.raises(artifact.ArtifactError, match="sha256"):
        artifact.load(folder, SCHEMA)
    artifacts.erase_golden(folder, SCHEMA, USER, planned.append, planned[0])
    artifact.load(folder, SCHEMA)


@pytest.mark.parametrize("tables", ["fp32", "int8", "int4"])
def test_a_served_row_is_known_to_be_trained_or_not(tmp_path, tables):
    """As exported of a checkpoint whose row was reset, a row has an untrained ranker's bits."""
    from support.training.artifacts import random_ranker, random_rows

    from training.erasure.embedding_row import first_values, row_of_user

    recipe = recipe_of("wukong-tiny")
    ranker, row = random_ranker(SCHEMA), row_of_user(SCHEMA, USER)
    found = []
    for is_reset in (False, True):
        if is_reset:
            weight = ranker.embeddings.embedding_bags["user_id"].weight
            weight.data[row.number] = first_values("user_id", row.number, weight.shape[1], recipe)
        written = artifact.write(
            place(tmp_path),
            ranker,
            SCHEMA,
            random_rows(SCHEMA, 4),
            **dict.fromkeys(("day", "trained_through"), "2025-01-01"),
            recipe="wukong-tiny",
            config=recipe.to_dict(),
            parents=[],
            metrics={},
            mlflow_run="",
            tables=tables,
        )
        folder = place(tmp_path) / SCHEMA.name / written.version
        found.append(artifacts.has_trained_row(folder, SCHEMA, USER))
    assert found == [True, False]
    assert recipe_from_dict(recipe.to_dict()) == recipe


def test_the_verdict_counts_what_was_erased_since_the_newest_training_from_scratch(var):
    lake = place(var) / "lake" / SCHEMA.name
    for number, (examples, version) in enumerate([(1, 3), (2, 5)]):
        part = ErasedExamples(erasure="", rows=examples, version=version)
        put_erased(lake, Erased(id_hash=str(number), until=NOW, examples=[part]))

    def trained(name, *steps):
        put_learnt(lake, Learnt(checkpoint=name, at=NOW, steps=steps))

    def judged(limit=1.0):
        found = verdict(lake, limit_percent=limit)
        return found["erased_examples"], found["share_percent"], found["retrain"]

    # There are three examples.
    assert judged() == (3, 50.0, "now")
    # The checkpoint of the training from scratch is gone; that of a day after it is there.
    first = Step(by="2025-01-01", version=3, days={})
    trained("2025-01-02", first, Step(by="2025-01-02", parent="2025-01-01", version=9, days={}))
    assert judged() == (2, 40.0, "now")
    assert judged(limit=40.0) == (2, 40.0, "scheduled")
    trained("2025-01-03", Step(by="2025-01-03", version=5, days={}))
    assert judged() == (0, 0.0, "no")


def test_a_proof_of_another_user_is_refused(var, capsys):
    code, summary, _ = forget(var, capsys, "--user", "8")
    assert code == 1
    assert "is of another user" in summary["error"]
