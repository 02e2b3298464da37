"""The log of answers: what a caller got and why is read back from its table."""

import dataclasses
import datetime
import os
import socket
import threading
import time

import deltalake
import numpy as np
import prometheus_client
import pytest
from support.logs.answers import answered, everything, rows_of
from support.serving import stand_ins

from features.encoding.encode import encode
from features.prediction_log import table as log_table
from features.prediction_log.hashed_ids import IdHash
from features.prediction_log.replay import encoded_columns
from features.prediction_log.table import table_root
from serving.observability import prediction_log
from serving.observability.answered import Arm
from serving.observability.prediction_log import RequestLog
from serving.settings import Logging

KEY = b"a-key-of-the-tests-of-32-bytes-or-more"


def count(outcome):
    labels = {"model": "stand-in", "outcome": outcome}
    return prometheus_client.REGISTRY.get_sample_value("ranking_logged_answers_total", labels) or 0


def settings(folder, **changes):
    return Logging(**{"share": 1.0, "folder": folder, "flush_seconds": 60, **changes})


def logged(folder, *answers, key=None):
    """The rows of answers that one process has logged."""
    log = RequestLog(stand_ins.SCHEMA, settings(folder), key=key)
    log.start()
    for one in answers:
        log.offer(one)
    log.stop()
    return everything(folder).to_pylist()


@pytest.fixture
def degraded(body):
    """User 200, whom no row of the schema's can be; a known, an expired and an unknown item."""
    return body(
        user_id={"data": [200]},
        item_id={"data": ["a", "d", "nobody"]},
        position={"data": [1, 7, 2]},
        device=None,
    )


def test_an_answer_over_rest_is_read_back_with_all_that_it_was_made_of(guarded, degraded):
    before = datetime.datetime.now(datetime.UTC)
    answer = guarded.infer({**degraded, "id": "traced"}).json()
    rows = rows_of(guarded.records, "traced").to_pylist()
    after = datetime.datetime.now(datetime.UTC)
    score = answer["outputs"][0]["data"]
    assert [row["score"] for row in rows] == score
    assert [row["rank"] for row in rows] == [1 + sum(s > own for s in score) for own in score]
    assert [row["sent_item_id"] for row in rows] == ["a", "d", "nobody"]
    assert [(row["user_key"], row["user_id"]) for row in rows] == [("200", None)] * 3
    assert {row["model_version"] for row in rows} == {answer["model_version"]}
    assert {row["answer_id"] for row in rows} == {answer["parameters"]["answer_id"]}
    assert [row["item_daily__status"] for row in rows] == ["usable", "expired", "unknown"]
    assert {row["user_state__status"] for row in rows} == {"unknown"}
    assert [row["degraded_by"] for row in rows] == [
        [
            *("missing_context:position", "missing_context:device", "unknown:user_state"),
            *("unknown:item_daily", "expired:item_daily", "unknown:item_attributes"),
        ]
    ] * 3
    assert [row["position"] for row in rows] == [1, None, 2]
    assert {row["timestamp"] for row in rows} == {stand_ins.NOON}
    assert {row["is_time_given"] for row in rows} == {True}
    assert {(row["stratum"], row["inclusion_probability"]) for row in rows} == {("degraded", 1.0)}
    assert {(row["arm"], row["arm_percent"], row["role"]) for row in rows} == {
        ("stable", 100.0, "champion")
    }
    assert {(row["pod"], row["process"]) for row in rows} == {
        (socket.gethostname(), guarded.server.pid)
    }
    assert {row["schema_fingerprint"] for row in rows} == {stand_ins.SCHEMA.fingerprint()}
    times = [(row["read_at"], row["answered_at"]) for row in rows]
    assert all(before <= read <= at <= after for read, at in times)


def test_values_are_those_that_were_read_whether_or_not_they_could_be_used(tmp_path, degraded):
    """With the times of their rows: why the model did without them is seen from the log alone."""
    rows = logged(tmp_path, answered(degraded))
    stored_at = stand_ins.NOON - datetime.timedelta(days=1)
    expired_at = stand_ins.NOON - datetime.timedelta(days=8)
    assert [row["item_daily__event_timestamp"] for row in rows] == [stored_at, expired_at, None]
    assert [row["item_daily__created"] for row in rows] == [stored_at, expired_at, None]
    assert [row["item_impressions_1d"] for row in rows] == [0, 3, None]
    used = encoded_columns(stand_ins.SCHEMA, everything(tmp_path))
    assert used["item_daily__event_timestamp"].to_pylist() == [stored_at, None, None]
    assert used["item_impressions_1d"].to_pylist() == [0, None, None]
    assert used["item_weight"].to_pylist() == [0.0, 0.3, None]


def test_each_candidate_of_several_users_is_logged_with_its_own(guarded, body):
    given = body(user_id={"shape": [3], "data": [7, 200, 7]})
    answer = guarded.infer({**given, "id": "several"}).json()
    assert answer["outputs"][2]["data"] == ["ok", "unknown", "ok"]
    rows = rows_of(guarded.records, "several").to_pylist()
    assert [(row["user_key"], row["user_id"]) for row in rows] == [
        ("7", 7),
        ("200", None),
        ("7", 7),
    ]
    assert [row["user_state__status"] for row in rows] == ["usable", "unknown", "usable"]


def test_the_logged_columns_encode_again_to_the_inputs_that_were_scored(guarded, degraded):
    answer = guarded.infer({**degraded, "id": "replayed"}).json()
    columns = encoded_columns(stand_ins.SCHEMA, rows_of(guarded.records, "replayed"))
    again = stand_ins.score(encode(stand_ins.SCHEMA, columns), offset=1)
    assert again.tolist() == np.array(answer["outputs"][0]["data"], dtype=np.float32).tolist()


