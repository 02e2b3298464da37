"""The endpoint over real HTTP and gRPC: answers, flags, metadata, readiness."""

import concurrent.futures

import numpy as np
import orjson
import pytest
import tritonclient.http
from support.serving import stand_ins
from support.serving.good_requests import flags

from features.encoding.encode import encode
from serving.protocol.fields import MAX_CANDIDATES
from serving.protocol.inference_request import from_rest
from serving.protocol.ranking_request import parse
from serving.release.metrics_window import observe, samples


def outputs(answer):
    return {output["name"]: output["data"] for output in answer.json()["outputs"]}


def expected_scores(body, *, version_day=1):
    """Scores from the stored rows by a path without the server's join."""
    store = stand_ins.StandInStore(stand_ins.SCHEMA, stand_ins.sample_rows())
    call = from_rest(orjson.dumps(body), json_length=None)
    request = parse(stand_ins.SCHEMA, call, now=stand_ins.NOON)
    scores = []
    for place, item in enumerate(request.item_ids):
        columns = {name: values.slice(place, 1) for name, values in request.columns.items()}
        columns |= store.read(stand_ins.Role.USER, request.user_ids)
        columns |= store.read(stand_ins.Role.ITEM, [item])
        inputs = encode(stand_ins.SCHEMA, columns)
        scores.append(float(stand_ins.score(inputs, offset=version_day)[0]))
    return scores


