"""The ranked answer of any data set: its request is one that the endpoint takes."""

import datetime
from pathlib import Path

import pyarrow as pa
import pytest

from features.datasets.catalog import data_set_at, schema_of
from features.schema import Dtype
from infra.demo import sample_request
from serving.protocol.fields import Tensor, checked_values, size_of
from serving.protocol.inference_request import InferenceCall
from serving.protocol.ranking_request import parse

SHOP = Path(__file__).resolve().parents[2] / "support" / "shop" / "shop.yaml"
DAY = datetime.date(2025, 3, 4)
NOON = datetime.datetime(2025, 3, 4, 12, tzinfo=datetime.UTC)


class Rows:
    """A version of a table of the lake."""

    def __init__(self, rows):
        self.days, self.rows = [DAY], rows

    def read(self, _day):
        return pa.Table.from_pylist(self.rows)


def shop():
    return data_set_at(SHOP).schema


def impression(visitor, article, **changed):
    row = {"visitor": visitor, "article": article, "device": "phone", "place": 3, "basket": 1.5}
    return {**row, "since": 5, "clicked": 1, **changed}


@pytest.fixture
def asked(monkeypatch):
    """Gives a lake its rows; returns what was sent."""
    sent = []

    def give(impressions, items=()):
        tables = {"impressions": Rows(impressions), "item_attributes": Rows(list(items))}
        monkeypatch.setattr(sample_request, "snapshot", lambda path: tables[path.name])

        def call(url, *, method, body):
            sent.append((url, method, body))
            number = body["inputs"][0]["shape"][0]
            scores = {"name": "score", "data": [n / 10 for n in range(number)]}
            return {"outputs": [scores], "model_version": "v"}

        monkeypatch.setattr(sample_request, "call", call)
        return sent

    return give


def parsed(schema, body):
    tensors = {}
    for one in body["inputs"]:
        size = size_of(one["name"], one["shape"])
        values = checked_values(one["name"], one["datatype"], values=one["data"], size=size)
        tensors[one["name"]] = Tensor(one["name"], one["datatype"], values)
    call = InferenceCall(id="1", tensors=tensors, outputs={}, is_binary=False)
    return parse(schema, call, now=NOON)


def test_a_request_brings_ids_and_context_of_every_type(asked):
    """Of the visitor with most impressions; each article once; at a time when features count."""
    rows = [impression("v-1", "a-9"), impression("v-2", "a-2"), impression("v-2", "a-1", place=7)]
    sent = asked(rows, [{"article": "a-2", "name": "Mug"}])
    answer = sample_request.ranked_answer(
        shop(), lake=Path("lake"), day=DAY, endpoint="http://there"
    )
    request = parsed(shop(), sent[0][2])
    columns = {name: values.to_pylist() for name, values in request.columns.items()}
    assert columns["article"] == ["a-1", "a-2"]
    assert columns["visitor"] == ["v-2", "v-2"]
    assert columns["place"] == [7, 3]
    assert columns["basket"] == [1.5, 1.5]
    assert request.missing_context == ()
    # Features of articles count five hours after the day, those of visitors after minutes.
    midnight = datetime.datetime(2025, 3, 5, 5, tzinfo=datetime.UTC)
    assert request.request_time == int(midnight.timestamp() * 1e6)
    assert [(one["item"], one["title"], one["clicked"]) for one in answer["items"]] == [
        ("a-2", "Mug", 1),
        ("a-1", "", 1),
    ]


def test_a_column_in_which_a_value_is_missing_is_left_out(asked):
    rows = [impression("v-1", "a-1"), impression("v-1", "a-2", basket=None)]
    sent = asked(rows)
    sample_request.ranked_answer(shop(), lake=Path("lake"), day=DAY, endpoint="http://there")
    assert parsed(shop(), sent[0][2]).missing_context == ("basket",)


def test_users_without_an_id_are_not_asked_for(asked, tmp_path):
    schema = schema_of("open-bandit")
    names = {column.name: column for column in (schema.item, *schema.context)}
    values = {Dtype.INT64: 1, Dtype.FLOAT64: 0.5, Dtype.STRING: "a"}
    row = {name: values[column.dtype] for name, column in names.items()}
    sent = asked([{**row, schema.label.column: 0}])
    answer = sample_request.ranked_answer(schema, lake=tmp_path, day=DAY, endpoint="http://there")
    assert answer["user"] is None
    assert len(parsed(schema, sent[0][2])) == 1


def test_a_day_without_impressions_is_named(asked):
    asked([])
    with pytest.raises(ValueError, match="impressions on 2025-03-04: no rows"):
        sample_request.ranked_answer(shop(), lake=Path("lake"), day=DAY, endpoint="http://there")
