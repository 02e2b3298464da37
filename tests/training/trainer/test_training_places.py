"""A day of training with its data in an object store, and no secret in what it says or leaves."""

import json
from pathlib import Path

import pytest
from support import forks

from features.places import place
from training.artifact.artifact import load
from training.registry.mlflow_registry import Registry

pytestmark = pytest.mark.distributed


@pytest.fixture
def said(built, tmp_path, object_store, monkeypatch):
    """Runs a command with data below a prefix of a bucket; returns its summary and all it said."""
    monkeypatch.setenv("RANKING_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("RANKING_ROOT", f"{object_store.uri}/{tmp_path.name}")

    def run(command, *arguments, code=0):
        lake = () if command == "family" else (f"--lake={built.lake}",)
        done = forks.run(["-m", "training", command, "--dataset=synthetic", *lake, *arguments])
        text = done.stdout + done.stderr
        assert done.returncode == code, text[-3000:]
        return json.loads(done.stdout.splitlines()[-1]), text

    return run


def test_two_ranks_train_export_and_pass_the_gate_below_one_root(
    built, said, object_store, tmp_path
):
    root, var = place(f"{object_store.uri}/{tmp_path.name}"), tmp_path / "var"
    day, through = f"--date={built.days[-1]}", str(built.days[-2])
    trained, *texts = said("train", day, "--recipe=wukong-tiny", "--checkpoint-steps=20")
    exported, text = said("export", day)
    texts.append(text)
    decided, text = said("evaluate", day, "--first")
    texts.append(text)
    wrong, text = said("export", "--checkpoint=2024-01-01", code=1)
    texts.append(text)
    family, text = said("family")
    texts.append(text)

    assert trained["checkpoint"] == str(root / "checkpoints" / "synthetic" / str(built.days[-1]))
    assert trained["trained_through"] == through
    assert (decided["candidate"], decided["decision"]) == (exported["version"], "promote")
    assert [member["versions"] for member in family["members"]] == [[exported["version"]]]
    assert f"not in {root / 'checkpoints' / 'synthetic'}; there are" in wrong["error"]
    reports = root / "reports" / "synthetic"
    decision = reports / "gate" / str(built.days[-1]) / "decision.json"
    assert json.loads(decision.read_text())["decision"] == "promote"
    assert (reports / "training" / trained["name"] / "index.html").exists()
    assert (reports / "family" / "index.html").exists()
    registry = Registry(var / "mlflow", "synthetic")
    assert registry._find(exported["version"]).source == exported["artifact"]
    assert load(place(exported["artifact"]), built.schema).manifest.checkpoint == trained["name"]
    assert {path.name for path in var.iterdir()} <= {"mlflow", "compiled", "loading"}

    secrets = [object_store.environment[f"AWS_{n}"] for n in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")]
    left = [root.fs.cat_file(path) for path in root.fs.find(root.path)]
    left += [path.read_bytes() for path in Path(var).rglob("*") if path.is_file()]
    assert len(left) > 10
    for secret in secrets:
        assert not any(secret in text for text in texts)
        assert not any(secret.encode() in content for content in left)
