"""The events of a command: in files, over HTTP, or nowhere; and none of it fails the command."""

import dataclasses
import datetime
import os
import socket
import uuid

import pytest
from support.features import lineage
from support.lake_rows import MONDAY, replaced

from features.cli import CommandLine, FailedError, SkippedError
from features.datasets.catalog import schema_of
from features.lake.snapshot import snapshot
from features.lineage import job_run, sender
from features.places import place
from features.requests import ExamplesRequest

ASKED = ["examples", "--dataset=synthetic", f"--date={MONDAY}"]
TASK, DAG = str(uuid.uuid4()), str(uuid.uuid4())


@pytest.fixture(autouse=True)
def environment():
    """As it was before a test: the client of OpenLineage writes variables of its own."""
    before = dict(os.environ)
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Where the data lie, and so the events."""
    monkeypatch.setenv("RANKING_ROOT", str(tmp_path))
    monkeypatch.delenv("OPENLINEAGE_DISABLED")
    return tmp_path


def ended(run, *, package="features", arguments=ASKED):
    """The exit code of a command that does what ``run`` does."""

    def examples(request: ExamplesRequest):
        return run()

    commands = {"examples": examples, "tables": examples}
    return CommandLine(package, description="", epilog="", commands=commands).main(arguments)


def build(root):
    """Read a version of a table, and commit another table of it."""
    lake = place(root) / "lake" / "synthetic"
    found = snapshot(lake / "read")
    found.read(MONDAY)
    hashes, rows = {str(MONDAY): "abc"}, {str(MONDAY): 2}
    replaced(lake / "made", MONDAY, content_hashes=hashes, rows_by_day=rows)
    return {"rows": 2}


def test_a_job_starts_and_completes_with_versions_of_what_it_read_and_wrote(root):
    lake = place(root) / "lake" / "synthetic"
    replaced(lake / "read", MONDAY)
    replaced(lake / "read", MONDAY)
    assert ended(lambda: build(root)) == 0
    start, complete = map(lineage.checked, lineage.kept(root))
    assert [start["eventType"], complete["eventType"]] == ["START", "COMPLETE"]
    assert start["run"]["runId"] == complete["run"]["runId"]
    assert complete["job"]["name"] == "synthetic.features.examples"
    (read,), (made,) = complete["inputs"], complete["outputs"]
    assert (read["namespace"], read["name"]) == ("file", str(lake / "read"))
    assert read["facets"]["version"]["datasetVersion"] == "1"
    assert [one["name"] for one in read["facets"]["schema"]["fields"]] == ["id", "who", "day"]
    assert made["facets"]["version"]["datasetVersion"] == "0"
    assert [one["day"] for one in made["facets"]["ranking_partitions"]["days"]] == [str(MONDAY)]
    said = complete["run"]["facets"]
    assert said["ranking_schema"]["fingerprint"] == schema_of("synthetic").fingerprint()
    assert said["processing_engine"]["name"] == "pyspark"
    assert said["nominalTime"]["nominalStartTime"] == f"{MONDAY}T00:00:00+00:00"
    asked = {one["key"]: one["value"] for one in said["executionParameters"]["parameters"]}
    assert asked["date"] == str(MONDAY)
    assert start["inputs"] == start["outputs"] == []


def test_a_file_of_a_day_has_all_events_of_one_run(root):
    assert ended(lambda: {}) == ended(lambda: {}) == 0
    files = sorted((root / "lineage").glob("*/*.jsonl"))
    assert [len(file.read_text().splitlines()) for file in files] == [2, 2]
    assert len({file.parent.name for file in files}) <= 2, "a day, or two at midnight"
    datetime.date.fromisoformat(files[0].parent.name)


@pytest.mark.parametrize(
    ("error", "state", "facet", "text"),
    [
        (FailedError("3 rules broken"), "FAIL", "errorMessage", "3 rules broken"),
        (KeyError("lost"), "FAIL", "errorMessage", "'lost'"),
        (SkippedError("no champion yet"), "COMPLETE", "ranking_skipped", "no champion yet"),
    ],
)
def test_an_event_says_how_a_job_ended(root, error, state, facet, text):
    def run():
        raise error

    ended(run)
    last = lineage.checked(lineage.kept(root)[-1])
    assert last["eventType"] == state
    said = last["run"]["facets"][facet]
    assert said.get("message", said.get("reason")) == text


def test_a_job_that_is_interrupted_aborts(root):
    def run():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ended(run)
    assert [one["eventType"] for one in lineage.kept(root)] == ["START", "ABORT"]


def test_a_receiver_gets_the_events_of_the_file_with_parent_and_key(root, monkeypatch):
    with lineage.receiver() as (url, came):
        monkeypatch.setenv("OPENLINEAGE_URL", url)
        monkeypatch.setenv("OPENLINEAGE_API_KEY", "a-key")
        monkeypatch.setenv("OPENLINEAGE_NAMESPACE", "shop")
        monkeypatch.setenv("OPENLINEAGE_PARENT_ID", f"ranking/daily.examples/{TASK}")
        monkeypatch.setenv("OPENLINEAGE_ROOT_PARENT_ID", f"ranking/daily/{DAG}")
        monkeypatch.setattr(sender, "WAIT_SECONDS", 60.0)
        assert ended(lambda: {}) == 0
    assert [path for path, _, _ in came] == ["/api/v1/lineage"] * 2
    assert {key for _, _, key in came} == {"Bearer a-key"}
    events = [lineage.checked(event) for _, event, _ in came]
    same = ("eventTime", "eventType", "inputs", "outputs", "producer", "schemaURL")
    for sent, kept in zip(events, lineage.kept(root), strict=True):
        assert {name: sent[name] for name in same} == {name: kept[name] for name in same}
        assert sent["run"]["runId"] == kept["run"]["runId"]
    for event in events:
        parent = event["run"]["facets"]["parent"]
        assert parent["run"]["runId"] == TASK
        assert (parent["job"]["namespace"], parent["job"]["name"]) == ("ranking", "daily.examples")
        assert parent["root"]["run"]["runId"] == DAG
        assert event["job"]["namespace"] == "shop"


def test_a_receiver_that_is_down_neither_fails_nor_holds_up_a_job(root, monkeypatch, caplog):
    """The events are in the file; one line of the log says what is wrong."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen: connections are refused
        monkeypatch.setenv("OPENLINEAGE_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setattr(sender, "WAIT_SECONDS", 0.2)
        assert ended(lambda: {}) == 0
    assert len(lineage.kept(root)) == 2
    said = [one.message for one in caplog.records if "events of lineage" in one.message]
    assert len(said) == 1
    assert "not sent" in said[0]


def test_a_setting_that_is_wrong_fails_no_job(root, monkeypatch, caplog):
    monkeypatch.setenv("OPENLINEAGE_URL", "no address")
    assert ended(lambda: {}) == 0
    assert len(lineage.kept(root)) == 2
    assert "not sent" in caplog.text


def test_a_folder_that_cannot_be_written_fails_no_job(root, caplog):
    (root / "lineage").write_text("a file is in the way")
    assert ended(lambda: {}) == 0
    assert caplog.text.count("not kept") == 1


@pytest.mark.parametrize("variables", [{"OPENLINEAGE_DISABLED": "true"}, {"PET_NODE_RANK": "1"}])
def test_no_events_where_nobody_wants_them_or_another_host_has_them(root, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert ended(lambda: {}) == 0
    assert not (root / "lineage").exists()


def test_a_command_that_makes_no_data_has_no_events(root):
    assert ended(lambda: {}, arguments=["tables", *ASKED[1:]]) == 0
    assert not (root / "lineage").exists()


def test_every_job_is_a_command():
    from features.__main__ import command_line as of_features
    from serving.__main__ import command_line as of_serving
    from training.__main__ import command_line as of_training

    for made in (of_features(), of_training(), of_serving()):
        text = made.parser.format_help()
        for name in job_run.JOBS[made.package]:
            assert name.split()[0] in text, f"{made.package}: {name}"


def test_a_password_in_an_address_is_no_parameter_of_an_event():
    @dataclasses.dataclass
    class Request:
        dataset: str = "synthetic"
        date: datetime.date = MONDAY
        endpoint: str = "https://user:secret@ranker:8081"

    described = job_run._description(Request(), "serving", "promote", lambda _: "")
    assert described.parameters["endpoint"] == "https://ranker:8081"
