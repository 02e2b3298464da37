"""The key of native code, the folder that keeps it, and the process that compiles it."""

import dataclasses
import sys
import time

import pytest
import torch
from support.training.artifacts import write_random

from features.datasets.catalog import schema_of
from training.artifact import aoti_cache
from training.artifact.aoti_cache import Compile, Compiling, NativeCode, key_of
from training.artifact.aoti_runtime import NativeError
from training.artifact.artifact import load
from training.model.inputs import inputs_of
from training.recipes import recipe_of

SCHEMA = schema_of("synthetic")


def test_a_folder_that_cannot_be_made_is_no_obstacle(tmp_path):
    artifact = write_random(tmp_path / "artifacts", SCHEMA, tables="int8")
    (tmp_path / "file").write_text("")
    loaded = load(
        artifact,
        SCHEMA,
        native=NativeCode(mode=Compile.AUTO, folder=tmp_path / "file" / "compiled"),
    )
    assert "Not a directory" in loaded.why_eager


@pytest.mark.process
def test_a_compilation_that_takes_too_long_is_ended_and_leaves_nothing(tmp_path, monkeypatch):
    slow = tmp_path / "slow"
    slow.write_text(f"#!/bin/bash\nmkdir {tmp_path}/.compiling-$$-x\nsleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))
    started = time.monotonic()
    with pytest.raises(NativeError, match="not done in 1 s"):
        aoti_cache._compile_apart(tmp_path, tmp_path, seconds=1.0)
    assert time.monotonic() - started < 20
    assert list(tmp_path.glob(".compiling-*")) == []


def test_the_key_is_of_all_that_shapes_the_code(monkeypatch):
    inputs, config = inputs_of(SCHEMA), recipe_of("wukong-tiny").model
    longer = inputs.with_rows_times(2)
    wider = dataclasses.replace(config, bottom_mlp=(17,))
    key = key_of(inputs, config)
    assert key_of(longer, config) == key, "tables are not compiled"
    assert key_of(inputs, wider) != key
    assert key_of(dataclasses.replace(inputs, dense=inputs.dense[1:]), config) != key
    monkeypatch.setattr(torch, "__version__", "9.9")
    assert key_of(inputs, config) != key
    monkeypatch.undo()
    monkeypatch.setattr(aoti_cache, "_cpu", lambda: ["another"])
    assert key_of(inputs, config) != key


def test_the_environment_says_off_auto_or_required():
    assert Compiling.from_environment({}).mode is Compile.AUTO
    assert Compiling.from_environment({"RANKING_COMPILE": "off"}).mode is Compile.OFF
    with pytest.raises(ValueError, match="RANKING_COMPILE: 'yes'; one of"):
        Compiling.from_environment({"RANKING_COMPILE": "yes"})
