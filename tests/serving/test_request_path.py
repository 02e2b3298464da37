"""The way of a request through the modules of ``serving``, from socket to socket."""

import functools
import re
import threading
from collections.abc import Iterator

import fastapi
import httpx
import pytest
import uvicorn
from support.serving import good_requests, stand_ins
from support.serving.path_recorder import ROOT, PathRecorder
from support.serving.running_server import wait_until

from features.schema import Role
from serving.inference.ranker import Ranker
from serving.inference.repository import ChampionRepository
from serving.inference.served_models import ServedModels
from serving.lookup.item_cache import Items
from serving.lookup.snapshot import Snapshot
from serving.routing.serving_versions import Champion
from serving.settings import Settings, Store
from serving.transport.data_plane import RankingDataPlane
from serving.transport.http_protocol import HttpProtocol
from serving.transport.middleware import Gateway
from serving.transport.routes import Routes

MOST_MODULES = 16
RANKER = "serving.inference.ranker"
ASGI = {
    f"starlette -> serving.transport.middleware.{name}"
    for name in ("_Bounded.__call__", "_Answer.send")
}
"""How Starlette asks for a body and sends an answer through what stands around it."""
PARSER = {
    f"uvicorn -> serving.transport.http_protocol.HttpProtocol.on_{name}"
    for name in ("message_begin", "headers_complete", "message_complete")
}
"""How the parser says how far it is with what the connection has given it."""


@pytest.fixture(scope="module")
def recorded() -> Iterator[tuple[PathRecorder, str]]:
    """A server in this process, all of whose threads are watched, and its address."""
    settings = Settings(store=Store(max_seconds=20))
    store = stand_ins.StandInStore(stand_ins.SCHEMA, stand_ins.sample_rows())
    items = list("abcdef")
    snapshot = Snapshot.of(stand_ins.SCHEMA, items, store.read(Role.ITEM, items))
    ranker = Ranker(
        stand_ins.SCHEMA, online=store, items=lambda: Items(snapshot), settings=settings
    )
    ranker.swap(Champion("v", stand_ins.score))
    repository = ChampionRepository(
        ranker,
        champion_version=lambda: "v",
        load_champion=lambda version: Champion(version, stand_ins.score),
    )
    app = fastapi.FastAPI()
    models = ServedModels([repository], ranker.admission)
    Routes(dataplane=RankingDataPlane(models), models=models, settings=settings).register(app)
    app.add_middleware(Gateway, settings=settings)
    protocol = functools.partial(HttpProtocol, limits=settings.limits)
    config = uvicorn.Config(app, port=0, lifespan="off", http=protocol, log_level="warning")
    server, recorder = uvicorn.Server(config), PathRecorder()
    with recorder.watching_new_threads():
        thread = threading.Thread(target=server.run)
        thread.start()
        wait_until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield recorder, f"http://127.0.0.1:{port}"
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def way(recorded):
    """What the fourth of four requests did: the first ones start threads."""
    recorder, url = recorded
    with httpx.Client(base_url=url) as client:
        for number in range(4):
            recorder.is_on = number == 3
            answer = client.post("/v2/models/stand-in/infer", json=good_requests.body())
            assert good_requests.flags(answer.json()["parameters"]) == {"degraded": False}
        recorder.is_on = False
    return recorder


def test_a_request_goes_through_few_modules_and_enters_the_ranker_once(way):
    assert len(way.of("serving")) <= MOST_MODULES, way.report()
    assert way.entered[RANKER] == 1, way.report()


def test_only_the_http_server_calls_back_what_has_not_ended(way):
    assert set(way.called_back) <= ASGI | PARSER, way.report()


def test_the_page_on_the_architecture_names_the_modules_in_this_order(way):
    page = (ROOT / "docs" / "architecture.md").read_text().partition("### A request")[2]
    named = re.findall(r"^\d+\. `(\S+)`", page.partition("\n## ")[0], re.MULTILINE)
    assert [f"serving.{name.replace('/', '.')}" for name in named] == way.of("serving"), (
        way.report()
    )
