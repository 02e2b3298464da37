"""Native code is made here, kept privately, verified, shared by weights, and never a condition."""

import gc
import json
import shutil
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest
import torch
from support.training.artifacts import request_of, write_random
from torch._dynamo.utils import counters

from features.datasets.catalog import schema_of
from training.artifact import aoti_cache, export
from training.artifact.aoti_cache import Compile, NativeCode, private_folder
from training.artifact.aoti_runtime import Instance, Library, NativeDense, NativeError, sha256
from training.artifact.artifact import load
from training.artifact.manifest import ArtifactError

SCHEMA = schema_of("synthetic")
events: list[str] = []
sys.addaudithook(
    lambda event, arguments: (
        events.append(f"{event} {arguments[0]}")
        if event in {"open", "subprocess.Popen", "os.mkdir", "ctypes.dlopen"}
        else None
    )
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_random(tmp_path_factory.mktemp("artifacts"), SCHEMA, tables="int8")


@pytest.fixture(scope="module")
def temporary(tmp_path_factory):
    """The folder for temporary files of the process that compiles."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def compiled(folder, temporary, tmp_path_factory):
    """A folder with the code of the artifact's architecture, made by its load."""
    if shutil.which("g++") is None:
        pytest.skip("no g++: there is nothing to compile with")
    place = tmp_path_factory.mktemp("native") / "compiled"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))
        patch.setattr(aoti_cache, "SECONDS_AT_LOAD", 600.0)
        loaded = load(folder, SCHEMA, native=NativeCode(mode=Compile.REQUIRED, folder=place))
    assert loaded.is_native
    return place


@pytest.fixture
def copy(compiled, tmp_path):
    return shutil.copytree(compiled, tmp_path / "compiled")


def required(place):
    return NativeCode(mode=Compile.REQUIRED, folder=place)


def automatic(place):
    return NativeCode(mode=Compile.AUTO, folder=place)


def test_a_compilation_leaves_nothing_but_the_code(compiled, temporary):
    """Torch would keep 300 MB of precompiled headers after each, which it does not find again."""
    left = [path for path in temporary.rglob("*") if path.is_file() and path.stat().st_size > 10**6]
    assert left == []
    kept = {path.name for path in compiled.rglob("*") if path.is_file()}
    assert kept == {aoti_cache.LIBRARY, aoti_cache.NOTE}


def test_other_weights_of_the_architecture_take_the_code_that_is_there(compiled, folder, tmp_path):
    other = write_random(tmp_path, SCHEMA, seed=5)
    before = sorted(compiled.rglob("*"))
    events.clear()
    loaded = load(other, SCHEMA, native=required(compiled))
    assert not [event for event in events if event.startswith("subprocess")]
    assert sorted(compiled.rglob("*")) == before
    for users in ([1], [2], [1, 1], [64], [30, 600], [9_000]):
        request, _ = request_of(SCHEMA, users)
        expected = load(other, SCHEMA).score(request)
        np.testing.assert_allclose(loaded.score(request), expected, rtol=0, atol=1e-6)
        assert len(users) == 1 or expected.std() > 1e-3
    first = load(folder, SCHEMA, native=required(compiled)).score(request)
    assert np.abs(first - expected).max() > 0.01, "each has its own weights"


def test_after_the_load_nothing_is_compiled_opened_or_started(compiled, folder):
    loaded = load(folder, SCHEMA, native=required(compiled))
    requests = [request_of(SCHEMA, users)[0] for users in ([1], [3], [77, 1], [1_234], [500])]
    counters.clear()
    events.clear()
    for request in requests:
        loaded.score(request)
    assert events == []
    assert not counters


