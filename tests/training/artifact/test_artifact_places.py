"""An artifact in an object store is one on a disk: whole or not there, verified, and proven."""

import json
import os

import numpy as np
import pytest
from support.training.artifacts import request_of, write_random

from features.datasets.catalog import schema_of
from features.places import is_local, put_whole, uri
from training.artifact import artifact
from training.artifact.aoti_cache import Compile, NativeCode
from training.artifact.artifact import load
from training.artifact.manifest import MANIFEST, ArtifactError

SCHEMA = schema_of("synthetic")
WEIGHTS = "weights.safetensors"


@pytest.fixture(autouse=True)
def var(tmp_path, monkeypatch):
    monkeypatch.setenv("RANKING_VAR", str(tmp_path / "var"))
    return tmp_path / "var"


def test_it_scores_as_on_a_disk_and_leaves_no_copy(anywhere, tmp_path, var):
    request, _ = request_of(SCHEMA, [30, 4])
    expected = load(write_random(tmp_path / "disk", SCHEMA, tables="int8"), SCHEMA)
    folder = write_random(anywhere, SCHEMA, tables="int8")
    (var / "loading" / "of-a-killed-process").mkdir(parents=True)
    os.utime(var / "loading" / "of-a-killed-process", (0, 0))
    found = load(folder, SCHEMA)
    assert found.manifest == expected.manifest
    np.testing.assert_array_equal(found.score(request), expected.score(request))
    assert is_local(folder) or not list(var.glob("loading/*"))


@pytest.mark.parametrize("damage", ["cut off", "flipped", "gone"])
def test_a_damaged_file_is_refused_by_its_place(anywhere, damage):
    folder = write_random(anywhere, SCHEMA)
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[len(content) // 2] ^= 1
    put_whole(folder / WEIGHTS, bytes(content if damage == "flipped" else content[:-8]))
    if damage == "gone":
        (folder / WEIGHTS).unlink()
    with pytest.raises(ArtifactError, match=f"{uri(folder / WEIGHTS)}: sha256"):
        load(folder, SCHEMA)


def test_a_killed_writer_leaves_no_artifact_and_the_next_one_writes_it(anywhere, monkeypatch):
    def stops_before_the_manifest(where, content):
        if where.name == MANIFEST:
            raise KeyboardInterrupt
        put_whole(where, content[:-1])

    with monkeypatch.context() as patched:
        patched.setattr(artifact, "put_whole", stops_before_the_manifest)
        with pytest.raises(KeyboardInterrupt):
            write_random(anywhere, SCHEMA)
    (left,) = (anywhere / SCHEMA.name).iterdir()
    with pytest.raises(ArtifactError, match=f"{uri(left)}: no readable manifest"):
        load(left, SCHEMA)
    assert write_random(anywhere, SCHEMA) == left
    assert load(left, SCHEMA).manifest.version == left.name


def test_native_code_is_asked_for_by_the_place(anywhere, tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(
        "training.artifact.aoti_cache._run_apart",
        lambda command, *_, **__: commands.append(command),
    )
    folder = write_random(anywhere, SCHEMA)
    native = NativeCode(mode=Compile.AUTO, folder=tmp_path / "compiled")
    assert "no native code yet" in load(folder, SCHEMA, native=native).why_eager
    assert f"--artifact={uri(folder)}" in commands[0]


def test_a_manifest_that_is_no_json_is_refused(anywhere):
    folder = write_random(anywhere, SCHEMA)
    put_whole(folder / MANIFEST, json.dumps({"version": "1"}).encode())
    with pytest.raises(ArtifactError, match="no readable manifest"):
        load(folder, SCHEMA)