class TestAnswer:
    def test_scores_are_in_request_order_and_equal_row_by_row_encoding(self, server, body):
        answer = server.infer(body())
        assert answer.status_code == 200
        assert outputs(answer)["score"] == pytest.approx(expected_scores(body()), abs=0)

    def test_answer_names_the_version_and_keeps_the_request_id(self, server, body):
        answer = server.infer({**body(), "id": "mine"}).json()
        assert (answer["model_version"], answer["model_name"]) == ("2025-06-01-first", "stand-in")
        assert answer["id"] == "mine"

    def test_a_request_without_id_gets_one(self, server, body):
        assert len(server.infer(body()).json()["id"]) == 36

    def test_known_user_and_items_are_not_degraded(self, server, body):
        answer = server.infer(body())
        assert flags(answer.json()["parameters"]) == {"degraded": False}
        assert outputs(answer)["item_status"] == ["ok"] * 3
        assert outputs(answer)["user_status"] == ["ok"]

    def test_statuses_of_items_follow_the_time_to_live_and_the_request_time(self, server, body):
        items = ["a", "d", "e", "f", "nobody-knows"]
        answer = server.infer(
            body(item_id={"shape": [5], "data": items}, position={"shape": [1], "data": [1]})
        )
        statuses = ["ok", "expired", "future", "unknown", "unknown"]
        assert outputs(answer)["item_status"] == statuses
        assert flags(answer.json()["parameters"]) == {
            "degraded": True,
            "num_expired_item_daily": 1,
            "num_future_item_daily": 1,
            "num_unknown_item_daily": 2,
            "num_unknown_item_attributes": 1,
        }

    @pytest.mark.parametrize("user_id", [8, 0, 100, -(2**63), 2**63 - 1])
    def test_an_unknown_user_is_flagged_and_still_ranked(self, server, body, user_id):
        answer = server.infer(body(user_id={"data": [user_id]}))
        assert outputs(answer)["user_status"] == ["unknown"]
        assert len(outputs(answer)["score"]) == 3

    def test_each_candidate_may_have_a_user_of_its_own(self, server, body):
        users = {"shape": [3], "data": [8, 7, 8]}
        answer = server.infer(body(user_id=users))
        assert outputs(answer)["user_status"] == ["unknown", "ok", "unknown"]
        assert flags(answer.json()["parameters"]) == {"degraded": True, "num_unknown_user_state": 1}
        alone = [
            outputs(server.infer(body(user_id={"data": [user]})))["score"][place]
            for place, user in enumerate(users["data"])
        ]
        assert outputs(answer)["score"] == pytest.approx(alone, abs=1e-7)
        assert len({round(score, 6) for score in alone}) == 3

    def test_neither_one_user_nor_one_for_each_candidate_is_refused(self, server, body):
        answer = server.infer(body(user_id={"shape": [2], "data": [7, 8]}))
        says = "user_id.shape: [2]; [1] or [3], the number of candidates"
        assert (answer.status_code, answer.json()) == (400, {"error": says})

    def test_many_callers_at_once_get_the_answers_that_each_gets_alone(self, server, body):
        """Scored together, sums may be ordered differently: equal within 1e-6."""
        bodies = [
            body(user_id={"data": [7 + place % 2]}, price={"data": [float(place)]})
            for place in range(24)
        ]
        alone = [outputs(server.infer(one))["score"] for one in bodies]
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            together = [outputs(answer)["score"] for answer in pool.map(server.infer, bodies)]
        np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)

    def test_absent_or_impossible_context_is_flagged_and_still_ranked(self, server, body):
        answer = server.infer(body(position={"data": [1, 7, 2]}, device=None))
        assert answer.json()["parameters"]["missing_context"] == "position,device"
        assert answer.json()["parameters"]["degraded"] is True

    def test_epoch_microseconds_and_iso_8601_are_the_same_moment(self, server, body):
        micros = int(stand_ins.NOON.timestamp() * 1_000_000)
        as_number = server.infer(body(timestamp={"datatype": "INT64", "data": [micros]}))
        assert outputs(as_number) == outputs(server.infer(body()))

    def test_without_a_timestamp_the_moment_is_now(self, server, body):
        assert set(outputs(server.infer(body(timestamp=None)))["item_status"]) == {"expired"}

    def test_smaller_integers_and_floats_are_accepted(self, server, body):
        small = body(user_id={"datatype": "UINT8"}, price={"datatype": "FP32"})
        assert outputs(server.infer(small)) == outputs(server.infer(body()))

    def test_ten_thousand_candidates_are_ranked(self, server, body):
        items = [f"item-{n}" for n in range(MAX_CANDIDATES)]
        many = body(
            item_id={"shape": [MAX_CANDIDATES], "data": items}, position={"shape": [1], "data": [1]}
        )
        assert len(outputs(server.infer(many))["score"]) == MAX_CANDIDATES

    def test_outputs_come_in_the_order_of_the_metadata(self, server, body):
        assert list(outputs(server.infer(body()))) == ["score", "item_status", "user_status"]

    def test_only_requested_outputs_come_back(self, server, body):
        answer = server.infer({**body(), "outputs": [{"name": "score"}]})
        assert list(outputs(answer)) == ["score"]

    def test_the_version_may_be_named_in_the_path(self, server, body):
        answer = server.infer(body(), path="stand-in/versions/2025-06-01-first/infer")
        assert answer.status_code == 200

    def test_metrics_count_requests_and_rows(self, server, body):
        server.infer(body(user_id={"data": [8]}))
        text = server.http.get("/metrics").text
        assert 'ranking_requests_total{model="stand-in",outcome="degraded"}' in text
        assert (
            'ranking_feature_rows_total{model="stand-in",status="unknown",table="user_state"}'
            in text
        )

    def test_metrics_have_what_a_rollout_reads(self, server, body):
        before = {"pod": samples(server.http.get("/metrics").text)}
        for _ in range(3):
            server.infer(body())
        server.infer(body(user_id={"data": ["x"]}))
        seen = observe(before, {"pod": samples(server.http.get("/metrics").text)})
        assert (seen.num_requests, seen.num_failed) == (3, 0)
        assert (sum(seen.seconds.counts), sum(seen.scores.counts)) == (3, 3)

    def test_metrics_tell_our_failures_from_the_callers(self, server):
        assert {answer.status_code for answer in server.before_load.values()} >= {503}
        text = server.http.get("/metrics").text
        assert 'ranking_requests_total{model="stand-in",outcome="failed"}' in text


