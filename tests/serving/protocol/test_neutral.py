"""A context column that training sees and serving neutralises, such as the position."""

import dataclasses
import re

import numpy as np
import orjson
import pyarrow as pa
import pytest
from support.serving import stand_ins
from support.training.artifacts import random_rows

from features.encoding.encode import encode
from features.schema import Column, DeclarationError, Dtype, Kind
from serving.lookup.transformer import Transformer
from serving.protocol.inference_request import from_rest
from serving.protocol.ranking_request import parse
from serving.transport.openapi import document

POSITION = dataclasses.replace(stand_ins.SCHEMA.context[0], neutral=2)
SCHEMA = dataclasses.replace(stand_ins.SCHEMA, context=(POSITION, *stand_ins.SCHEMA.context[1:]))
STORE = stand_ins.StandInStore(SCHEMA, {})


def asked(*, position: list[int] | None, schema=SCHEMA):
    inputs = [
        {"name": "user_id", "shape": [1], "datatype": "INT64", "data": [7]},
        {"name": "item_id", "shape": [3], "datatype": "BYTES", "data": ["a", "b", "c"]},
        {"name": "price", "shape": [1], "datatype": "FP64", "data": [9.5]},
        {"name": "device", "shape": [1], "datatype": "BYTES", "data": ["phone"]},
    ]
    if position:
        size = [len(position)]
        inputs.append({"name": "position", "shape": size, "datatype": "INT64", "data": position})
    call = from_rest(orjson.dumps({"inputs": inputs}), json_length=None)
    return parse(schema, call, now=stand_ins.NOON)


def test_a_request_need_not_bring_it_and_what_it_brings_changes_nothing():
    found = [asked(position=position) for position in (None, [1, 2, 3], [3], [0])]
    for request in found:
        assert request.columns["position"].to_pylist() == [2, 2, 2]
        assert request.missing_context == ()
    transformer = Transformer(SCHEMA, online=STORE)
    inputs = [stand_ins.tiled(transformer.transform(request).inputs) for request in found]
    ids = [one.ids["position"].values for one in inputs]
    for other in ids[1:]:
        np.testing.assert_array_equal(other, ids[0])
    seen = asked(position=[1, 2, 3], schema=stand_ins.SCHEMA)
    assert seen.columns["position"].to_pylist() == [1, 2, 3]


def test_training_sees_the_value():
    rows = random_rows(SCHEMA, 3)
    at = rows.column_names.index("position")
    rows = rows.set_column(at, "position", pa.array([1, 2, 3]))
    columns = {name: rows.column(name) for name in rows.column_names}
    assert len(set(encode(SCHEMA, columns).ids["position"].values.tolist())) == 3


def test_the_description_says_that_it_need_not_be_sent():
    text = str(document([(SCHEMA, "1")], has_token=False, max_candidates=10))
    assert "Place. Need not be sent: 2 is used whatever is sent." in text
    examples = re.findall(r"'good': \{'value': (\{.*?\})\}", text)
    assert len(examples) >= 2
    assert "'price'" in "".join(examples)
    assert "'position'" not in "".join(examples)


def test_it_changes_what_is_served_and_so_the_fingerprint_but_no_rows():
    from features.schema.fingerprints import impressions_fingerprint, rows_fingerprint

    assert SCHEMA.fingerprint() != stand_ins.SCHEMA.fingerprint()
    assert rows_fingerprint(SCHEMA) == rows_fingerprint(stand_ins.SCHEMA)
    assert impressions_fingerprint(SCHEMA) == impressions_fingerprint(stand_ins.SCHEMA)


@pytest.mark.parametrize(
    ("dtype", "limits", "neutral"),
    [
        (Dtype.INT64, {"num_ids": 4}, 4),
        (Dtype.INT64, {"num_ids": 4}, -1),
        (Dtype.INT64, {"num_ids": 4}, 1.5),
        (Dtype.INT64, {"num_ids": 4}, "1"),
        (Dtype.INT64, {"num_ids": 9, "minimum": 1}, 0),
        (Dtype.STRING, {"vocabulary": ("a", "b")}, "c"),
        (Dtype.STRING, {"hash_size": 9}, 1),
        (Dtype.INT64_LIST, {"num_ids": 9, "max_length": 3}, 1),
    ],
)
def test_a_neutral_value_is_one_that_the_column_may_have(dtype, limits, neutral):
    declared = {"name": "x", "dtype": dtype, "kind": Kind.SPARSE, "doc": "X.", **limits}
    assert Column(**declared).neutral is None
    with pytest.raises(DeclarationError, match="column x: neutral") as caught:
        Column(**declared, neutral=neutral)
    assert (caught.value.column, caught.value.field) == ("x", "neutral")
