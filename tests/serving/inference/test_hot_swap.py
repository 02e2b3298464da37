"""Real rankers change places under load: every answer is whole, right, and of one version.

Artifacts are written by the exporter's own code and read by the real loader; clients check each
answer against the answers that each version gave when it was alone.
"""

import contextlib
import itertools
import json
import shutil
import threading
import time

import grpc
import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as service

from infra.drills import fixtures
from serving.__main__ import main
from serving.release import canary
from serving.release.endpoint_client import Endpoint, EndpointError
from serving.routing.traffic_split import Share, clear_share, read_share, write_share
from serving.server import open_server
from training.artifact.artifact import _sha256
from training.artifact.manifest import MANIFEST
from training.registry.aliases import CANARY, CHAMPION
from training.registry.retention import prune

TOLERANCE = 1e-5
"""As the artifact's own golden request."""
BODIES = [
    fixtures.request(user, list(range(user, user + 8)), request_id=f"user-{user}")
    for user in range(6)
]


class Live:
    """A world, the endpoint on it, and what each version answers."""

    def __init__(self, world, http_port, grpc_port):
        self.world = world
        self.url = f"http://127.0.0.1:{http_port}"
        self.grpc_address = f"127.0.0.1:{grpc_port}"
        self.endpoint = Endpoint(self.url)
        self.golden = {}

    def swap(self, version):
        self.world.registry.set_alias(CHAMPION, version)
        self.endpoint.load()

    def learn(self):
        with httpx.Client(base_url=self.url, timeout=30) as http:
            for version in self.world.versions:
                self.swap(version)
                self.golden[version] = [scores(ask(http, body))[1] for body in BODIES]
        for one, other in itertools.combinations(self.golden.values(), 2):
            for first, second in zip(one, other, strict=True):
                assert np.abs(first - second).max() > 100 * TOLERANCE


def ask(http, body):
    return http.post("/v2/models/ranker/infer", json=body)


def scores(answer):
    content = answer.json()
    assert answer.status_code == 200, content
    return content["model_version"], np.array(content["outputs"][0]["data"])


def grpc_message(body):
    inputs = []
    for given in body["inputs"]:
        field = "bytes_contents" if given["datatype"] == "BYTES" else "int64_contents"
        data = [v.encode() if isinstance(v, str) else v for v in given["data"]]
        inputs.append(
            {
                **{key: given[key] for key in ("name", "shape", "datatype")},
                "contents": {field: data},
            }
        )
    return messages.ModelInferRequest(model_name="ranker", id=body["id"], inputs=inputs)


def grpc_scores(answer):
    (given,) = [output for output in answer.outputs if output.name == "score"]
    place = [output.name for output in answer.outputs].index("score")
    raw = answer.raw_output_contents
    found = np.frombuffer(raw[place], "<f4") if raw else np.array(given.contents.fp32_contents)
    return answer.model_version, found


def over_rest(live):
    """Answers for ever: which body, which version, which scores."""
    with httpx.Client(base_url=live.url, timeout=30) as http:
        for place in itertools.cycle(range(len(BODIES))):
            yield place, *scores(ask(http, BODIES[place]))


def over_grpc(live):
    """The same, by the other transport."""
    with grpc.insecure_channel(live.grpc_address) as channel:
        infer = service.GRPCInferenceServiceStub(channel).ModelInfer
        for place in itertools.cycle(range(len(BODIES))):
            yield place, *grpc_scores(infer(grpc_message(BODIES[place]), timeout=30))