def test_other_threads_of_python_run_while_the_code_does(compiled, folder):
    """Torch's own binding keeps the interpreter to itself until the code is done."""
    loaded = load(folder, SCHEMA, native=required(compiled), num_threads=1)
    request, _ = request_of(SCHEMA, [8_000])
    calls, ticks, is_over = [], [], threading.Event()
    run = Instance.run

    def timed(*given):
        started = time.perf_counter()
        output = run(*given)
        calls.append((started, time.perf_counter()))
        return output

    def tick():
        while not is_over.is_set():
            ticks.append(time.perf_counter())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Instance, "run", timed)
        ticker = threading.Thread(target=tick)
        ticker.start()
        for _ in range(5):
            loaded.score(request)
        is_over.set()
        ticker.join()
    # In the first half: who had to wait for the lock could tick between the code's end and ours.
    inside = [sum(start < at < (start + end) / 2 for at in ticks) for start, end in calls]
    # A thread that waits for the interpreter's lock is seen once or twice, around the call.
    assert max(inside) > 20, inside


def test_code_is_let_go_of_with_the_artifact_and_weights_once_it_has_them(
    compiled, folder, monkeypatch
):
    called, modules = [], []
    call, take = Library.call, Instance.take_weights

    def recorded(self, name, *given):
        called.append(name)
        return call(self, name, *given)

    def taken(self, weights):
        take(self, weights)
        modules.extend(map(weakref.ref, weights.values()))
        # A detached one shares the storage; a reference too many would be torch's.
        assert {value.detach()._use_count() for value in weights.values()} == {1}

    monkeypatch.setattr(Library, "call", recorded)
    monkeypatch.setattr(Instance, "take_weights", taken)
    loaded = load(folder, SCHEMA, native=required(compiled))
    gc.collect()
    assert modules
    assert not [module for module in modules if module() is not None]
    loaded.score(request_of(SCHEMA, [3])[0])
    assert "Delete" not in called
    del loaded
    gc.collect()
    assert called[-1] == "Delete"


def test_an_output_is_the_callers_alone(compiled, folder):
    """Torch's function for a single handle copies it, and nothing owns the output."""
    code = load(folder, SCHEMA, native=required(compiled))._scorer.dense
    num_dense, num_pooled = code._shapes
    output = code(torch.rand(8, num_dense), torch.rand(8, num_pooled))
    assert output._use_count() == torch.rand(8)._use_count() == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d, p: (d[:, 1:], p), r"dense: torch.float32 \(8, \d+\) on cpu; torch.float32"),
        (lambda d, p: (d, p[:, 1:]), "pooled_BE: torch.float32"),
        (lambda d, p: (d.double(), p), "dense: torch.float64"),
        (lambda d, p: (d, p.half()), "pooled_BE: torch.float16"),
        (lambda d, p: (d[0], p), "dense: torch.float32"),
        (lambda d, p: (d[1:], p), "rows: 7 and 8; as many of both"),
        (lambda d, p: (d[:0], p[:0]), "rows: 0 and 0; as many of both, 1 to 8192"),
    ],
)
def test_tensors_that_the_code_would_misread_are_errors(compiled, folder, change, says):
    """And no assertions: those are gone under ``python -O``, and the code checks nothing."""
    code = load(folder, SCHEMA, native=required(compiled))._scorer.dense
    num_dense, num_pooled = code._shapes
    given = torch.rand(8, num_dense), torch.rand(8, num_pooled)
    with pytest.raises(ValueError, match=says):
        code(*change(*given))


def test_tensors_that_are_not_contiguous_score_as_their_copies(compiled, folder):
    code = load(folder, SCHEMA, native=required(compiled))._scorer.dense
    num_dense, num_pooled = code._shapes
    dense, pooled = torch.rand(num_dense, 8).T, torch.rand(8, 2 * num_pooled)[:, ::2]
    expected = code(dense.clone(memory_format=torch.contiguous_format), pooled.contiguous())
    assert torch.equal(code(dense, pooled), expected)


def of_another_build(entry, **changes):
    note = json.loads((entry / aoti_cache.NOTE).read_text())
    note["stamp"] = {**note["stamp"], "git": "another", **changes}
    note["sha256"] = sha256(entry / aoti_cache.LIBRARY)
    (entry / aoti_cache.NOTE).write_text(json.dumps(note))


def test_code_of_another_build_serves_once_a_process_of_its_own_has_tried_it(copy, folder, caplog):
    (entry,) = copy.iterdir()
    of_another_build(entry)
    caplog.set_level("INFO", logger="training")
    assert load(folder, SCHEMA, native=required(copy)).is_native
    assert "'git': 'another'" in caplog.text
    assert json.loads((entry / aoti_cache.NOTE).read_text())["stamp"] == aoti_cache.stamp()


