"""A Kubernetes API, and the commands for it."""

import json
from collections.abc import Iterator

import pytest
from support.cluster.served_api import served, write_kubeconfig
from support.serving.release.kubernetes_api import ApiServer
from support.serving.release.rollout_commands import CONTROL

from serving.__main__ import main
from serving.release.kserve import cluster


@pytest.fixture
def api() -> Iterator[ApiServer]:
    """The server, on loopback, in a thread; its ``address`` is where."""
    with served(ApiServer) as api:
        yield api


@pytest.fixture
def call(api, tmp_path, monkeypatch, capsys):
    """Run a command on the API; returns the exit code and the JSON object."""
    monkeypatch.setattr(cluster, "PAUSE_SECONDS", 0.01)
    (tmp_path / "token").write_text("first")
    path = tmp_path / "kubeconfig"
    write_kubeconfig(path, api.address, {"tokenFile": str(tmp_path / "token")})
    place = ["--service", "ranker", "--namespace", "ranking", "--kubeconfig", str(path)]

    def run(command, *arguments):
        code = main([command, *place, *arguments])
        return code, json.loads(capsys.readouterr().out.splitlines()[-1])

    return run


@pytest.fixture
def deploy(call):
    def run(*arguments):
        model = ["--version", CONTROL, "--storage-uri", "s3://models/old", "--image", "ranking:1"]
        return call(
            "deploy", *model, "--dataset", "synthetic", "--store-claim", "feast", *arguments
        )

    return run