@contextlib.contextmanager
def load_of(live):
    """Two clients of REST and two of gRPC, until the end; yields what they saw."""
    is_over, seen, failures = threading.Event(), [], []

    def run(answers):
        try:
            for answer in itertools.takewhile(lambda _: not is_over.is_set(), answers):
                seen.append(answer)
        except (AssertionError, httpx.HTTPError, grpc.RpcError) as error:
            failures.append(error)

    clients = (over_rest, over_rest, over_grpc, over_grpc)
    threads = [threading.Thread(target=run, args=(client(live),)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert failures == []


def check(live, seen):
    """Each answer equals what exactly one version says, and that is the version which it names."""
    for place, version, found in seen:
        equal = [
            name
            for name, golden in live.golden.items()
            if np.abs(golden[place] - found).max() <= TOLERANCE
        ]
        assert equal == [version]


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    import socket

    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1], other.getsockname()[1]]
    world = fixtures.build(tmp_path_factory.mktemp("world"), num_versions=4)
    log = world.root / "server.log"
    # Versions are told apart by whole answers: a read of the store may be late on a busy machine.
    patient = {"RANKING_STORE_SECONDS": "20"}
    process = fixtures.serve(
        world, http_port=ports[0], grpc_port=ports[1], log=log, environment=patient
    )
    try:
        opened = Live(world, *ports)
        opened.learn()
        yield opened
    finally:
        process.terminate()
        code = process.wait(30)
    assert code == 0, log.read_text()[-2000:]


@pytest.fixture(autouse=True)
def first_champion(live):
    """Each test begins with the first version alone, and with no history."""
    clear_share(live.world.registry, CANARY)
    for version in live.world.versions:
        for tag in ("previous_champion", "rolled_back"):
            live.world.registry.set_tag(version, tag, None)
    live.swap(live.world.versions[0])


def test_under_load_every_answer_is_of_one_version_while_versions_change(live):
    first, *others = live.world.versions[:3]
    with load_of(live) as seen:
        for version in (*others, first, *others, first):
            before = len(seen)
            live.swap(version)
            # What starts after a swap is answered by the new version.
            while len(seen) < before + 30:
                time.sleep(0.01)
    check(live, seen)
    assert {version for _, version, _ in seen} == {first, *others}
    assert len(seen) > 150


def rewritten(folder, **changes):
    """A manifest that fits the files as they are now, and says something else."""
    manifest = json.loads((folder / MANIFEST).read_text())
    hashes = {name: _sha256(folder / name) for name in manifest["content_sha256"]}
    changed = {**manifest, "content_sha256": hashes, **changes}
    (folder / MANIFEST).write_text(json.dumps(changed))


def wrong_fingerprint(folder):
    rewritten(folder, schema_fingerprint="another")


def wrong_golden_answer(folder):
    table = pq.read_table(folder / "golden.parquet")
    place = table.column_names.index("golden_score")
    other = pa.array(table.column(place).to_numpy() + np.float32(1e-3))
    pq.write_table(table.set_column(place, "golden_score", other), folder / "golden.parquet")
    rewritten(folder)


def truncated_weights(folder):
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def truncated_weights_with_a_fitting_hash(folder):
    truncated_weights(folder)
    rewritten(folder)


def missing_weights(folder):
    (folder / "weights.safetensors").unlink()


def missing_folder(folder):
    shutil.rmtree(folder)


FAULTS = {
    wrong_fingerprint: "schema another; expected that of synthetic",
    wrong_golden_answer: "golden answer differs by 0.001; at most 1e-05",
    truncated_weights: "sha256",
    truncated_weights_with_a_fitting_hash: "does not fit the manifest.s model",
    missing_weights: "sha256 no file",
    missing_folder: "no readable manifest",
}


def test_a_bad_artifact_never_serves_under_the_same_load(live, tmp_path):
    """As champion and as canary; what served before goes on."""
    first, bad = live.world.versions[0], live.world.versions[3]
    folder, good = live.world.artifacts / bad, tmp_path / "good"
    shutil.copytree(folder, good)
    registry = live.world.registry
    with load_of(live) as seen:
        for spoil, says in FAULTS.items():
            spoil(folder)
            with pytest.raises(EndpointError, match=f"409; .*{says}.*{first} stays loaded"):
                live.swap(bad)
            registry.set_alias(CHAMPION, first)
            write_share(registry, CANARY, Share(version=bad, percent=100))
            with pytest.raises(EndpointError, match=f"409; .*canary.*{says}"):
                live.endpoint.follow()
            clear_share(registry, CANARY)
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(good, folder)
    check(live, seen)
    assert {version for _, version, _ in seen} == {first}
    # Mended, the same version serves.
    live.swap(bad)
    assert live.endpoint.version() == bad