class TestTritonClient:
    def tensors(self):
        shapes = {
            "user_id": np.array([7], dtype=np.int64),
            "item_id": np.array(["a", "b", "c"], dtype=np.object_),
            "position": np.array([1, 2, 3], dtype=np.int64),
            "price": np.array([9.5], dtype=np.float64),
            "device": np.array([b"phone"], dtype=np.object_),
            "timestamp": np.array([stand_ins.NOON.timestamp() * 1e6], dtype=np.int64),
        }
        types = {"item_id": "BYTES", "price": "FP64", "device": "BYTES"}
        for name, values in shapes.items():
            tensor = tritonclient.http.InferInput(
                name, list(values.shape), types.get(name, "INT64")
            )
            tensor.set_data_from_numpy(values)
            yield tensor

    @pytest.mark.parametrize("asks_for_binary", [None, True, False])
    def test_http_with_binary_tensors_both_ways(self, server, body, asks_for_binary):
        requested = None
        if asks_for_binary is not None:
            requested = [
                tritonclient.http.InferRequestedOutput(name, binary_data=asks_for_binary)
                for name in ("score", "item_status", "user_status")
            ]
        with tritonclient.http.InferenceServerClient(server.url.removeprefix("http://")) as client:
            result = client.infer("stand-in", list(self.tensors()), outputs=requested)
        assert result.as_numpy("score").tolist() == expected_scores(body())
        assert result.as_numpy("score").dtype == np.float32
        statuses = [s if isinstance(s, str) else s.decode() for s in result.as_numpy("item_status")]
        assert statuses == ["ok"] * 3
        assert result.get_response()["model_version"] == "2025-06-01-first"

    def test_readiness_metadata_and_index(self, server):
        with tritonclient.http.InferenceServerClient(server.url.removeprefix("http://")) as client:
            assert client.is_server_live()
            assert client.is_server_ready()
            assert client.is_model_ready("stand-in")
            assert client.is_model_ready("stand-in", "2025-06-01-first")
            assert not client.is_model_ready("stand-in", "2024-01-01")
            assert client.get_model_metadata("stand-in")["versions"] == ["2025-06-01-first"]
            assert client.get_model_repository_index() == [
                {"name": "stand-in", "version": "2025-06-01-first", "state": "READY", "reason": ""}
            ]


class TestMetadata:
    def test_every_input_and_output_has_type_and_shape(self, server):
        metadata = server.http.get("/v2/models/stand-in").json()
        described = {
            side: [(t["name"], t["datatype"], t["shape"]) for t in metadata[side]]
            for side in ("inputs", "outputs")
        }
        assert described == {
            "inputs": [
                ("user_id", "INT64", [-1]),
                ("item_id", "BYTES", [-1]),
                ("position", "INT64", [-1]),
                ("price", "FP64", [-1]),
                ("device", "BYTES", [-1]),
                ("timestamp", "INT64", [1]),
            ],
            "outputs": [
                ("score", "FP32", [-1]),
                ("item_status", "BYTES", [-1]),
                ("user_status", "BYTES", [-1]),
            ],
        }


class TestWithoutAChampion:
    def test_live_but_not_ready(self, server):
        assert server.before_load["health/live"].status_code == 200
        assert server.before_load["health/ready"].status_code == 503
        assert "error" in server.before_load["health/ready"].json()

    def test_infer_answers_503_with_the_reason(self, server):
        answer = server.before_load["infer"]
        assert answer.status_code == 503
        reason = "alias champion: not set; promote a version first"
        assert answer.json() == {"error": f"model: 'stand-in'; not ready: champion None: {reason}"}

    def test_load_answers_409(self, server):
        assert server.before_load["load"].status_code == 409

    def test_metadata_and_index_say_that_nothing_is_loaded(self, server):
        assert server.before_load["models/stand-in"].json()["versions"] == []
        assert server.before_load["repository/index"].json()[0]["state"] == "UNAVAILABLE"
