"""A load that outlasts its caller: what was given up is never taken up."""

import asyncio
import threading
import time

import pytest
from support.serving import stand_ins

from serving.inference import repository
from serving.inference.ranker import Ranker
from serving.inference.repository import ChampionRepository
from serving.protocol.errors import RequestError
from serving.release import endpoint_client
from serving.routing.serving_versions import Champion
from serving.routing.traffic_split import Share, read_shares, write_share
from training.artifact import aoti_cache
from training.registry.aliases import CANARY, CHAMPION

FIRST, SLOW = "2025-06-01-first", "2025-06-09-slow"


class World:
    """A registry, a ranker that has loaded the first version, and a slow one's release."""

    def __init__(self, folder):
        self.registry = stand_ins.FileRegistry(folder)
        self.registry.set_alias(CHAMPION, FIRST)
        self.release, self.begun = threading.Event(), threading.Event()
        store = stand_ins.StandInStore(stand_ins.SCHEMA, stand_ins.sample_rows())
        self.ranker = Ranker(stand_ins.SCHEMA, online=store)
        self.repository = ChampionRepository(
            self.ranker,
            champion_version=lambda: self.registry.alias(CHAMPION),
            load_champion=self.load,
            shares=lambda: read_shares(self.registry),
        )
        self.repository.load_now()

    def load(self, version):
        if version == SLOW:
            self.begun.set()
            assert self.release.wait(20)
        return Champion(version, stand_ins.score)

    def end(self):
        """Let the slow load end, and wait until its thread has nothing left to do."""
        self.release.set()
        self.repository._thread.submit(lambda: None).result(20)


@pytest.fixture
def world(tmp_path):
    opened = World(tmp_path)
    yield opened
    opened.end()


def test_a_load_that_takes_too_long_is_refused_and_its_model_never_serves(world, monkeypatch):
    monkeypatch.setattr(repository, "LOAD_SECONDS", 0.1)
    world.registry.set_alias(CHAMPION, SLOW)
    with pytest.raises(RequestError, match=r"load: 'not done'; within 0.1 seconds") as caught:
        asyncio.run(world.repository.load())
    assert caught.value.status == 409
    world.end()
    assert world.ranker.version == FIRST
    # The alias is still there: the next load takes it.
    asyncio.run(world.repository.load())
    assert world.ranker.version == SLOW


def test_a_canary_that_takes_too_long_never_gets_its_share(world, monkeypatch):
    monkeypatch.setattr(repository, "LOAD_SECONDS", 0.1)
    write_share(world.registry, CANARY, Share(version=SLOW, percent=5))
    with pytest.raises(RequestError, match="not done"):
        asyncio.run(world.repository.follow())
    world.end()
    assert world.ranker.versions.canary is None


def test_an_alias_that_goes_back_during_a_load_keeps_the_old_model(world):
    """Its client has gone, and the server does not know."""
    world.registry.set_alias(CHAMPION, SLOW)

    async def moved():
        load = asyncio.create_task(world.repository.load())
        assert await asyncio.to_thread(world.begun.wait, 20)
        world.registry.set_alias(CHAMPION, FIRST)
        world.release.set()
        await load

    with pytest.raises(RequestError, match="as when the load began; ask again") as caught:
        asyncio.run(moved())
    assert caught.value.status == 409
    assert world.ranker.version == FIRST


def test_a_share_that_is_taken_away_during_a_load_is_not_given(world):
    write_share(world.registry, CANARY, Share(version=SLOW, percent=5))

    async def taken():
        follow = asyncio.create_task(world.repository.follow())
        assert await asyncio.to_thread(world.begun.wait, 20)
        world.registry.set_alias(CANARY, None)
        world.release.set()
        await follow

    with pytest.raises(RequestError, match="ask again"):
        asyncio.run(taken())
    assert world.ranker.versions.canary is None


def test_a_caller_who_leaves_takes_the_load_along(world):
    world.registry.set_alias(CHAMPION, SLOW)

    async def left():
        load = asyncio.create_task(world.repository.load())
        assert await asyncio.to_thread(world.begun.wait, 20)
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)

    asyncio.run(left())
    world.end()
    assert world.ranker.version == FIRST


def test_a_load_that_waits_for_another_and_is_given_up_never_begins(world, monkeypatch):
    monkeypatch.setattr(repository, "LOAD_SECONDS", 0.2)
    loads = []
    world.registry.set_alias(CHAMPION, SLOW)

    async def both():
        first = asyncio.create_task(world.repository.load())
        assert await asyncio.to_thread(world.begun.wait, 20)
        monkeypatch.setattr(world.repository, "_load_champion", loads.append)
        second = asyncio.create_task(world.repository.load())
        return await asyncio.gather(first, second, return_exceptions=True)

    started = time.monotonic()
    assert all(isinstance(one, RequestError) for one in asyncio.run(both()))
    assert time.monotonic() - started < 10
    world.end()
    assert not loads


def test_a_client_waits_longer_than_the_server_and_the_server_than_three_compilations():
    compilations = 3 * aoti_cache.SECONDS_AT_LOAD
    assert compilations < endpoint_client.LOAD_SECONDS < endpoint_client.LOAD_TIMEOUT_SECONDS