@pytest.fixture
def door(live, capsys):
    """Run a command on the world; returns the exit code and the JSON object."""

    def run(command, *arguments):
        names = {"rollback": ("artifacts", "tracking"), "shadow": ("tracking",)}
        folders = live.world.flags(*names.get(command, ("artifacts", "tracking", "reports")))
        place = [f"--dataset={fixtures.SCHEMA.name}", f"--endpoint={live.url}", *folders]
        code = main([command, *place, *arguments])
        return code, json.loads(capsys.readouterr().out.splitlines()[-1])

    return run


def test_rollback_is_one_command_goes_further_back_and_is_not_undone_by_a_re_run(live, door):
    first, second, third, _ = live.world.versions
    for date, version in (("2025-06-02", second), ("2025-06-03", third)):
        code, told = door("promote", f"--date={date}")
        assert (code, told["version"], told["served"]) == (0, version, True)

    with load_of(live) as seen:
        code, told = door("rollback")
        assert (code, told["from"], told["to"], told["served"]) == (0, third, second, True)
        assert told["seconds"] < 60
        assert live.endpoint.version() == second

        code, told = door("promote", "--date=2025-06-03")
        assert (code, "was rolled back; --again" in told["skipped"]) == (99, True)
        assert door("canary", "--date=2025-06-03")[0] == 99
        assert live.endpoint.version() == second

        code, told = door("rollback")
        assert (code, told["from"], told["to"]) == (0, second, first)
        code, told = door("rollback")
        assert (code, told["error"]) == (
            1,
            f"champion {first}: none came before it; --to names another version",
        )
        assert live.endpoint.version() == first

        code, told = door("promote", "--date=2025-06-03", "--again")
        assert (code, told["version"], told["previous"]) == (0, third, first)
        code, told = door("rollback", f"--to={second}")
        assert (code, told["to"], live.endpoint.version()) == (0, second, second)
        assert door("rollback", f"--to={second}")[0] == 99
    check(live, seen)


def test_a_rollback_to_what_does_not_load_or_is_gone_changes_nothing(live, door, tmp_path):
    first, second, *_ = live.world.versions
    door("promote", "--date=2025-06-02")
    folder = live.world.artifacts / first
    shutil.copytree(folder, tmp_path / "good")
    wrong_fingerprint(folder)
    code, told = door("rollback")
    assert (code, f"alias champion is back at {second}" in told["error"]) == (1, True)
    shutil.rmtree(folder)
    code, told = door("rollback")
    assert (code, told["error"].endswith("is gone; --to names another version")) == (1, True)
    shutil.copytree(tmp_path / "good", folder)
    assert live.world.registry.alias(CHAMPION) == live.endpoint.version() == second
    assert live.world.registry.tag(second, "rolled_back") is None
    assert door("rollback")[1]["to"] == first


def test_a_days_canary_is_kept_over_a_restart_promoted_and_rolled_back(live, door, monkeypatch):
    first, _, _, newest = live.world.versions
    registry = live.world.registry
    # Six users are no traffic to judge by; the steps have tests of their own.
    monkeypatch.setattr(canary, "STEPS", ())
    with load_of(live) as seen:
        code, told = door("canary", "--date=2025-06-04")
        assert (code, told.get("error"), told["verdict"]) == (0, None, "passed")
        before = len(seen)
        while len(seen) < before + 20:
            time.sleep(0.01)
    check(live, seen)
    assert {version for _, version, _ in seen[-4:]} == {newest}

    restarted = open_server(
        fixtures.SCHEMA,
        **{name: live.world.root / name for name in ("store", "artifacts", "tracking")},
        host="127.0.0.1",
        http_port=0,
        grpc_port=0,
    )
    assert restarted.ranker.versions.to_dict() == {
        "champion": first,
        "canary": {"version": newest, "percent": 100},
        "shadow": None,
    }
    code, told = door("promote", "--date=2025-06-04")
    assert (code, told["version"], told["previous"]) == (0, newest, first)
    assert told["canary"] == "passed"
    lineup = live.endpoint.serving_versions()
    assert (lineup["champion"], lineup["canary"]) == (newest, None)
    assert registry.alias(CANARY) is None

    registry.set_alias(CHAMPION, first)
    live.endpoint.load()
    assert door("canary", "--date=2025-06-04")[0] == 0
    code, told = door("rollback")
    assert (code, told["from"], told["to"]) == (0, newest, first)
    assert (live.endpoint.serving_versions()["canary"], read_share(registry, CANARY)) == (
        None,
        None,
    )
    assert door("promote", "--date=2025-06-04")[0] == 99


