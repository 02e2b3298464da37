"""Two workers on the endpoint's ports: real processes, under load."""

import contextlib
import re
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import grpc
import psutil
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as service
from support.serving.release.live_versions import (
    BODIES,
    Live,
    ask,
    check,
    grpc_message,
    grpc_scores,
    load_of,
    scores,
)
from support.serving.release.spoilt_artifacts import missing_weights
from support.serving.running_server import plain_client, wait_until

from infra.drills import fixtures
from infra.local.servers import free_ports
from serving.release.endpoint_client import EndpointError
from serving.routing.traffic_split import Share, clear_share, write_share
from training.registry.aliases import CANARY

pytestmark = pytest.mark.process
CONNECTIONS = 20
"""So many that the kernel gives each of two workers some, but once in 500,000 tries."""
START_SECONDS = 120.0


class TwoWorkers(Live):
    """A world with the endpoint on it."""

    def __init__(self, world, ports, process, *, metrics_port, log):
        super().__init__(world, *ports)
        self.ports, self.process, self.log = ports, process, log
        self.metrics_url = f"http://127.0.0.1:{metrics_port}"

    def workers(self):
        """The workers that listen on both ports."""
        children = psutil.Process(self.process.pid).children()
        return [one for one in children if set(self.ports) <= set(_ports(one, psutil.CONN_LISTEN))]

    def versions_over_new_connections(self):
        with contextlib.ExitStack() as stack:
            new = [plain_client(base_url=self.url, timeout=30) for _ in range(CONNECTIONS)]
            return {scores(ask(stack.enter_context(http), BODIES[0]))[0] for http in new}

    def metric(self, name, of="", *, url=""):
        """The sum of a metric's series, of those with a text among their labels."""
        with plain_client(base_url=url or self.url, timeout=30) as http:
            text = http.get("/metrics").text
        series = re.findall(rf"^{name}(\{{.*\}})? (\S+)$", text, re.MULTILINE)
        return sum(float(value) for labels, value in series if of in labels)


def _ports(process, status):
    with contextlib.suppress(psutil.NoSuchProcess):
        return [c.laddr.port for c in process.net_connections("tcp") if c.status == status]
    return []


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two-workers")
    world = fixtures.build(folder, num_versions=2)
    environment = {"RANKING_WORKERS": "2", "RANKING_STORE_SECONDS": "20", "RANKING_COMPILE": "off"}
    (metrics_port,) = free_ports(1)
    own, log = f"--metrics-port={metrics_port}", folder / "server.log"
    serving = fixtures.serving(world, own, log=log, environment=environment)
    with serving as (*ports, process):
        opened = TwoWorkers(world, tuple(ports), process, metrics_port=metrics_port, log=log)
        opened.learn()
        opened.swap(world.versions[0])
        yield opened


def test_a_ready_server_has_both_workers_on_both_ports_and_both_answer(live):
    assert len(live.workers()) == 2
    options = [("grpc.use_local_subchannel_pool", 1)]
    with contextlib.ExitStack() as stack:
        seen = []
        for _ in range(CONNECTIONS):
            http = stack.enter_context(plain_client(base_url=live.url))
            channel = stack.enter_context(grpc.insecure_channel(live.grpc_address, options))
            infer = service.GRPCInferenceServiceStub(channel).ModelInfer
            seen.append((0, *scores(ask(http, BODIES[0]))))
            seen.append((0, *grpc_scores(infer(grpc_message(BODIES[0]), timeout=30))))
        for worker in live.workers():
            answering = Counter(_ports(worker, psutil.CONN_ESTABLISHED))
            assert all(answering[port] for port in live.ports)
    check(live, seen)


def test_under_load_no_request_fails_and_none_has_the_old_version_once_a_swap_is_acknowledged(live):
    first, second = live.world.versions
    with load_of(live) as seen:
        for version in (second, first, second, first):
            live.swap(version)
            assert live.versions_over_new_connections() == {version}
    check(live, seen)
    assert {version for _, version, _ in seen} == {first, second}