def test_each_hour_is_a_partition_and_stopping_writes_what_waits(tmp_path, body):
    late = stand_ins.NOON.replace(hour=23, minute=59)
    minute = datetime.timedelta(minutes=1)
    rows = logged(
        tmp_path,
        answered(body(), answered_at=late, request_id="before"),
        answered(body(), answered_at=late + minute, request_id="after"),
    )
    found = {(row["request_id"], str(row["day"]), row["hour"]) for row in rows}
    assert found == {("before", "2025-06-15", 23), ("after", "2025-06-16", 0)}


def test_answers_are_written_wherever_the_table_lies(anywhere, body):
    rows = logged(anywhere, answered(body(), request_id="one"))
    assert [row["request_id"] for row in rows] == ["one"] * 3


def test_nothing_is_logged_without_a_share(tmp_path, body):
    quiet = RequestLog(stand_ins.SCHEMA, Logging(folder=tmp_path / "none"))
    quiet.start()
    quiet.offer(answered(body()))
    quiet.stop()
    assert not (tmp_path / "none").exists()


def test_what_is_the_shadows_alone_is_not_logged(tmp_path, body):
    assert logged(tmp_path, answered(body(), inclusion=None)) == []


def test_hashed_ids_are_equal_for_equal_ids_and_nothing_has_the_ids_themselves(tmp_path, body):
    """In no column: with the key their hashes can be made again, and compared."""
    given = body(user_id={"shape": [3], "data": [77, 78, 77]})
    rows = logged(tmp_path, answered(given, request_id="secret-request"), key=KEY)
    hashed = IdHash(KEY)
    assert [row["user_key"] for row in rows] == [hashed.user(one) for one in (77, 78, 77)]
    assert {row["request_id"] for row in rows} == {hashed.request("secret-request")}
    assert {row["hash_key_id"] for row in rows} == {hashed.key_id}
    values = {str(value) for row in rows for name, value in row.items() if name != "process"}
    assert not values & {"77", "78", "secret-request"}
    assert hashed.user("one") != hashed.request("one")
    assert IdHash(KEY + b"x").user(77) != hashed.user(77)
    # A log of another key, or of none, has the same columns.
    plain = logged(tmp_path, answered(given, request_id="plain"))[:3]
    assert {(row["request_id"], row["hash_key_id"]) for row in plain} == {("plain", None)}


def test_lost_rows_are_in_the_next_commit_and_a_slow_disk_delays_no_answer(
    tmp_path, body, monkeypatch
):
    is_open, write = threading.Event(), log_table.write_deltalake

    def blocked(*arguments, **options):
        is_open.wait(60)
        write(*arguments, **options)

    monkeypatch.setattr(log_table, "write_deltalake", blocked)
    monkeypatch.setattr(prediction_log, "MAX_WAITING_ROWS", 9)
    monkeypatch.setattr(prediction_log, "FLUSH_ROWS", 3)
    log = RequestLog(stand_ins.SCHEMA, settings(tmp_path))
    log.start()
    one, before = answered(body()), (count("written"), count("dropped"))
    log.offer(one)
    while log._waiting:
        time.sleep(0.01)
    for _ in range(5):
        log.offer(one)  # would wait for a minute, did it wait for the disk
    assert not is_open.is_set()
    is_open.set()
    log.stop()
    # One is being written, three of three rows wait, two are dropped.
    assert (count("written") - before[0], count("dropped") - before[1]) == (4, 2)
    history = deltalake.DeltaTable(table_root(tmp_path, "stand-in")).history()
    said = [[one.get(name) for name in ("answers", "lost_answers", "lost_rows")] for one in history]
    assert said == [[3, 2, 6], [1, 0, 0], [None, None, None]]


def test_a_schema_with_a_column_of_the_logs_own_name_cannot_be_logged(tmp_path):
    price = dataclasses.replace(stand_ins.SCHEMA.context[1], name="score")
    schema = dataclasses.replace(stand_ins.SCHEMA, context=(price,))
    with pytest.raises(ValueError, match="column score: of schema stand-in"):
        RequestLog(schema, settings(tmp_path)).start()


def test_a_failed_write_is_counted_and_so_are_its_rows_at_the_next_one(tmp_path, body, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    log, before = (
        RequestLog(stand_ins.SCHEMA, settings(tmp_path, flush_seconds=0.1)),
        count("failed"),
    )
    log.start()
    with monkeypatch.context() as patched:
        patched.setattr(log_table, "write_deltalake", full)
        log.offer(answered(body(), request_id="lost"))
        deadline = time.monotonic() + 60
        while count("failed") == before and time.monotonic() < deadline:
            time.sleep(0.01)
    log.offer(answered(body(), request_id="kept"))
    log.stop()
    assert count("failed") - before == 1
    assert {row["request_id"] for row in everything(tmp_path).to_pylist()} == {"kept"}
    (newest,) = deltalake.DeltaTable(table_root(tmp_path, "stand-in")).history(1)
    assert (newest["answers"], newest["lost_answers"], newest["lost_rows"]) == (1, 1, 3)


def test_the_arm_of_a_canary_and_its_salt_are_logged(tmp_path, body):
    arm = Arm("canary", 25.0, "a+b")
    (row, *_) = logged(tmp_path, answered(body(), role="canary", arm=arm))
    assert (row["arm"], row["arm_percent"], row["arm_salt"]) == ("canary", 25.0, "a+b")
    assert (row["stratum"], row["inclusion_probability"]) == ("canary", 1.0)
    assert row["process"] == os.getpid()
