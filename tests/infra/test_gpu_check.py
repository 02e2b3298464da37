"""The check of a GPU, which runs on a CPU in a small form."""

import json
import sys

import pytest
from support import forks

from infra.bench.training import gpu_check

MODULE = ["-m", "infra.bench.training.gpu_check"]


@pytest.mark.process
def test_all_checks_pass_on_a_cpu_and_are_on_a_page(tmp_path):
    done = forks.run([*MODULE, "--device=cpu", f"--reports={tmp_path}"])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["passed"]
    assert found == json.loads((tmp_path / "gpu-check.json").read_text())
    exact = {c["check"]: c["found"] for c in found["checks"] if c["limit"] == 0}
    assert len(exact) == 5
    assert set(exact.values()) == {0.0}
    assert all(0 < way["share_of_product"] < 1 for way in found["ways"].values())
    page = (tmp_path / "gpu-check.html").read_text()
    assert "weights of a resumed run" in page
    assert "samples/s" in page


def test_without_a_gpu_it_says_what_it_needs(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(gpu_check, "num_cuda_devices", lambda: 0)
    monkeypatch.setattr(sys, "argv", ["gpu_check", f"--reports={tmp_path}"])
    assert gpu_check.main() == 2
    assert "make install ACCELERATOR=cuda" in capsys.readouterr().err


def test_a_check_fails_beyond_its_limit_or_where_it_is_no_number():
    one = {
        "device": "NVIDIA H200",
        "first_tables": "a",
        "losses": [1.0],
        "scores": [0.5],
        "resumed": 0.0,
        "exported": 0.0,
        "peak_bytes": 3,
        "planned_bytes": 1,
    }
    ways = {way: dict(one) for way in gpu_check.WAYS}
    ways["cpu"] |= {"device": "cpu"}
    ways["float32"] |= {"first_tables": "b", "losses": [float("nan")]}
    failed = [c["check"] for c in gpu_check.judge(ways, "cuda") if not c["passed"]]
    assert [name for name in failed if "memory" not in name] == [
        "first values of tables: bits that differ from the CPU's",
        "float32: loss, relative to the CPU's",
    ]
    assert len(failed) == 6
