"""Stored bytes and keys are those of Feast, read and written without protobuf."""

import pyarrow as pa
import pytest
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import DoubleList, Int64List, StringList, Value
from hypothesis import given
from hypothesis import strategies as st

from features.online_store import codec
from features.online_store.codec import decoded, entity_keys, ids_of
from features.schema import Dtype

INTEGERS = st.integers(-(2**63), 2**63 - 1)
VALUES = {
    Dtype.INT64: (INTEGERS, lambda v: Value(int64_val=v)),
    Dtype.FLOAT64: (st.floats(allow_nan=False), lambda v: Value(double_val=v)),
    Dtype.STRING: (st.text(max_size=300), lambda v: Value(string_val=v)),
    Dtype.INT64_LIST: (
        st.lists(INTEGERS, max_size=40),
        lambda v: Value(int64_list_val=Int64List(val=v)),
    ),
    Dtype.STRING_LIST: (
        st.lists(st.text(max_size=200), max_size=5),
        lambda v: Value(string_list_val=StringList(val=v)),
    ),
    Dtype.FLOAT64_LIST: (
        st.lists(st.floats(allow_nan=False), max_size=40),
        lambda v: Value(double_list_val=DoubleList(val=v)),
    ),
}


@pytest.mark.parametrize("dtype", list(VALUES))
@given(data=st.data())
def test_stored_bytes_are_read_as_protobuf_reads_them(dtype, data):
    one, message = VALUES[dtype]
    values = data.draw(st.lists(st.none() | one, max_size=12))
    nulls = [b"", None, Value(null_val=0).SerializeToString()]
    stored = [
        nulls[place % 3] if value is None else message(value).SerializeToString()
        for place, value in enumerate(values)
    ]
    for short in (0, 256):  # the way of many bytes, and that of few
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(codec, "_SHORT", short)
            found = decoded("column", dtype, stored)
        assert found.to_pylist() == values
        found.validate(full=True)


def test_bytes_of_another_type_are_an_error_that_names_the_column():
    stored = [Value(int64_val=3).SerializeToString(), Value(string_val="3").SerializeToString()]
    with pytest.raises(ValueError, match=r"column price: stored bytes .*; a int64"):
        decoded("price", Dtype.INT64, stored)


@given(st.lists(INTEGERS, min_size=1), st.lists(st.text(), min_size=1))
def test_keys_are_feasts_and_can_be_read_back(numbers, texts):
    for dtype, ids, field in (
        (Dtype.INT64, numbers, "int64_val"),
        (Dtype.STRING, texts, "string_val"),
    ):
        keys = entity_keys("item_id", dtype, ids)
        expected = [
            serialize_entity_key(
                EntityKey(join_keys=["item_id"], entity_values=[Value(**{field: one})]), 3
            )
            for one in ids
        ]
        assert keys == expected
        assert ids_of("item_id", dtype, keys) == ids


def test_negative_and_large_numbers_survive_the_varint():
    values = [0, 1, 127, 128, -1, 2**63 - 1, -(2**63)]
    stored = [Value(int64_val=value).SerializeToString() for value in values]
    assert decoded("n", Dtype.INT64, stored) == pa.array(values)