def test_code_that_ends_its_process_ends_no_server(copy, folder, tmp_path, caplog):
    source = tmp_path / "ends.cpp"
    source.write_text(
        "#include <cstdlib>\nstruct Ends { Ends() { std::abort(); } };\nstatic Ends ends;\n"
    )
    (entry,) = copy.iterdir()
    (entry / aoti_cache.LIBRARY).unlink()
    command = ["g++", "-shared", "-fPIC", str(source), "-o", str(entry / aoti_cache.LIBRARY)]
    subprocess.run(command, check=True)
    of_another_build(entry)
    loaded = load(folder, SCHEMA, native=automatic(copy))
    assert loaded.why_eager == "probe: ended by SIGABRT"
    assert "the dense part runs eager: probe: ended by SIGABRT" in caplog.text
    with pytest.raises(ArtifactError, match="no native code: probe: ended by SIGABRT"):
        load(folder, SCHEMA, native=required(copy))


def test_a_file_that_is_no_library_is_an_error_with_its_name(tmp_path, folder):
    nothing = tmp_path / "dense.so"
    nothing.write_bytes(b"no library")
    module = load(folder, SCHEMA)._scorer.dense
    with pytest.raises(NativeError, match=r"dense\.so: does not load: .*"):
        NativeDense(nothing, module)


def test_code_that_is_not_what_was_made_is_not_loaded(copy, folder, monkeypatch, caplog):
    monkeypatch.setenv("CXX", "no-such-compiler")
    package = next(copy.rglob("dense.so"))
    content = bytearray(package.read_bytes())
    content[len(content) // 2] ^= 1
    package.write_bytes(content)
    caplog.set_level("INFO", logger="training")
    loaded = load(folder, SCHEMA, native=automatic(copy))
    assert not loaded.is_native
    assert "no-such-compiler not found" in loaded.why_eager
    assert "dense.so: sha256" in caplog.text
    assert "the dense part runs eager" in caplog.text
    with pytest.raises(ArtifactError, match=r"no native code: compilation: .*no-such-compiler"):
        load(folder, SCHEMA, native=required(copy))


def test_code_with_other_numbers_does_not_serve(compiled, folder, monkeypatch):
    right = NativeDense.__call__
    monkeypatch.setattr(NativeDense, "__call__", lambda self, *x: right(self, *x) + 1e-4)
    loaded = load(folder, SCHEMA, native=automatic(compiled))
    assert "golden answer differs by 0.0001" in loaded.why_eager
    with pytest.raises(ArtifactError, match="golden answer differs"):
        load(folder, SCHEMA, native=required(compiled))


def test_export_reports_the_key_of_the_code_or_why_there_is_none(
    compiled, folder, tmp_path, monkeypatch
):
    (entry,) = compiled.iterdir()
    assert export.compiled(required(compiled), SCHEMA, folder) == entry.name
    monkeypatch.setenv("CXX", "no-such-compiler")
    nowhere = tmp_path / "nowhere"
    assert "no-such-compiler not found" in export.compiled(automatic(nowhere), SCHEMA, folder)
    with pytest.raises(NativeError, match="no-such-compiler not found"):
        export.compiled(required(nowhere), SCHEMA, folder)


def test_a_folder_that_others_may_write_is_not_used(copy, folder):
    copy.chmod(0o770)
    with pytest.raises(NativeError, match=r"mode 770; must be of user \d+, 700"):
        private_folder(copy)
    assert "mode 770" in load(folder, SCHEMA, native=automatic(copy)).why_eager


def test_no_code_comes_from_the_artifact(copy, folder, tmp_path):
    artifact = shutil.copytree(folder, tmp_path / "artifact")
    inside = shutil.copytree(copy, artifact / "compiled")
    link = tmp_path / "link"
    link.symlink_to(inside)
    for place in (inside, link):
        loaded = load(artifact, SCHEMA, native=automatic(place))
        assert "inside the artifact" in loaded.why_eager
