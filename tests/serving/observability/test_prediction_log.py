"""The log of answers: what a caller got and why is read back from Parquet, hour by hour."""

import dataclasses
import datetime
import io
import os
import threading
import time

import numpy as np
import orjson
import prometheus_client
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from support.serving import stand_ins

from features.encoding.encode import encode
from serving.lookup.transformer import Transformer
from serving.observability import prediction_log
from serving.observability.prediction_log import Answered, RequestLog
from serving.protocol.inference_request import from_rest
from serving.protocol.ranking_request import parse
from serving.settings import Logging


def files(folder):
    return sorted((folder / stand_ins.SCHEMA.name).rglob("*.parquet"))


def rows_of(folder, request_id):
    """The logged rows of a request, which come a moment after the answer."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = files(folder)
        if found:
            table = ds.dataset(found).to_table(filter=ds.field("request_id") == request_id)
            if len(table):
                return table.sort_by("place")
        time.sleep(0.05)
    raise TimeoutError(f"{request_id} in {folder}")


def answered(body, *, at=stand_ins.NOON, request_id="one"):
    store = stand_ins.StandInStore(stand_ins.SCHEMA, stand_ins.sample_rows())
    call = from_rest(orjson.dumps(body), json_length=None)
    request = parse(stand_ins.SCHEMA, call, now=stand_ins.NOON)
    candidates = Transformer(stand_ins.SCHEMA, online=store).transform(request)
    scores = stand_ins.score(stand_ins.tiled(candidates.inputs))
    return Answered(
        request_id=request_id,
        answered_at=at,
        model_version="v",
        scores=scores,
        candidates=candidates,
    )


def count(outcome):
    labels = {"model": "stand-in", "outcome": outcome}
    return prometheus_client.REGISTRY.get_sample_value("ranking_logged_answers_total", labels) or 0


def settings(folder, **changes):
    return Logging(**{"share": 1.0, "folder": folder, "flush_seconds": 60, **changes})


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
    table = rows_of(guarded.records, "traced")
    after = datetime.datetime.now(datetime.UTC)
    score = answer["outputs"][0]["data"]
    rows = table.to_pylist()
    assert [row["score"] for row in rows] == score
    assert [row["sent_item_id"] for row in rows] == ["a", "d", "nobody"]
    assert [(row["sent_user_id"], row["user_id"]) for row in rows] == [(200, None)] * 3
    assert {row["model_version"] for row in rows} == {answer["model_version"]}
    assert [row["item_daily__status"] for row in rows] == ["usable", "expired", "unknown"]
    assert {row["user_state__status"] for row in rows} == {"unknown"}
    assert {row["is_degraded"] for row in rows} == {True}
    assert {tuple(row["missing_context"]) for row in rows} == {("position", "device")}
    assert [row["position"] for row in rows] == [1, None, 2]
    stored_at = stand_ins.NOON - datetime.timedelta(days=1)
    times = [row["item_daily__event_timestamp"] for row in rows]
    assert times == [stored_at, None, None]
    assert [row["item_weight"] for row in rows] == [0.0, 0.3, None]
    assert {row["timestamp"] for row in rows} == {stand_ins.NOON}
    assert all(before <= row["answered_at"] <= after for row in rows)


def test_each_candidate_of_several_users_is_logged_with_its_own(guarded, body):
    given = body(user_id={"shape": [3], "data": [7, 200, 7]})
    answer = guarded.infer({**given, "id": "several"}).json()
    assert answer["outputs"][2]["data"] == ["ok", "unknown", "ok"]
    rows = rows_of(guarded.records, "several").to_pylist()
    assert [(row["sent_user_id"], row["user_id"]) for row in rows] == [
        (7, 7),
        (200, None),
        (7, 7),
    ]
    assert [row["user_state__status"] for row in rows] == ["usable", "unknown", "usable"]


def test_the_logged_columns_encode_again_to_the_inputs_that_were_scored(guarded, degraded):
    answer = guarded.infer({**degraded, "id": "replayed"}).json()
    table = rows_of(guarded.records, "replayed").combine_chunks()
    columns = {name: table.column(name).combine_chunks() for name in table.column_names}
    inputs = encode(stand_ins.SCHEMA, columns)
    again = stand_ins.score(inputs, offset=1)
    assert again.tolist() == np.array(answer["outputs"][0]["data"], dtype=np.float32).tolist()


def test_each_hour_has_its_folder_and_stopping_writes_what_waits(tmp_path, body):
    log = RequestLog(stand_ins.SCHEMA, settings(tmp_path))
    log.start()
    late = stand_ins.NOON.replace(hour=23, minute=59)
    log.offer(answered(body(), at=late, request_id="before"))
    log.offer(answered(body(), at=late + datetime.timedelta(minutes=1), request_id="after"))
    log.stop()
    found = {
        str(path.parent.relative_to(tmp_path / "stand-in")): set(
            pq.read_table(path, partitioning=None).column("request_id").to_pylist()
        )
        for path in files(tmp_path)
    }
    assert found == {
        "day=2025-06-15/hour=23": {"before"},
        "day=2025-06-16/hour=00": {"after"},
    }


def test_answers_are_written_whole_wherever_they_lie(anywhere, body):
    log = RequestLog(stand_ins.SCHEMA, settings(anywhere))
    log.start()
    log.offer(answered(body(), request_id="one"))
    log.stop()
    (file,) = (path for path in (anywhere / "stand-in").rglob("*") if path.is_file())
    assert file.parent == anywhere / "stand-in" / "day=2025-06-15" / "hour=12"
    assert pq.read_table(io.BytesIO(file.read_bytes()))["request_id"].to_pylist() == ["one"] * 3


def test_a_share_is_logged_and_none_by_default(tmp_path, body, monkeypatch):
    chances = iter([0.1, 0.29, 0.3, 0.9])
    monkeypatch.setattr(prediction_log.random, "random", lambda: next(chances))
    log = RequestLog(stand_ins.SCHEMA, settings(tmp_path, share=0.3))
    log.start()
    for number in range(4):
        log.offer(answered(body(), request_id=str(number)))
    log.stop()
    assert set(ds.dataset(files(tmp_path)).to_table()["request_id"].to_pylist()) == {"0", "1"}
    monkeypatch.undo()
    quiet = RequestLog(stand_ins.SCHEMA, Logging(folder=tmp_path / "none"))
    quiet.start()
    quiet.offer(answered(body()))
    quiet.stop()
    assert not (tmp_path / "none").exists()


def test_a_slow_disk_delays_no_answer_and_what_does_not_fit_is_counted(tmp_path, body, monkeypatch):
    is_open = threading.Event()
    write = pq.write_table

    def blocked(*arguments, **options):
        is_open.wait(20)
        write(*arguments, **options)

    monkeypatch.setattr(prediction_log.pq, "write_table", blocked)
    monkeypatch.setattr(prediction_log, "MAX_WAITING_ROWS", 9)
    monkeypatch.setattr(prediction_log, "FLUSH_ROWS", 3)
    log = RequestLog(stand_ins.SCHEMA, settings(tmp_path))
    log.start()
    one, before = answered(body()), (count("written"), count("dropped"))
    log.offer(one)
    while log._waiting:
        time.sleep(0.01)
    started = time.monotonic()
    for _ in range(5):
        log.offer(one)
    seconds = time.monotonic() - started
    is_open.set()
    log.stop()
    # One is being written, three of three rows wait, two are dropped.
    assert (count("written") - before[0], count("dropped") - before[1]) == (4, 2)
    assert seconds < 1


def test_a_schema_with_a_column_of_the_logs_own_name_cannot_be_logged(tmp_path):
    price = dataclasses.replace(stand_ins.SCHEMA.context[1], name="score")
    schema = dataclasses.replace(stand_ins.SCHEMA, context=(price,))
    with pytest.raises(ValueError, match="column score: of schema stand-in"):
        RequestLog(schema, settings(tmp_path)).start()


def test_a_failed_write_is_counted_and_leaves_no_file(tmp_path, body, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    log, before = RequestLog(stand_ins.SCHEMA, settings(tmp_path)), count("failed")
    log.start()
    log.offer(answered(body()))
    log.stop()
    assert count("failed") - before == 1
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_tables_of_answers_with_and_without_features_fit_together(body, degraded):
    tables = [
        prediction_log.table_of(stand_ins.SCHEMA, answered(given)) for given in (body(), degraded)
    ]
    assert len(pa.concat_tables(tables)) == 6
