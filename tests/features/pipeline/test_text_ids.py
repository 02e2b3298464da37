"""Users whose ids are texts: the same path from the log to training and to an answer as numbers."""

import datetime

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pytest
from support.datasets import text_ids

from features.datasets import catalog
from features.encoding.encode import RowStatus, encode
from features.historical_features import historical_features
from features.lake.lake import Lake, day_range
from features.online_store import feast_store
from features.online_store.reader import open_rows
from features.places import place
from features.schema import Role
from serving.lookup.transformer import Transformer
from serving.observability.prediction_log import Answered, table_of
from serving.protocol.errors import RequestError
from serving.protocol.inference_request import from_rest
from serving.protocol.ranking_request import parse
from training.data.dataset import ExampleTable, user_groups
from training.evaluation.holdout import score_days
from training.metrics import evaluate

pytestmark = pytest.mark.spark
DAYS = day_range(text_ids.FIRST, text_ids.FIRST + datetime.timedelta(days=text_ids.NUM_DAYS - 1))
ENDED = datetime.datetime.combine(DAYS[-1], datetime.time(), datetime.UTC) + datetime.timedelta(1)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("text-ids")


@pytest.fixture(scope="module")
def work(spark, root):
    """All days but the last one in the online store; the last has landed and is pushed."""
    from features.pipeline import jobs, materialize
    from features.pipeline.ingestion.ingest import ingest
    from features.pipeline.workspace import Workspace
    from features.push.push_day import push_until
    from features.validation import checks

    schema = text_ids.data_set(root).schema
    text_ids.land(root / "landing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(catalog.discovery.SCHEMAS, str(root))
        work = Workspace(spark, schema, Lake(root / "lake", schema.name))
        feast_store.apply(schema, root / "feast", root / "lake")
        before = DAYS[:-1]
        ingest(work, root / "landing", before)
        assert not checks.check_impressions(work, before, root / "reports").critical
        jobs.publish_features(work, jobs.build(work, root / "landing", before), before)
        materialize.materialize_days(work, root / "feast", before)
        pushed = push_until(work, root / "landing", root / "feast", until=ENDED)
        assert pushed["impressions"] == text_ids.NUM_ROWS
        ingest(work, root / "landing", DAYS[-1:])
        assert not checks.check_impressions(work, DAYS[-1:], root / "reports").critical
        staged = jobs.build(work, root / "landing", DAYS[-1:])
        jobs.publish_features(work, staged, DAYS[-1:])
        jobs.examples(work, DAYS)
    return work


def request_of(schema, users, items):
    inputs = [
        {"name": name, "shape": [len(values)], "datatype": "BYTES", "data": values}
        for name, values in (("visitor", users), ("article", items))
    ]
    call = from_rest(orjson.dumps({"inputs": inputs}), json_length=None)
    return parse(schema, call, now=ENDED)


def test_each_user_has_the_history_that_the_log_gives_them(work):
    rows = work.impressions(DAYS).orderBy("timestamp").collect()
    states = work.features(work.schema.table("user_state"), DAYS).orderBy("event_timestamp")
    newest = {row["visitor"]: row for row in states.collect()}
    assert set(newest) == set(text_ids.USERS)
    assert len({row["example_id"] for row in rows}) == len(rows) == 3 * text_ids.NUM_ROWS
    assert "example_key" not in rows[0]
    for user, state in newest.items():
        own = [row for row in rows if row["visitor"] == user]
        history, labels = state["user_history_item_ids"], state["user_history_labels"]
        assert state["user_impressions_all"] == len(own)
        # The newest row is of the last label, an hour after the last impression, or of that.
        known = own[: state["user_labelled_all"]]
        assert history == [row["article"] for row in known[-10:]]
        assert labels == [row["bought"] for row in known[-10:]]


def test_an_answer_has_the_row_that_was_pushed(work, root):
    """What the push wrote is what the daily build made of the same impressions."""
    online = open_rows(work.schema, place(root / "feast"), timeout_seconds=5)
    request = request_of(work.schema, [text_ids.USERS[3]], text_ids.ARTICLES[:4])
    candidates = Transformer(work.schema, online=online).transform(request)
    assert candidates.statuses["user_state"].tolist() == [RowStatus.USABLE]
    states = work.features(work.schema.table("user_state"), DAYS)
    own = states.where(states.visitor == text_ids.USERS[3]).orderBy("event_timestamp").collect()
    assert (
        candidates.columns["user_impressions_all"].to_pylist() == [own[-1].user_impressions_all] * 4
    )
    assert candidates.columns["country"].to_pylist() == ["de"] * 4
    everyone, _ = online.read_all(Role.USER, most=1000)
    assert sorted(everyone) == sorted(text_ids.USERS)


def test_people_read_the_features_of_a_text_as_of_a_moment(work, root):
    asked = pd.DataFrame({"visitor": [text_ids.USERS[3], "nobody"], "event_timestamp": ENDED})
    feature = "user_impressions_all"
    found = historical_features(
        work.schema, asked, features=[f"user_state:{feature}"], lake=place(root / "lake")
    )
    states = work.features(work.schema.table("user_state"), DAYS)
    own = states.where(states.visitor == text_ids.USERS[3]).orderBy("event_timestamp").collect()
    counts = dict(zip(found["visitor"], found[feature].astype("Int64"), strict=True))
    assert counts[text_ids.USERS[3]] == own[-1][feature]
    assert counts["nobody"] is pd.NA


def test_a_user_id_that_is_a_number_is_refused(work):
    call = from_rest(
        orjson.dumps(
            {
                "inputs": [
                    {"name": "visitor", "shape": [1], "datatype": "INT64", "data": [7]},
                    {"name": "article", "shape": [1], "datatype": "BYTES", "data": ["a"]},
                ]
            }
        ),
        json_length=None,
    )
    with pytest.raises(RequestError, match=r"visitor.datatype.*INT64.*one of BYTES"):
        parse(work.schema, call, now=ENDED)


def test_the_prediction_log_has_the_ids_as_they_were_sent_and_encodes_again(work, root):
    online = open_rows(work.schema, place(root / "feast"), timeout_seconds=5)
    users = [text_ids.USERS[1], "nobody", text_ids.USERS[1]]
    request = request_of(work.schema, users, text_ids.ARTICLES[:3])
    candidates = Transformer(work.schema, online=online).transform(request)
    answered = Answered(
        request_id="r",
        answered_at=ENDED,
        model_version="1",
        scores=np.zeros(3, np.float32),
        candidates=candidates,
    )
    logged = table_of(work.schema, answered)
    assert logged.column("sent_user_id").to_pylist() == users
    assert logged.column("user_state__status").to_pylist() == ["usable", "unknown", "usable"]
    again = encode(work.schema, {name: logged.column(name) for name in candidates.columns})
    rows = [candidates.inputs.user[n] for n in range(3)]
    assert rows == [0, 1, 0]
    served = candidates.inputs.shared["visitor"].values
    assert again.ids["visitor"].values.tolist() == [served[row] for row in rows]


def test_the_gate_groups_the_rows_by_their_users(work, root):
    """One group a user, over parts that are read one after the other."""
    table = ExampleTable(place(root / "lake"), work.schema)

    class Oracle:
        def score(self, inputs):
            return np.linspace(0.1, 0.9, len(inputs.dense), dtype=np.float32)

    scored = score_days(work.schema, table, DAYS, {"candidate": Oracle()})
    assert scored.holdout.num_users() == len(text_ids.USERS)
    metrics = evaluate(scored.scores["candidate"], scored.holdout.label, scored.holdout.group)
    assert 0 < metrics.gauc < 1
    examples = next(table.stream_judged(DAYS, rows=10_000))
    assert isinstance(examples.table, pa.Table)
    assert len(np.unique(user_groups(examples, work.schema))) == len(text_ids.USERS)