def test_a_server_that_was_named_and_does_not_answer_is_a_failure_and_changes_nothing(live, door):
    first = live.world.versions[0]
    nobody = "--endpoint=http://127.0.0.1:9"
    for command in ("canary", "promote"):
        code, told = door(command, "--date=2025-06-04", nobody)
        assert (code, "127.0.0.1:9: " in told["error"]) == (1, True)
    door("promote", "--date=2025-06-02")
    code, told = door("rollback", nobody)
    assert (code, "a server that answers there" in told["error"]) == (1, True)
    assert live.world.registry.alias(CHAMPION) == live.world.versions[1]
    assert door("rollback")[1]["to"] == first


def test_a_rollback_to_what_nobody_registered_leaves_the_canary_where_it_is(live, door):
    share = Share(version=live.world.versions[1], percent=5)
    write_share(live.world.registry, CANARY, share)
    (live.world.artifacts / "unregistered").mkdir()
    code, told = door("rollback", "--to=unregistered")
    assert (code, "version unregistered: not registered" in told["error"]) == (1, True)
    assert read_share(live.world.registry, CANARY) == share
    (live.world.artifacts / "unregistered").rmdir()


def test_a_canary_without_traffic_ends_and_the_promotion_says_that_the_gate_decided(live, door):
    newest = live.world.versions[3]
    code, told = door("canary", "--date=2025-06-04")
    assert (code, told["verdict"], live.endpoint.serving_versions()["canary"]) == (
        0,
        "no traffic",
        None,
    )
    code, told = door("promote", "--date=2025-06-04")
    assert (code, told["version"], told["canary"]) == (0, newest, "no traffic")


def test_a_canary_without_a_server_or_for_the_champion_leaves_the_decision_to_promote(live, door):
    code, told = door("canary", "--date=2025-06-04", "--endpoint=none")
    assert (code, told["canary"]) == (0, None)
    code, told = door("canary", "--date=2025-06-01")
    assert (code, "only a day after it" in told["skipped"]) == (99, True)


def test_the_verb_shadow_begins_and_ends(live, door):
    second = live.world.versions[1]
    code, told = door("shadow", f"--version={second}", "--percent=50")
    assert (code, told["shadow"]) == (0, {"version": second, "percent": 50})
    code, told = door("shadow")
    newest = live.world.registry.alias("challenger")
    assert (code, told["shadow"]) == (0, {"version": newest, "percent": 10})
    code, told = door("shadow", "--percent=0")
    assert (code, told["shadow"]) == (0, None)


def test_retention_leaves_the_way_back_and_what_stands_beside_the_champion(live, door, tmp_path):
    first, second, third, _ = live.world.versions
    door("promote", "--date=2025-06-02")
    door("shadow", f"--version={third}")
    shutil.copytree(live.world.artifacts, tmp_path / "artifacts" / fixtures.SCHEMA.name)
    places = (tmp_path / "checkpoints", tmp_path / "artifacts", live.world.root / "tracking")

    def removed():
        return prune(fixtures.SCHEMA, *places, keep=1)["removed"]["artifacts"]

    assert removed() == []
    door("shadow", "--percent=0")
    assert removed() == [third]
    live.world.registry.set_tag(second, "previous_champion", None)
    assert removed() == [first]
