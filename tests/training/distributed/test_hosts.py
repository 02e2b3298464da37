"""Hosts of one training find one another by the environment, and one that is lost may come back."""

import json
import os
import socket
from pathlib import Path

import pytest
from support import forks
from support.training.commands import run_script

from features.places import place
from infra.drills.namespaces import Namespaces
from training.checkpoint.catalog import Checkpoints
from training.distributed.hosts import Hosts, Waiting, interface_of

SHORT_DRILL = Path(__file__).parents[2] / "support" / "training" / "short_drill.py"
FAILING = """
import os
if os.environ.get("RANK") and os.environ["PET_NODE_RANK"] == "1":
    import training.trainer.loop
    real = training.trainer.loop.batches

    def batches(*arguments, **options):
        for number, batch in enumerate(real(*arguments, **options)):
            if number == 5:
                raise ValueError("page 7 is cut off")
            yield batch

    training.trainer.loop.batches = batches
"""
TWO = {"PET_NNODES": "2", "PET_MASTER_ADDR": "127.0.0.1", "RANKING_RUN": "daily/2025-01-06"}
LOST = {"RANKING_LOST_SECONDS": "120"}


@pytest.mark.distributed
@pytest.mark.process
def test_a_host_that_is_killed_comes_back_and_the_bits_are_those_of_one_host(built, tmp_path):
    """The drill itself, short: two network namespaces, and SIGKILL for all that runs in one."""
    try:
        with Namespaces().joined():
            pass
    except PermissionError as error:
        pytest.skip(str(error))
    outcome = run_script(SHORT_DRILL, "hosts", built.lake, tmp_path)
    assert outcome["errors"] == []
    assert outcome["is_equal"] is True


@pytest.fixture
def on_both(built, tmp_path, object_store):
    """Trains a day on two hosts at once, on one loopback, each with a disk of its own."""

    def train(**environment: str) -> list[tuple[int, dict]]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        shared = {**os.environ, **TWO, **LOST, "PET_MASTER_PORT": port, "PET_NPROC_PER_NODE": "1"}
        shared |= {"RANKING_ROOT": f"{object_store.uri}/{tmp_path.name}", **environment}
        own = [
            {**shared, "PET_NODE_RANK": str(number), "RANKING_VAR": str(tmp_path / f"var-{number}")}
            for number in range(2)
        ]
        flags = [f"--lake={built.lake}", f"--date={built.days[-1]}", "--recipe=wukong-tiny"]
        command = ["-m", "training", "train", "--dataset=synthetic", *flags]
        files = [tmp_path / f"{port}-{number}" for number in range(2)]
        started = [
            forks.start(command, one, stdout=file, stderr=file.with_suffix(".log"))
            for one, file in zip(own, files, strict=True)
        ]
        for process in started:
            process.join(forks.DEADLINE_SECONDS)
        said = [json.loads(file.read_text().splitlines()[-1]) for file in files]
        return [(process.exitcode, found) for process, found in zip(started, said, strict=True)]

    return train


@pytest.mark.distributed
def test_a_rank_that_fails_ends_both_hosts_in_its_own_words_and_a_start_of_both_goes_on(
    on_both, built, tmp_path, object_store
):
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(FAILING)
    failed = on_both(PYTHONPATH=f"{site}:{Path(__file__).parents[3]}")
    words = "rank 1 of 2: page 7 is cut off"
    assert [(code, found["error"]) for code, found in failed] == [(1, words), (1, words)]

    (code, first), (other_code, second) = on_both()
    assert (code, other_code) == (0, 0)
    root = f"{object_store.uri}/{tmp_path.name}/checkpoints"
    (checkpoint,) = Checkpoints(place(root), built.schema).all()
    assert first["checkpoint"] == second["checkpoint"] == str(checkpoint.path)
    assert set(checkpoint.manifest.files) == {".metadata", "__0_0.distcp", "__1_0.distcp"}
    assert checkpoint.manifest.mlflow_run == first["mlflow_run"]
    assert not (tmp_path / "var-1" / "mlflow").exists(), "host 0 alone tracks the run"


def of(environment: dict[str, str]) -> Hosts:
    hosts = Hosts.from_environment(environment)
    hosts.check()
    return hosts


@pytest.mark.parametrize(
    ("variable", "value", "limit"),
    [
        ("PET_NODE_RANK", "2", "below PET_NNODES, 2"),
        ("PET_NNODES", "1:2", "a number from 1 to 10000"),
        ("PET_NPROC_PER_NODE", "some", "a whole number, at least 1, or auto, cpu or gpu"),
        ("PET_MASTER_ADDR", "", "not set; the same on all 2 hosts"),
        ("RANKING_RUN", "", "not set; the same on all 2 hosts"),
    ],
)
def test_hosts_that_could_not_find_one_another_are_refused(variable, value, limit):
    with pytest.raises(ValueError, match=f"{variable}: .*{limit}"):
        of({**TWO, variable: value})


def test_ranks_are_those_of_the_host_and_together_those_asked_for():
    def default() -> int:
        return 3

    assert of({}).ranks_here(None, default=default) == 3
    assert of({}).ranks_here(2, default=default) == 2
    assert of(TWO).ranks_here(8, default=default) == 4
    assert of({**TWO, "PET_NPROC_PER_NODE": "4"}).ranks_here(None, default=default) == 4
    for asked, each in ((7, "auto"), (2, "4")):
        with pytest.raises(ValueError, match=f"ranks: {asked}; .*2"):
            of({**TWO, "PET_NPROC_PER_NODE": each}).ranks_here(asked, default=default)


def test_the_way_to_host_0_names_the_interface():
    address = of(TWO).own_address(seconds=0)
    assert (address, interface_of(address)) == ("127.0.0.1", "lo")
    with pytest.raises(ValueError, match=r"ADDR: nowhere\.invalid; reachable within 0 s"):
        of({**TWO, "PET_MASTER_ADDR": "nowhere.invalid"}).own_address(seconds=0)
    with pytest.raises(ValueError, match=r"address 10\.77\.9\.9: of no interface"):
        interface_of("10.77.9.9")


def test_a_save_is_waited_for_as_long_as_its_bytes_take():
    waiting = Waiting.from_environment({"RANKING_LOST_SECONDS": "60", "RANKING_SAVE_RATE": "50"})
    assert waiting.while_saving(0).total_seconds() == 60
    assert waiting.while_saving(3 * 10**9).total_seconds() == 60 + 60
