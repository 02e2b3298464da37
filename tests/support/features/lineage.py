"""Events of lineage as a receiver has them: from files, over HTTP, and checked."""

import contextlib
import http.server
import inspect
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import jsonschema
from openlineage.client import facet_v2
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState

from features.lineage import facets

SCHEMAS = json.loads(Path(facets.__file__).with_name("facets.json").read_text())
_MODULES = [one for one in vars(facet_v2).values() if isinstance(one, ModuleType)]
CLASSES = {name: one for m in _MODULES for name, one in vars(m).items() if name.endswith("Facet")}
_OF_DATASETS = ("facets", "inputFacets", "outputFacets")


def checked(event: dict) -> dict:
    """An event, which OpenLineage's own classes take, and our schemas of facets of ours."""
    run, job = event["run"], event["job"]
    RunEvent(
        eventTime=event["eventTime"],
        eventType=RunState[event["eventType"]],
        producer=event["producer"],
        run=Run(run["runId"], _facets(run["facets"])),
        job=Job(job["namespace"], job["name"], _facets(job["facets"])),
        inputs=[_dataset(InputDataset, one) for one in event["inputs"]],
        outputs=[_dataset(OutputDataset, one) for one in event["outputs"]],
    )
    return event


def _dataset(made: type, one: dict):
    assert one.keys() <= {"namespace", "name", *_OF_DATASETS}
    of_kinds = {kind: _facets(one[kind]) for kind in _OF_DATASETS if kind in one}
    return made(namespace=one["namespace"], name=one["name"], **of_kinds)


def _facets(found: dict) -> dict:
    return {name: _facet(name, one) for name, one in found.items()}


def _facet(name: str, found: dict):
    """The facet as an object of the class that its schema names."""
    own = found["_schemaURL"].rpartition("/")[2]
    assert found["_producer"] == facets.PRODUCER
    if found["_schemaURL"].startswith(facets.SCHEMA_ID):
        assert name.startswith(facets.PREFIX)
        validator = jsonschema.Draft202012Validator({"$ref": f"#/$defs/{own}", **SCHEMAS})
        validator.validate(found)
        return getattr(facets, own)()
    values = {key: value for key, value in found.items() if not key.startswith("_")}
    made = CLASSES[own]
    inspect.signature(made).bind(**values)
    return made(**values)


def kept(folder: Path) -> list[dict]:
    """The events in the files of all jobs below a root, by time."""
    lines = [
        line for file in folder.glob("lineage/*/*.json*") for line in file.read_text().splitlines()
    ]
    return sorted(map(json.loads, lines), key=lambda event: event["eventTime"])


@contextlib.contextmanager
def receiver() -> Iterator[tuple[str, list[tuple[str, dict, str | None]]]]:
    """A server that takes events: its address, and path, event and key of each that came."""
    came: list[tuple[str, dict, str | None]] = []

    class Takes(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            came.append((self.path, json.loads(content), self.headers["Authorization"]))
            self.send_response(201)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Takes)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", came
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
