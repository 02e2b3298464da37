"""The command line with the real Feast store, an artifact on disk and MLflow's aliases."""

import contextlib
import dataclasses
import datetime
import json
import os
from pathlib import Path

import httpx
import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pytest
from support.serving import stand_ins
from support.serving.running_server import started

from features.datasets.catalog import schema_of
from features.online_store import feast_store
from features.online_store.reader import open_rows
from features.schema import CREATED, EVENT_TIMESTAMP, EXAMPLE_ID, LABEL, Role
from serving.__main__ import main
from serving.lookup.transformer import Transformer
from serving.processes.options import Options
from serving.processes.single import open_server
from serving.protocol.inference_request import from_rest
from serving.protocol.ranking_request import input_types, parse
from training.artifact import artifact
from training.artifact.manifest import Manifest
from training.model.inputs import inputs_of
from training.model.ranker import Ranker as WukongRanker
from training.recipes import wukong_tiny
from training.registry.mlflow_registry import Registry

SCHEMA = schema_of("synthetic")
ITEMS = [1, 2, 3, 4]
YESTERDAY = stand_ins.NOON - datetime.timedelta(days=1)


def body(schema, items):
    """User 7 and some items, at noon, from any device."""
    values = {"user_id": [7], "item_id": items, "device": ["phone"], "timestamp": [micros()]}
    return {
        "inputs": [
            {**tensor, "shape": [len(values[tensor["name"]])], "data": values[tensor["name"]]}
            for tensor in input_types(schema)
        ]
    }


def micros():
    return int(stand_ins.NOON.timestamp() * 1_000_000)


def stored_rows():
    """Rows of user 7 and of items 1 to 3; item 4 is unknown."""
    entities = {Role.USER: [7], Role.ITEM: ITEMS[:3]}
    return {
        (table.name, one): stand_ins.row(table, YESTERDAY)
        for table in SCHEMA.tables
        for one in entities[table.role]
    }


@dataclasses.dataclass
class Workspace:
    """Folders with a store, two artifacts and a registry."""

    root: Path
    registry: Registry
    versions: list[str]

    def flags(self, *names):
        return [f"--{name}={self.root / name}" for name in names]


def write_artifact(root, day):
    """A ranker with random weights of its own."""
    import torch

    torch.manual_seed(day.day)
    rows = stand_ins.StandInStore(SCHEMA, stored_rows())
    call = from_rest(orjson.dumps(body(SCHEMA, ITEMS)), json_length=None)
    columns = dict(parse(SCHEMA, call, now=stand_ins.NOON).columns)
    columns |= {name: values.take([0] * 4) for name, values in rows.read(Role.USER, [7]).items()}
    columns |= rows.read(Role.ITEM, ITEMS)
    columns |= {LABEL: pa.array([0, 1, 0, 1]), EXAMPLE_ID: pa.array([1, 2, 3, 4])}
    model = wukong_tiny().model
    return artifact.write(
        root,
        WukongRanker(inputs_of(SCHEMA), model),
        SCHEMA,
        pa.table(columns),
        day=day.isoformat(),
        trained_through=day.isoformat(),
        recipe="wukong-tiny",
        config={"model": dataclasses.asdict(model)},
        parents=[],
        metrics={},
        mlflow_run="",
    )


def fill_store(root):
    feast_store.apply(SCHEMA, root / "store", root / "lake")
    store = feast_store.open_store(SCHEMA, root / "store")
    for table in SCHEMA.tables:
        found = {one: row for (name, one), row in stored_rows().items() if name == table.name}
        frame = pd.DataFrame([values for _, values in found.values()])
        frame[SCHEMA.entity(table.role).name] = list(found)
        frame[EVENT_TIMESTAMP] = frame[CREATED] = pd.Timestamp(YESTERDAY)
        store.write_to_online_store(table.name, frame)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    root = tmp_path_factory.mktemp("wiring")
    fill_store(root)
    registry = Registry(root / "tracking", SCHEMA.name)
    versions = []
    for day in (datetime.date(2025, 6, 1), datetime.date(2025, 6, 9)):
        manifest: Manifest = write_artifact(root / "artifacts", day)
        registry.register(manifest, root / "artifacts" / SCHEMA.name / manifest.version)
        versions.append(manifest.version)
        folder = root / "reports" / SCHEMA.name / "gate" / day.isoformat()
        folder.mkdir(parents=True)
        (folder / "decision.json").write_text(json.dumps({"decision": "promote", "reasons": []}))
    return Workspace(root, registry, versions)


