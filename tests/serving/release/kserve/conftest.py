"""A Kubernetes API, and the commands for it."""

import asyncio
import json
import threading
from collections.abc import Iterator

import pytest
import yaml
from kmock import Server
from support.serving.release.kubernetes_api import ApiServer
from support.serving.release.rollout_commands import CONTROL

from serving.__main__ import main
from serving.release.kserve import cluster


@pytest.fixture
def api() -> Iterator[ApiServer]:
    """The server, on loopback, in a thread; its ``address`` is where."""
    started, ended = threading.Event(), threading.Event()
    held: list[ApiServer] = []

    async def serve() -> None:
        async with ApiServer() as handler, Server(handler):
            handler.start()
            handler.address = str(handler.url).rstrip("/")
            held.append(handler)
            started.set()
            await asyncio.to_thread(ended.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(10)
    yield held[0]
    ended.set()
    thread.join(10)


@pytest.fixture
def call(api, tmp_path, monkeypatch, capsys):
    """Run a command on the API; returns the exit code and the JSON object."""
    monkeypatch.setattr(cluster, "PAUSE_SECONDS", 0.01)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": api.address}}],
        "users": [{"name": "me", "user": {"tokenFile": str(tmp_path / "token")}}],
    }
    (tmp_path / "token").write_text("first")
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
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
