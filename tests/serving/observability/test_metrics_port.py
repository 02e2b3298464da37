"""A port for metrics alone: no token, and TLS where the server has it."""

import ssl
from types import SimpleNamespace

import httpx
import psutil
import pytest
from support.serving.certificates import Certificates, make

from infra.local.servers import free_ports
from serving.__main__ import main
from serving.observability.metrics_port import open_port
from serving.settings import Tls


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make(tmp_path_factory.mktemp("certificates"))


def test_the_server_has_its_metrics_there_while_it_runs(monkeypatch, capsys):
    (port,) = free_ports(1)
    texts = []

    def start():
        texts.append(httpx.get(f"http://127.0.0.1:{port}/metrics").text)

    running = SimpleNamespace(start=start, models=SimpleNamespace(versions={"synthetic": "v"}))
    monkeypatch.setattr("serving.processes.single.open_server", lambda *_, **__: running)
    monkeypatch.setenv("RANKING_TOKEN", "a-token-of-sixteen-characters")
    assert main(["serve", "--dataset", "synthetic", "--metrics-port", str(port)]) == 0
    assert "ranking_version_requests_total" in texts[0]
    with pytest.raises(httpx.ConnectError):
        start()


def test_it_speaks_tls_where_the_server_does_and_asks_for_no_certificate(certificates):
    (port,) = free_ports(1)
    tls = Tls(certificate=certificates.server, key=certificates.server_key)
    trusted = ssl.create_default_context(cafile=certificates.authority)
    with open_port("127.0.0.1", port, tls=tls):
        answer = httpx.get(f"https://127.0.0.1:{port}/metrics", verify=trusted)
        assert answer.status_code == 200
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://127.0.0.1:{port}/metrics")


def test_without_a_port_nothing_listens():
    def listening():
        found = psutil.Process().net_connections("tcp")
        return {one.laddr for one in found if one.status == psutil.CONN_LISTEN}

    before = listening()
    with open_port("127.0.0.1", None, tls=Tls()):
        assert listening() == before