@contextlib.contextmanager
def serving(workspace, http_port, grpc_port):
    command = ["-m", "serving", "serve", f"--dataset={SCHEMA.name}"]
    command += workspace.flags("store", "artifacts", "tracking")
    command += [f"--http-port={http_port}", f"--grpc-port={grpc_port}"]
    log = workspace.root / "server.log"
    with httpx.Client(base_url=f"http://127.0.0.1:{http_port}", timeout=20) as http:
        with started(command, os.environ, log=log, http=http):
            yield http
        summary = log.with_suffix(".out").read_text().splitlines()[-1]
        found = json.loads(summary)
        assert (found["stopped"], list(found["versions"])) == (True, [SCHEMA.name])


def answer(http):
    content = http.post("/v2/models/synthetic/infer", json=body(SCHEMA, ITEMS)).json()
    return {**content, **{output["name"]: output["data"] for output in content["outputs"]}}


def test_promote_serve_reload_and_roll_back(workspace, free_ports, capsys):
    """One story, told in order, because each start of a server takes seconds."""
    http_port, grpc_port = free_ports
    first, second = workspace.versions

    def promote(date, endpoint=f"http://127.0.0.1:{http_port}"):
        flags = [*workspace.flags("tracking", "reports"), f"--endpoint={endpoint}"]
        code = main(["promote", f"--dataset={SCHEMA.name}", f"--date={date}", *flags])
        captured = capsys.readouterr()
        return code, json.loads(captured.out)

    # An endpoint that was named must answer; where there is said to be none, the alias moves.
    assert promote("2025-06-01")[0] == 1
    assert workspace.registry.alias("champion") is None
    code, done = promote("2025-06-01", endpoint="none")
    assert (code, done["version"], done["served"]) == (0, first, False)

    with serving(workspace, http_port, grpc_port) as http:
        content = answer(http)
        assert content["model_version"] == first
        assert content["item_status"] == ["ok", "ok", "ok", "unknown"]
        assert content["user_status"] == ["ok"]
        online = open_rows(SCHEMA, workspace.root / "store", timeout_seconds=5)
        call = from_rest(orjson.dumps(body(SCHEMA, ITEMS)), json_length=None)
        names = [column.name for column in SCHEMA.sparse_inputs()]
        request = parse(SCHEMA, call, now=datetime.datetime.now(datetime.UTC))
        inputs = Transformer(SCHEMA, online=online).transform(request).inputs.tiled(names)
        folder = workspace.root / "artifacts" / SCHEMA.name
        expected = artifact.load(folder / first, SCHEMA).score(inputs)
        np.testing.assert_allclose(content["score"], expected, rtol=0, atol=1e-5)

        # The newer candidate's weights are spoilt: it does not load, and nothing has changed.
        weights = folder / second / "weights.safetensors"
        good = weights.read_bytes()
        weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        code, failed = promote("2025-06-09")
        assert (code, failed["error"].startswith("endpoint")) == (1, True)
        assert "sha256" in failed["error"]
        assert workspace.registry.alias("champion") == first
        assert answer(http)["model_version"] == first

        weights.write_bytes(good)
        code, done = promote("2025-06-09")
        assert (code, done["version"], done["served"]) == (0, second, True)
        swapped = answer(http)
        assert swapped["model_version"] == second
        assert swapped["score"] != content["score"]

        # An old day run again is no news.
        code, done = promote("2025-06-01")
        assert (code, "only a day after it" in done["skipped"]) == (99, True)
        assert answer(http)["model_version"] == second


def test_a_server_with_a_folder_serves_that_artifact_whatever_the_champion_is(workspace, tmp_path):
    first, second = workspace.versions
    workspace.registry.set_alias("champion", second)
    running = open_server(
        Options(
            schemas=(SCHEMA,),
            store=workspace.root / "store",
            artifacts=tmp_path / "none",
            tracking=tmp_path / "none",
            host="127.0.0.1",
            http_port=0,
            grpc_port=0,
            model=workspace.root / "artifacts" / SCHEMA.name / first,
        )
    )
    assert running.models.versions == {SCHEMA.name: first}
    assert not (tmp_path / "none").exists()
