"""A second small data set beside the stand-ins': other columns, no user, other names."""

import dataclasses
import datetime
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from support.serving import stand_ins
from support.serving.running_server import Server

from features.encoding.encode import RequestInputs
from features.schema import Column, Dtype, FeatureTable, Kind, Role, TableKind

NAME = "second"
FILM = Column(
    name="film_id",
    dtype=Dtype.INT64,
    kind=Kind.SPARSE,
    minimum=1,
    maximum=99,
    num_ids=100,
    doc="Film.",
)
SCHEMA = dataclasses.replace(
    stand_ins.SCHEMA,
    name=NAME,
    user=None,
    item=FILM,
    context=(),
    tables=(
        FeatureTable(
            name="item_attributes",
            kind=TableKind.ATTRIBUTES,
            role=Role.ITEM,
            ttl=None,
            delay=datetime.timedelta(0),
            doc="Attributes.",
            columns=(
                Column(name="film_year", dtype=Dtype.FLOAT64, kind=Kind.DENSE, doc="Its year."),
            ),
        ),
    ),
)


def rows() -> stand_ins.Rows:
    """Films 1 to 9."""
    (attributes,) = SCHEMA.tables
    moment = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    return {
        ("item_attributes", film): stand_ins.row(attributes, moment, film_year=1990.0 + film)
        for film in range(1, 10)
    }


def scorer(version: str) -> Any:
    """How a version scores: by the year of the film and the day in its name.

    ``-broken`` fails its golden request.
    """
    if version.endswith("-broken"):
        raise ValueError("golden response: off by 0.5; 1e-05")
    day = datetime.date.fromisoformat(version[:10])

    def scored(inputs: RequestInputs) -> npt.NDArray[np.float32]:
        dense = inputs.tiled([column.name for column in SCHEMA.sparse_inputs()]).dense
        years = np.nan_to_num(dense.astype(np.float64)).sum(axis=1)
        return ((years % 10 + day.day) / 100).astype(np.float32)

    return scored


def body(*films: int) -> dict[str, Any]:
    """A good request for some films."""
    tensor = {"name": "film_id", "shape": [len(films)], "datatype": "INT64", "data": list(films)}
    return {"inputs": [tensor]}


def grpc_request(*films: int) -> Any:
    """The same over gRPC."""
    contents = {"int64_contents": films}
    tensor = {"name": "film_id", "datatype": "INT64", "shape": [len(films)], "contents": contents}
    return messages.ModelInferRequest(model_name=NAME, inputs=[tensor])


def infer(server: Server, *films: int) -> httpx.Response:
    """Its answer; without films, for three."""
    return server.http.post(f"/v2/models/{NAME}/infer", json=body(*(films or (1, 2, 3))))


def load(server: Server, registry: stand_ins.FileRegistry, version: str) -> httpx.Response:
    registry.set_alias("champion", version)
    return server.http.post(f"/v2/repository/models/{NAME}/load")


def expected(day: int, *films: int) -> list[Any]:
    """What a version of a day of June scores."""
    return [pytest.approx((film + day) / 100) for film in films]


def scores(answer: httpx.Response) -> tuple[tuple[str, str], list[float]]:
    """Which model and version has answered, and its scores."""
    content = answer.json()
    (found,) = [one["data"] for one in content["outputs"] if one["name"] == "score"]
    return (content["model_name"], content["model_version"]), found


def grpc_scores(answer: Any) -> tuple[tuple[str, str], list[float]]:
    """The same of an answer over gRPC."""
    names = [output.name for output in answer.outputs]
    found = np.frombuffer(answer.raw_output_contents[names.index("score")], dtype=np.float32)
    return (answer.model_name, answer.model_version), found.tolist()


def metrics(server: Server) -> list[Sample]:
    families = text_string_to_metric_families(server.http.get("/metrics").text)
    return [sample for family in families for sample in family.samples]


def value(samples: list[Sample], name: str, **labels: str) -> float:
    """The sum of the series of a metric that have these labels."""
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())
