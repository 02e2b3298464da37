"""One server of the command line with two data sets: in one process, and in two workers."""

import concurrent.futures
import contextlib
import shutil
import threading

import psutil
import pytest
from support.serving.release.spoilt_artifacts import missing_weights
from support.serving.running_server import plain_client, wait_until

from features.datasets.catalog import schema_of
from infra.drills import fixtures
from serving.release.endpoint_client import Endpoint, EndpointError
from training.registry.aliases import CHAMPION

pytestmark = pytest.mark.process
NAMES = ("synthetic", "movielens-100k")
CONNECTIONS = 20
"""So many that the kernel gives each of two workers some, but once in 500,000 tries."""
START_SECONDS = 120.0


class Server:
    """The endpoint on two worlds of one folder."""

    def __init__(self, worlds, http_port, process, num_workers):
        self.worlds = worlds
        self.url = f"http://127.0.0.1:{http_port}"
        self.process, self.num_workers = process, num_workers
        self.endpoints = {name: Endpoint(self.url, name) for name in worlds}

    def swap(self, name, version):
        self.worlds[name].registry.set_alias(CHAMPION, version)
        self.endpoints[name].load()

    def answers(self, name):
        """What each of several new connections gets: versions and scores."""
        with contextlib.ExitStack() as stack:
            new = [stack.enter_context(plain_client(timeout=30)) for _ in range(CONNECTIONS)]
            return {answer(http, self.url, name) for http in new}

    def workers(self):
        return psutil.Process(self.process.pid).children()

    def ready(self):
        return self.get("/v2/health/ready").json()

    def get(self, path):
        with plain_client(base_url=self.url, timeout=30) as http:
            return http.get(path)


def answer(http, url, name):
    inputs = [
        {"name": "user_id", "shape": [1], "datatype": "INT64", "data": [7]},
        {"name": "item_id", "shape": [3], "datatype": "INT64", "data": [1, 2, 3]},
        {"name": "timestamp", "shape": [1], "datatype": "INT64", "data": [moment()]},
    ]
    found = http.post(f"{url}/v2/models/{name}/infer", json={"inputs": inputs})
    content = found.raise_for_status().json()
    (scores,) = [one["data"] for one in content["outputs"] if one["name"] == "score"]
    assert content["model_name"] == name
    return content["model_version"], tuple(round(score, 5) for score in scores)


def moment():
    return int(fixtures.NOON.timestamp() * 1_000_000)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """Of both data sets, in one folder."""
    folder = tmp_path_factory.mktemp("worlds")
    return {name: fixtures.build(folder, num_versions=2, schema=schema_of(name)) for name in NAMES}


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two workers"])
def two(request, worlds, tmp_path_factory):
    """Started while the champion of the second data set cannot be loaded."""
    first, second = (worlds[name] for name in NAMES)
    good = second.artifacts / second.versions[0]
    kept = tmp_path_factory.mktemp("kept") / "artifact"
    shutil.copytree(good, kept)
    missing_weights(good)
    for world in worlds.values():
        world.registry.set_alias(CHAMPION, world.versions[0])
    environment = {"RANKING_WORKERS": str(request.param), "RANKING_STORE_SECONDS": "20"}
    environment |= {"RANKING_COMPILE": "off"}
    log = kept.parent / "server.log"
    flags = f"--dataset={second.schema.name}"
    with fixtures.serving(first, flags, log=log, environment=environment) as (
        http_port,
        _,
        process,
    ):
        opened = Server(worlds, http_port, process, request.param)
        opened.at_start = opened.ready()
        opened.error_at_start = opened.get(f"/v2/models/{NAMES[1]}/ready").text
        shutil.rmtree(good)
        shutil.copytree(kept, good)
        opened.swap(NAMES[1], second.versions[0])
        yield opened


@pytest.fixture
def in_workers(two):
    """Where the processes must agree; what one process does, test_several_models.py shows."""
    if two.num_workers == 1:
        pytest.skip("one process")
    return two


def test_a_champion_that_cannot_be_loaded_leaves_the_other_model_ready(two):
    assert two.at_start == {"ready": True, "models": {NAMES[0]: True, NAMES[1]: False}}
    assert "not ready: champion" in two.error_at_start
    assert two.ready()["models"] == dict.fromkeys(NAMES, True)


def test_each_model_has_one_version_in_all_processes_and_scores_of_its_own(two):
    found = {name: two.answers(name) for name in NAMES}
    for name in NAMES:
        ((version, scores),) = found[name]
        assert version == two.worlds[name].versions[0]
        assert len(set(scores)) == 3
    assert len(set.union(*found.values())) == 2


def test_one_swaps_in_all_processes_while_the_other_one_answers_as_before(in_workers):
    two, (name, other) = in_workers, NAMES
    before, is_over, seen = two.answers(other), threading.Event(), []

    def ask():
        with plain_client(timeout=30) as http:
            while not is_over.is_set():
                seen.append(answer(http, two.url, other))

    first, second = two.worlds[name].versions
    of_first = two.answers(name)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        try:
            two.swap(name, second)
            ((version, _),) = of_second = two.answers(name)
            assert (version, of_first & of_second) == (second, set())
            two.swap(name, first)
            assert two.answers(name) == of_first
        finally:
            is_over.set()
        for one in asking:
            one.result(60)
    assert set(seen) == before


def test_a_version_that_cannot_be_loaded_changes_neither_model(in_workers, tmp_path):
    two, (name, other) = in_workers, NAMES
    world = two.worlds[name]
    before = {one: two.answers(one) for one in NAMES}
    spoilt = world.artifacts / world.versions[1]
    shutil.copytree(spoilt, tmp_path / "kept")
    missing_weights(spoilt)
    with pytest.raises(EndpointError, match=f"409; .*{world.versions[0]} stays loaded"):
        two.swap(name, world.versions[1])
    world.registry.set_alias(CHAMPION, world.versions[0])
    shutil.rmtree(spoilt)
    shutil.copytree(tmp_path / "kept", spoilt)
    assert {one: two.answers(one) for one in NAMES} == before
    two.swap(other, two.worlds[other].versions[1])
    ((version, _),) = two.answers(other)
    assert version == two.worlds[other].versions[1]
    two.swap(other, two.worlds[other].versions[0])


def test_items_and_versions_are_counted_of_each_model(two):
    text = two.get("/metrics").text
    for name in NAMES:
        assert f'ranking_items_rows{{model="{name}"}} {fixtures.NUM_ITEMS}.0' in text
        assert f'ranking_model_ready{{model="{name}"}} 1.0' in text
        version = two.worlds[name].versions[0]
        assert f'ranking_model_version{{model="{name}",version="{version}"}} 1.0' in text
        assert f'ranking_answers_total{{model="{name}",version="{version}"}}' in text


def test_a_worker_that_is_replaced_has_both_models(two):
    if two.num_workers == 1:
        assert two.workers() == []
        return
    before = {name: two.answers(name) for name in NAMES}
    killed = two.workers()[0]
    killed.kill()
    killed.wait(30)

    def is_back():
        text = two.get("/metrics").text
        return "ranking_workers 2.0" in text and killed.pid not in {
            one.pid for one in two.workers()
        }

    wait_until(is_back, seconds=START_SECONDS, pause_seconds=0.2)
    assert {name: two.answers(name) for name in NAMES} == before
    assert two.ready()["models"] == dict.fromkeys(NAMES, True)
