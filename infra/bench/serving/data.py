"""The data of the endpoint's bench: a generated log, processed once by the real jobs."""

import dataclasses
import datetime
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson

from infra.bench.jobs import prepare_examples, run_job
from infra.local.servers import Endpoint, running_endpoint
from infra.local.settings import REPOSITORY

DATASET = "synthetic"
FOLDER = REPOSITORY / "var" / "serve"
LAST = "2025-01-06"
SIZES = ("--rows=60000", "--users=3000", "--items=3000", "--days=6")
NUM_USERS, NUM_ITEMS = 3_000, 3_000
NUM_REQUESTS = 64
"""Different requests of each size, so that no answer is the last one again."""


@dataclasses.dataclass(frozen=True)
class Request:
    """One request, independent of the protocol."""

    user: int
    items: npt.NDArray[np.int64]
    device: str
    moment: int
    """Epoch microseconds."""


def prepare() -> Path:
    """The artifact's folder; runs the jobs when it does not exist yet."""
    artifacts = FOLDER / "artifacts" / DATASET
    if not list(artifacts.glob("2025*")):
        prepare_examples(DATASET, FOLDER, last=LAST, sizes=SIZES)
        materialize()
        named = [f"--dataset={DATASET}", f"--date={LAST}", f"--lake={FOLDER / 'lake'}"]
        named += [f"--checkpoints={FOLDER / 'checkpoints'}", f"--tracking={FOLDER / 'mlflow'}"]
        run_job("training", "train", *named, f"--reports={FOLDER / 'reports'}")
        run_job("training", "export", *named, f"--artifacts={FOLDER / 'artifacts'}")
    return sorted(artifacts.glob("2025*"))[-1]


def materialize() -> None:
    """Bring the log's features online, into the store that RANKING_ONLINE names."""
    named = (f"--dataset={DATASET}", f"--lake={FOLDER / 'lake'}", f"--store={FOLDER / 'feast'}")
    run_job("features", "apply", *named)
    run_job("features", "materialize", *named, "--date=2025-01-01", f"--to={LAST}")


def requests(num_candidates: int) -> list[Request]:
    """Requests of users and items of the log, shortly after its end."""
    rng = np.random.default_rng(num_candidates)
    day = datetime.date.fromisoformat(LAST) + datetime.timedelta(days=1)
    moment = datetime.datetime.combine(day, datetime.time(6), datetime.UTC)
    return [
        Request(
            user=int(rng.integers(NUM_USERS)),
            items=rng.choice(NUM_ITEMS, num_candidates, replace=False).astype(np.int64),
            device=("phone", "tablet", "desktop")[int(rng.integers(3))],
            moment=int(moment.timestamp() * 1_000_000) + number,
        )
        for number in range(NUM_REQUESTS)
    ]


def json_body(request: Request) -> bytes:
    """The request as protocol V2 over REST has it in JSON."""
    tensors = {
        "user_id": ("INT64", [request.user]),
        "item_id": ("INT64", request.items.tolist()),
        "device": ("BYTES", [request.device]),
        "timestamp": ("INT64", [request.moment]),
    }
    inputs = [
        {"name": name, "shape": [len(values)], "datatype": datatype, "data": values}
        for name, (datatype, values) in tensors.items()
    ]
    return orjson.dumps({"inputs": inputs})


def raw_tensors(request: Request) -> dict[str, tuple[str, int, bytes]]:
    """Of each input its datatype, its number of values and their bytes."""
    device = request.device.encode()
    return {
        "user_id": ("INT64", 1, np.int64(request.user).tobytes()),
        "item_id": ("INT64", len(request.items), request.items.tobytes()),
        "device": ("BYTES", 1, len(device).to_bytes(4, "little") + device),
        "timestamp": ("INT64", 1, np.int64(request.moment).tobytes()),
    }


def binary_body(request: Request) -> tuple[bytes, int]:
    """The request in JSON with the tensors behind it, and how long the JSON is."""
    tensors = raw_tensors(request)
    inputs = [
        {
            "name": name,
            "shape": [size],
            "datatype": datatype,
            "parameters": {"binary_data_size": len(content)},
        }
        for name, (datatype, size, content) in tensors.items()
    ]
    head = orjson.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}})
    return head + b"".join(content for _, _, content in tensors.values()), len(head)


def serving(model: Path, *, workers: int = 1) -> AbstractContextManager[Endpoint]:
    """The real server on an artifact, in so many processes."""
    folders = (f"--store={FOLDER / 'feast'}", f"--compiled={FOLDER / 'compiled'}")
    return running_endpoint(
        f"--dataset={DATASET}",
        f"--model={model}",
        *folders,
        log=FOLDER / "server.log",
        environment={"RANKING_WORKERS": str(workers)},
    )