def test_a_share_set_by_one_worker_is_every_workers_and_a_bad_version_changes_none(live):
    first, second = live.world.versions
    live.swap(first)
    write_share(live.world.registry, CANARY, Share(version=second, percent=100))
    live.endpoint.follow()
    assert live.versions_over_new_connections() == {second}
    clear_share(live.world.registry, CANARY)
    live.endpoint.follow()
    missing_weights(live.world.artifacts / second)
    with pytest.raises(EndpointError, match=f"409; .*sha256 no file.*{first} stays loaded"):
        live.swap(second)
    assert live.versions_over_new_connections() == {first}
    live.swap(first)


def test_counters_of_all_workers_add_up_and_a_version_is_shown_once(live):
    version = live.world.versions[0]
    before = live.metric("ranking_answers_total", of=version)
    assert live.versions_over_new_connections() == {version}
    assert live.metric("ranking_answers_total", of=version) == before + CONNECTIONS
    assert live.metric("ranking_model_version") == 1
    assert live.metric("ranking_items_rows") == fixtures.NUM_ITEMS
    assert live.metric("ranking_workers") == 2
    assert live.metric("ranking_loads_total") > 2
    # The port without a token, by which a canary reads its pods, is the supervisor's.
    for name in ("answers_total", "model_version", "items_rows", "workers", "loads_total"):
        name = f"ranking_{name}"
        assert live.metric(name, url=live.metrics_url) == live.metric(name), name


def test_items_and_tables_are_in_memory_once(live):
    """Whoever maps them, nobody has pages of his own."""
    pids = [live.process.pid, *(worker.pid for worker in live.workers())]
    supervisor, first, second = (_mapped(pid) for pid in pids)
    # The items and the champion, at least: a thread may still hold a version that has left.
    assert len(supervisor.keys() & first.keys() & second.keys()) >= 2
    assert {*supervisor.values(), *first.values(), *second.values()} == {0}


def _has_ended(process):
    """Whether its last thread has: its sockets outlive the list that psutil reads, and the first
    thread, by which it is called a zombie.
    """
    try:
        return process.status() == psutil.STATUS_ZOMBIE and process.num_threads() == 1
    except psutil.NoSuchProcess:
        return True


def _mapped(pid):
    """Kilobytes that a process has copied of each memory that it shares, by its number."""
    found, inode = Counter(), None
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        fields = line.split()
        if re.match(r"[0-9a-f]+-[0-9a-f]+$", fields[0]):
            inode = fields[4] if "memfd:ranking (deleted)" in line else None
            if inode:
                assert fields[1] == "r--s"
                found[inode] += 0
        elif inode and fields[0] == "Anonymous:":
            found[inode] += int(fields[1])
    return found


def test_a_worker_that_is_killed_is_replaced_and_the_other_one_answers_meanwhile(live):
    version = live.world.versions[0]
    # Series of a version that has left are there as long as anything in the worker refers to it.
    answered = live.metric("ranking_answers_total", of=version)
    killed, other = live.workers()
    killed.kill()
    wait_until(lambda: _has_ended(killed))
    num_asked = 0
    while live.workers() in ([], [other]):
        assert live.versions_over_new_connections() == {version}
        num_asked += CONNECTIONS
        time.sleep(0.1)
    assert num_asked
    waited = {"seconds": START_SECONDS, "pause_seconds": 0.2}
    wait_until(lambda: live.metric("ranking_workers") == 2, **waited)
    assert live.versions_over_new_connections() == {version}
    assert live.metric("ranking_worker_restarts_total") == 1
    assert f"worker {killed.pid}: ended unasked: SIGKILL" in live.log.read_text()
    found = live.metric("ranking_answers_total", of=version)
    assert found == answered + num_asked + CONNECTIONS


def test_sigterm_ends_all_of_them_and_nothing_is_left_in_files(live):
    workers, http_port = live.workers(), live.ports[0]
    live.process.send_signal(signal.SIGTERM)
    assert live.process.wait(60) == 0
    assert not [one for one in workers if one.is_running()]
    listed = subprocess.run(["ls", "/tmp", "/dev/shm"], capture_output=True, text=True, check=True)
    assert f"-{http_port}-" not in listed.stdout
