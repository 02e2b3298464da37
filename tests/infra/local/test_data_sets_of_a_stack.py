"""A stack of several data sets: which they are, and what each has for itself."""

from urllib.error import HTTPError

import pytest
import yaml

from features.datasets.schema_files.discovery import BUILT_IN
from infra.local import airflow_client, stack
from infra.local.servers import free_ports
from infra.local.settings import (
    Settings,
    airflow_environment,
    job_environment,
    name_data_sets,
)
from serving.__main__ import command_line


def test_each_data_set_has_a_push_and_its_port(tmp_path, monkeypatch) -> None:
    """Users of one data set must not wait for those of another."""
    monkeypatch.delenv("RANKING_PUSH", raising=False)
    port = free_ports(1)[0]
    settings = Settings(
        var=tmp_path, datasets="synthetic,open-bandit,movielens-100k", push_port=port
    )
    one, started = stack.Stack(settings), {}
    monkeypatch.setattr(
        one.processes, "start", lambda name, command, *_: started.update({name: command})
    )
    one.start_pushes()
    assert [*started] == ["push-synthetic", "push-movielens-100k"]
    assert "--dataset=movielens-100k" in started["push-movielens-100k"]
    assert [push.port for push in one.pushes.values()] == [port, port + 2]
    assert f"--metrics-port={port + 2}" in started["push-movielens-100k"]


def test_a_folder_of_schema_files_names_the_data_sets(tmp_path, monkeypatch) -> None:
    for name in ("RANKING_SCHEMAS", "RANKING_DATASETS"):
        monkeypatch.setenv(name, "")
    for file in ("shop.yaml", "my-films.yml", "notes.txt"):
        (tmp_path / file).write_text("")
    name_data_sets(tmp_path)
    settings = Settings.from_environment()
    assert (settings.names, settings.dataset) == (["my-films", "shop"], "my-films")
    assert job_environment(settings)["RANKING_SCHEMAS"] == str(tmp_path)
    assert airflow_environment(settings)["RANKING_DATASETS"] == "my-films,shop"
    for wrong in (tmp_path / "shop.yaml", tmp_path / "none"):
        with pytest.raises(ValueError, match=r"--schemas .*: no folder with schema files \("):
            name_data_sets(wrong)


def test_a_schema_file_in_python_is_written_out_before_airflow_starts(
    tmp_path, monkeypatch
) -> None:
    """DAG files do not run it."""
    for name in ("RANKING_SCHEMAS", "RANKING_DATASETS"):
        monkeypatch.setenv(name, "")
    built_in = yaml.safe_load((BUILT_IN / "synthetic.yaml").read_text())
    (tmp_path / "shop.py").write_text(
        f"import datetime\nSCHEMA_FILE = {built_in | {'name': 'shop'}!r}\n"
    )
    name_data_sets(tmp_path)
    settings = Settings.from_environment().model_copy(update={"var": tmp_path / "var"})
    assert settings.names == ["shop"]
    written = tmp_path / "shop.py.yaml"
    there_at_start = []
    monkeypatch.setattr(stack, "run", lambda *_: there_at_start.append(written.exists()))
    monkeypatch.setattr(stack, "require_free_port", lambda *_: None)
    one = stack.Stack(settings)
    monkeypatch.setattr(one.processes, "start", lambda *_: None)
    one.start_airflow()
    assert there_at_start == [True]
    name_data_sets(tmp_path)
    assert Settings.from_environment().names == ["shop"]


@pytest.mark.parametrize(("datasets", "slots"), [("synthetic", 2), ("synthetic,open-bandit", 1)])
def test_each_data_set_has_a_pool_and_both_cores_have_work(
    tmp_path, monkeypatch, datasets, slots
) -> None:
    """One that is there gets its slots: there may be more data sets than before."""
    settings, called = Settings(var=tmp_path, datasets=datasets), []

    def call(url, *, method="GET", body=None):
        called.append((method, url.rpartition("/")[2], body))
        if method == "POST" and body["name"].endswith("open-bandit"):
            raise HTTPError(url, 409, "there", None, None)

    monkeypatch.setattr(airflow_client, "call", call)
    monkeypatch.setattr(stack.Stack, "_is_airflow_healthy", lambda _: True)
    stack.Stack(settings).wait_for_airflow()
    assert called[0] == ("POST", "pools", {"name": "ranking_synthetic", "slots": slots})
    patched = ("PATCH", "ranking_open-bandit?update_mask=slots", {"slots": slots})
    assert called[2:] == [patched] * (len(settings.names) - 1)
    pool = airflow_environment(settings)["RANKING_POOL"]
    assert pool.replace("{dataset}", "synthetic") == "ranking_synthetic"


def test_the_endpoint_serves_every_data_set(tmp_path, monkeypatch) -> None:
    settings = Settings(var=tmp_path, datasets="synthetic,open-bandit", http_port=0, grpc_port=0)
    one, started = stack.Stack(settings), {}
    monkeypatch.setattr(
        one.processes, "start", lambda name, command, *_: started.update({name: command})
    )
    one.start_endpoint()
    flags = started["endpoint"][4:]
    request = command_line().parser.parse_args(["serve", *flags])
    assert request.datasets == ["synthetic", "open-bandit"]
    there = "http://127.0.0.1:0/v2/models/open-bandit/ready"
    monkeypatch.setattr(stack, "answers", lambda url: url == there)
    assert [one.has_model(name) for name in settings.names] == [False, True]


def test_a_data_set_that_the_store_does_not_know_is_registered_first(tmp_path, monkeypatch) -> None:
    """Else the endpoint would end at once, and with it a stack that has just been set up."""
    monkeypatch.delenv("RANKING_REGISTRY", raising=False)
    known = tmp_path / "feast" / "synthetic" / "registry.db"
    known.parent.mkdir(parents=True)
    known.touch()
    commands = []
    monkeypatch.setattr(stack, "run", lambda command, *_: commands.append(command[1:]))
    stack.Stack(Settings(var=tmp_path, datasets="synthetic,open-bandit")).apply_new()
    (command,) = commands
    assert command[:4] == ["-m", "features", "apply", "--dataset=open-bandit"]
    monkeypatch.setenv("RANKING_REGISTRY", "postgresql://there/feast")
    stack.Stack(Settings(var=tmp_path, datasets="open-bandit")).apply_new()
    assert len(commands) == 1
