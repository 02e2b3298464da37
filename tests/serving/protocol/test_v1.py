"""Protocol V1: one object a candidate gives the scores and flags that V2 gives."""

import asyncio
import dataclasses

import numpy as np
import orjson
import pytest
from kserve.inference_client import InferenceRESTClient, RESTConfig
from support.serving import stand_ins
from support.serving.good_requests import flags

from serving.protocol.errors import RequestError
from serving.protocol.inference_request import from_rest
from serving.protocol.v1 import from_v1

PREDICT = "/v1/models/stand-in:predict"


def instances(number=3, **changes):
    """A good V1 body: user 7 and items a, b, c; changes are keys of the second instance."""
    listed = [
        {
            "user_id": 7,
            "item_id": "abcdef"[place],
            "position": place % 3 + 1,
            "price": 9.5,
            "device": "phone",
            "timestamp": stand_ins.NOON.isoformat(),
        }
        for place in range(number)
    ]
    listed[1].update(changes)
    return {"instances": listed}


def without(name, places):
    listed = instances()["instances"]
    for place in places:
        del listed[place][name]
    return {"instances": listed}


def test_predictions_are_the_scores_of_v2_in_order(server, body):
    answer = server.http.post(PREDICT, json=instances())
    ranked = server.infer(body()).json()
    assert answer.status_code == 200
    found = answer.json()
    found["parameters"] = flags(found["parameters"])
    assert found == {
        "predictions": ranked["outputs"][0]["data"],
        "model_name": "stand-in",
        "model_version": ranked["model_version"],
        "parameters": flags(ranked["parameters"]),
    }


def test_one_instance_and_the_least_that_it_may_have(server):
    answer = server.http.post(PREDICT, json={"instances": [{"user_id": 8, "item_id": "zz"}]})
    assert len(answer.json()["predictions"]) == 1
    assert answer.json()["parameters"]["degraded"] is True
    assert answer.json()["parameters"]["missing_context"] == "position,price,device"


def test_the_call_is_that_of_v2_to_the_bit(body):
    first = from_v1(orjson.dumps(instances()), stand_ins.SCHEMA)
    second = from_rest(orjson.dumps(body()), json_length=None)
    assert set(first.tensors) == set(second.tensors)
    for name, tensor in second.tensors.items():
        sent = np.broadcast_to(np.asarray(tensor.values), np.shape(first.tensors[name].values))
        assert first.tensors[name].datatype == tensor.datatype
        assert np.array_equal(np.asarray(first.tensors[name].values), sent)


def test_a_user_who_is_not_the_same_everywhere_is_a_value_for_each_instance():
    call = from_v1(orjson.dumps(instances(user_id=8)), stand_ins.SCHEMA)
    assert call.tensors["user_id"].values.tolist() == [7, 8, 7]
    call = from_v1(orjson.dumps(instances()), stand_ins.SCHEMA)
    assert call.tensors["user_id"].values.tolist() == [7]


def test_a_schema_without_users_needs_none():
    schema = dataclasses.replace(stand_ins.SCHEMA, user=None, tables=stand_ins.SCHEMA.tables[1:])
    call = from_v1(b'{"instances": [{"item_id": "a"}, {"item_id": "b"}]}', schema)
    assert list(call.tensors) == ["item_id"]


BAD = [
    ({}, "instances: None; a JSON array"),
    ({"instances": {}}, "instances: {}; a JSON array"),
    ({"instances": []}, "instances: '0 instances'; 1 to 10000"),
    ({"instances": [[1]]}, "instances[0]: [1]; a JSON object"),
    ({"instances": [{"item_id": "a"}] * 10_001}, "instances: '10001 instances'; 1 to 10000"),
    (instances(colour="red"), "instances[1]: 'colour'; one of user_id, item_id"),
    (without("item_id", [0, 1, 2]), "instances[0].item_id: 'missing'; in every instance"),
    (without("user_id", [2]), "instances[2].user_id: 'missing'; in all of them or none"),
    (without("device", [1, 2]), "instances[1].device: 'missing'; in all of them or none"),
    (instances(user_id="7"), "instances[1].user_id: '7'; an integer of 64 bits"),
    (instances(user_id=True), "instances[1].user_id: True; an integer"),
    (instances(user_id=7.0), "instances[1].user_id: 7.0; an integer"),
    (instances(user_id=2**63), "instances[1].user_id: 9223372036854775808; an integer"),
    (instances(item_id=3), "instances[1].item_id: 3; a string"),
    (instances(item_id=None), "instances[1].item_id: None; a string"),
    (instances(position="1"), "instances[1].position: '1'; an integer"),
    (instances(price=1e300), "instances[1].price: 1e+300; a finite number in float32"),
    (instances(price="9.5"), "instances[1].price: '9.5'; a finite number"),
    (instances(price=False), "instances[1].price: False; a finite number"),
    (instances(timestamp="2025-06-15T12:00:01Z"), "instances[1].timestamp: '2025-06-15T12:00:01Z'"),
    (instances(timestamp=1), "instances[1].timestamp: 1; the same moment in all instances"),
    ({"instances": [{"user_id": 7, "item_id": "a", "timestamp": [1]}]}, "instances[0].timestamp"),
]


@pytest.mark.parametrize(("message", "says"), BAD)
def test_a_bad_instance_is_refused_with_its_place_field_value_and_limit(message, says):
    with pytest.raises(RequestError) as caught:
        from_v1(orjson.dumps(message), stand_ins.SCHEMA)
    assert str(caught.value).startswith(says)


def test_a_rejection_is_400_and_another_type_of_content_415(server):
    answer = server.http.post(PREDICT, json=instances(user_id="7"))
    assert (answer.status_code, list(answer.json())) == (400, ["error"])
    headers = {"Content-Type": "application/octet-stream"}
    assert server.http.post(PREDICT, content=b"{}", headers=headers).status_code == 415


def test_kserves_own_client_of_v1_takes_the_answer(server, body):
    async def call():
        client = InferenceRESTClient(RESTConfig(protocol="v1"))
        try:
            assert await client.is_model_ready(server.url, "stand-in")
            return await client.infer(server.url, instances(), model_name="stand-in")
        finally:
            await client.close()

    answer = asyncio.run(call())
    assert answer["predictions"] == server.infer(body()).json()["outputs"][0]["data"]


def test_models_and_readiness_are_those_of_kserve(server):
    assert server.http.get("/v1/models").json() == {"models": ["stand-in"]}
    assert server.http.get("/v1/models/stand-in").json() == {"name": "stand-in", "ready": True}
    assert server.http.get("/v1/models/nobody").status_code == 404
