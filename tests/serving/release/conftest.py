"""A live endpoint, and the commands for it."""

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from support.serving.release.live_versions import Live
from support.serving.running_server import started

from infra.drills import fixtures
from infra.local.servers import free_ports
from serving.__main__ import main
from serving.routing.traffic_split import clear_share
from training.registry.aliases import CANARY


@pytest.fixture(scope="package")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Four versions and the endpoint on them; it starts once for all files of this folder."""
    ports = free_ports(2)
    world = fixtures.build(tmp_path_factory.mktemp("world"), num_versions=4)
    opened = Live(world, *ports)
    command = ["-m", "serving", "serve", f"--dataset={fixtures.SCHEMA.name}"]
    command += world.flags("store", "artifacts", "tracking")
    command += [f"--http-port={ports[0]}", f"--grpc-port={ports[1]}"]
    # Versions are told apart by whole answers: a read of the store may be late on a busy machine.
    environment = {"RANKING_VAR": str(world.root), "RANKING_STORE_SECONDS": "20"}
    environment = {**os.environ, **environment}
    with (
        httpx.Client(base_url=opened.url) as http,
        started(command, environment, log=world.root / "server.log", http=http),
    ):
        opened.learn()
        yield opened


@pytest.fixture
def first_version(live: Live) -> None:
    """A test begins with the first version alone, and with no history."""
    clear_share(live.world.registry, CANARY)
    for version in live.world.versions:
        for tag in ("previous_champion", "rolled_back"):
            live.world.registry.set_tag(version, tag, None)
    live.swap(live.world.versions[0])


@pytest.fixture
def command_line(live: Live, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run a command on the world; returns the exit code and the JSON object."""

    def run(command: str, *arguments: str) -> Any:
        names = {"rollback": ("artifacts", "tracking"), "shadow": ("tracking",)}
        folders = live.world.flags(*names.get(command, ("tracking", "reports")))
        where = [f"--dataset={fixtures.SCHEMA.name}", f"--endpoint={live.url}", *folders]
        code = main([command, *where, *arguments])
        return code, json.loads(capsys.readouterr().out.splitlines()[-1])

    return run
