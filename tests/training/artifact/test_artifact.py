"""An artifact is data that proves itself: what is damaged, of another schema or code is refused."""

import dataclasses
import hashlib
import json
import os
import pickle
import shutil
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.training.artifacts import random_ranker, request_of, write_random

from features.datasets.catalog import schema_of
from training.artifact.artifact import load
from training.artifact.golden import golden_inputs
from training.artifact.manifest import ArtifactError, read_manifest
from training.artifact.quantized_tables import TablePrecision
from training.artifact.scorer import Scorer

SCHEMA = schema_of("synthetic")
FILES = ("weights.safetensors", "golden.parquet")
opened: list[str] = []
sys.addaudithook(
    lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_random(tmp_path_factory.mktemp("artifacts"), SCHEMA, tables="int8")


@pytest.fixture
def copy(written, tmp_path):
    return shutil.copytree(written, tmp_path / "copy")


def rehash(folder):
    """Make the manifest's hashes those of the files as they are now."""
    path = folder / "manifest.json"
    values = json.loads(path.read_text())
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}
    path.write_text(json.dumps({**values, "content_sha256": hashes}))


@pytest.mark.parametrize("tables", list(TablePrecision))
def test_what_is_loaded_scores_as_the_ranker_with_such_tables(tables, tmp_path):
    folder = write_random(tmp_path, SCHEMA, tables=tables)
    request, _ = request_of(SCHEMA, [30, 4])
    expected = Scorer.of(random_ranker(SCHEMA), tables).score(request)
    loaded = load(folder, SCHEMA)
    assert (loaded.manifest.tables, loaded.is_native) == (tables, False)
    np.testing.assert_allclose(loaded.score(request), expected, rtol=0, atol=1e-6)


def test_quantised_tables_are_smaller_in_the_file_and_another_version(tmp_path):
    folders = {t: write_random(tmp_path, SCHEMA, tables=t) for t in TablePrecision}
    sizes = {t: (folder / FILES[0]).stat().st_size for t, folder in folders.items()}
    assert sizes["int4"] < sizes["int8"] < sizes["fp32"]
    assert len({folder.name for folder in folders.values()}) == 3


def test_an_artifact_of_before_there_were_precisions_loads(tmp_path):
    folder = write_random(tmp_path, SCHEMA)
    path = folder / "manifest.json"
    values = json.loads(path.read_text())
    del values["tables"], values["table_costs"]
    path.write_text(json.dumps(values))
    assert load(folder, SCHEMA).manifest.tables == "fp32"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["cut off", "flipped", "gone"])
def test_a_damaged_file_is_refused_by_name(copy, name, damage):
    path = copy / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if damage == "flipped" else content[:-8])
    if damage == "gone":
        path.unlink()
    with pytest.raises(ArtifactError, match=rf"{name}: (sha256|no file|sha256 no file)"):
        load(copy, SCHEMA)


def test_a_manifest_that_leaves_a_hash_out_is_refused(copy):
    path = copy / "manifest.json"
    values = json.loads(path.read_text())
    del values["content_sha256"]["golden.parquet"]
    path.write_text(json.dumps(values))
    with pytest.raises(ArtifactError, match=r"golden.parquet: .*expected a hash in the manifest"):
        load(copy, SCHEMA)


def test_another_schema_is_refused(copy):
    other = dataclasses.replace(SCHEMA, history_length=7)
    with pytest.raises(ArtifactError, match=r"manifest.json: schema \w{16}; expected that of"):
        load(copy, other)


def test_another_answer_to_the_golden_request_is_refused(copy):
    weights = load_file(copy / FILES[0])
    weights["interaction.net.head.2.bias"] += 0.01
    save_file(weights, copy / FILES[0])
    rehash(copy)
    with pytest.raises(ArtifactError, match=r"golden.parquet: golden answer differs by .*at most"):
        load(copy, SCHEMA)


@pytest.mark.parametrize("change", ["missing", "shape", "tables", "config"])
def test_weights_that_are_not_the_manifests_are_refused(copy, change):
    weights, manifest = load_file(copy / FILES[0]), json.loads((copy / "manifest.json").read_text())
    if change == "missing":
        del weights["interaction.net.head.0.weight"]
    elif change == "shape":
        name = next(name for name in weights if name.endswith(".rows"))
        weights[name] = weights[name][:-1].clone()
    elif change == "tables":
        manifest["tables"] = "int4"
    else:
        manifest["config"]["model"]["embedding_dim"] = 0
    (copy / "manifest.json").write_text(json.dumps(manifest))
    save_file(weights, copy / FILES[0])
    rehash(copy)
    with pytest.raises(ArtifactError, match=r"weights.safetensors: does not fit the manifest's"):
        load(copy, SCHEMA)


class Poison:
    """Unpickled, it leaves a trace."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (os.mkdir, (self.trace,))


def test_a_pickle_is_never_opened(copy, tmp_path):
    trace = tmp_path / "trace"
    for name in ("model.pkl", "weights.pt", "model.pt2", "pytorch_model.bin"):
        (copy / name).write_bytes(pickle.dumps(Poison(str(trace))))
    opened.clear()
    load(copy, SCHEMA)
    assert {name for name in opened if str(copy) in name} <= {
        str(copy / name) for name in ("manifest.json", *FILES)
    }
    torch.save({"poison": Poison(str(trace))}, copy / FILES[0])
    rehash(copy)
    with pytest.raises(ArtifactError, match=r"weights.safetensors: does not fit"):
        load(copy, SCHEMA)
    assert not trace.exists()
    torch.load(shutil.copy(copy / FILES[0], tmp_path / "copy.pt"), weights_only=False)
    assert trace.exists(), "the poison does not work, so the test shows nothing"


def test_the_golden_request_is_kept_with_the_answer_that_is_served(written):
    golden = pq.read_table(written / FILES[1])
    inputs = golden_inputs(written, SCHEMA)
    ranker = random_ranker(SCHEMA)
    served = Scorer.of(ranker, TablePrecision.INT8).score(inputs)
    np.testing.assert_allclose(golden.column("golden_score").to_numpy(), served, atol=1e-6)
    exact = Scorer.of(ranker).score(inputs)
    assert np.abs(golden.column("golden_score").to_numpy() - exact).max() > 1e-6
    assert read_manifest(written).tables == "int8"
