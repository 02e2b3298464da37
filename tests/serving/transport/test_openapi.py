"""The description, the routes and the page on the endpoint say the same."""

import re
from pathlib import Path

import fastapi
import jsonschema
import orjson
import pytest
from kserve.protocol.rest.v1_endpoints import register_v1_endpoints
from kserve.protocol.rest.v2_endpoints import register_v2_endpoints
from support.serving import stand_ins

from features.datasets.catalog import names, schema_of
from serving.protocol.inference_request import from_rest
from serving.protocol.ranking_request import parse
from serving.protocol.v1 import from_v1
from serving.settings import Settings
from serving.transport.openapi import document
from serving.transport.operations import OPERATIONS, allowed_methods, operation_at
from serving.transport.routes import Routes

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "endpoint.md").read_text()
SCHEMAS = [stand_ins.SCHEMA, *map(schema_of, names())]


def described(schema=stand_ins.SCHEMA, *, has_token=False):
    return document([(schema, "2025-06-01")], has_token=has_token, max_candidates=10_000)


def test_every_route_of_ours_and_of_kserve_is_an_operation_and_the_reverse():
    app = fastapi.FastAPI(docs_url=None, redoc_url=None)
    routes = Routes(dataplane=None, models=None, settings=Settings())
    routes.register(app)
    app.add_api_route("/", lambda: None, methods=["GET"])
    app.add_api_route("/metrics", lambda: None, methods=["GET"])
    register_v1_endpoints(app, None, None)
    register_v2_endpoints(app, None, None)
    registered = {
        (method, route.path) for route in app.routes for method in route.methods - {"HEAD"}
    }
    assert registered == {(o.method, o.path) for o in OPERATIONS}


def of_model(path, name=stand_ins.SCHEMA.name):
    return path.replace("{model_name}", name)


def test_the_description_has_exactly_the_operations_and_their_statuses():
    found = {
        (method.upper(), path): {int(code) for code in operation["responses"]}
        for path, methods in described()["paths"].items()
        for method, operation in methods.items()
    }
    assert found == {(o.method, of_model(o.path)): set(o.codes) for o in OPERATIONS}


def test_the_page_on_the_endpoint_has_the_same_operations_and_statuses():
    rows = re.findall(r"^\| `(GET|POST) (\S+)` \| .+ \| ([\d, ]+) \|$", PAGE, re.MULTILINE)
    on_page = {
        (method, path): {int(code) for code in codes.split(",")} for method, path, codes in rows
    }
    assert on_page == {
        (o.method, o.path.format(model_name="<model>", model_version="<version>")): set(o.codes)
        for o in OPERATIONS
    }


def test_the_page_explains_exactly_the_statuses_that_are_errors():
    table = PAGE.partition("\n## Errors\n")[2].partition("\n## ")[0]
    explained = {int(code) for code in re.findall(r"^\| (\d{3}) \|", table, re.MULTILINE)}
    errors = {code for o in OPERATIONS for code in o.codes if code >= 400}
    # 401 comes with a token, 405 with a method that is no operation, 431 before there is one.
    assert explained == errors | {401, 405, 431}


def test_with_a_token_all_but_health_asks_for_it():
    paths = described(has_token=True)["paths"]
    for path, methods in paths.items():
        for operation in methods.values():
            asks = path not in {"/v2/health/live", "/v2/health/ready"}
            assert ("401" in operation["responses"]) == asks, path
            assert (operation.get("security") == [{"token": []}]) == asks, path
    assert "securitySchemes" not in described()["components"]


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.name)
def test_the_examples_fit_the_description_and_are_requests(schema, noon):
    paths = described(schema)["paths"]
    calls = {
        f"/v2/models/{schema.name}/infer": lambda body: from_rest(body, json_length=None),
        f"/v1/models/{schema.name}:predict": lambda body: from_v1(body, schema),
    }
    for path, read in calls.items():
        content = paths[path]["post"]["requestBody"]["content"]["application/json"]
        example = content["examples"]["good"]["value"]
        jsonschema.Draft202012Validator.check_schema(content["schema"])
        jsonschema.validate(example, content["schema"])
        assert len(parse(schema, read(orjson.dumps(example)), now=noon)) == 2


def test_a_name_with_a_colon_is_an_action_and_no_model():
    assert allowed_methods("/v1/models/stand-in:predict") == ["POST"]
    assert allowed_methods("/v2/repository/index") == ["GET", "POST"]
    assert allowed_methods("/nowhere") == []
    assert operation_at("POST", "/v2/models/stand-in/versions/a:b/infer").name == "version_infer"
    assert operation_at("GET", "/v1/models/stand-in:predict") is None


def test_a_method_that_is_not_there_is_405_with_all_that_are(server):
    for path, methods in (
        ("/v2/repository/index", "GET, POST"),
        ("/v1/models/stand-in:predict", "POST"),
        ("/v2/models/stand-in/infer", "POST"),
        ("/v2", "GET"),
    ):
        answer = server.http.request("DELETE", path)
        assert (answer.status_code, answer.headers["allow"]) == (405, methods)
        assert list(answer.json()) == ["error"]


def test_a_body_that_is_not_read_is_not_measured(server):
    content = b" " * (16 * 1024 * 1024 + 1)
    assert server.http.request("GET", "/v2/models/stand-in", content=content).status_code == 200
    assert server.http.post("/v2/models/nobody/infer", content=content).status_code == 404
    assert server.http.post("/v2/repository/index", content=content).status_code == 413
