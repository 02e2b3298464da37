"""A list of ages is an input for each place in it, counted to the moment of the request."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from features.datasets.catalog import schema_of
from features.encoding.primitives import Numbers, encode_numbers
from features.schema import Column, DeclarationError, Dtype, Kind

SECOND = 1_000_000
AGES = Column(
    name="seen_age", dtype=Dtype.INT64_LIST, kind=Kind.AGE, max_length=3, doc="When it was seen."
)
LAST = Column(name="last", dtype=Dtype.INT64, kind=Kind.AGE, doc="When it was last seen.")
PRICE = Column(name="price", dtype=Dtype.FLOAT64, kind=Kind.DENSE, doc="The price.")
NAN = np.nan
LISTS = [[9, 5, 2], [], None, [7], [8, None, 1], [9, 8, 7, 6]]
EXPECTED = np.array(
    [[1, 5, 8], [NAN] * 3, [NAN] * 3, [3, NAN, NAN], [2, NAN, 9], [1, 2, 3]], dtype=np.float32
)


def columns():
    seconds = [one and [n and n * SECOND for n in one] for one in LISTS]
    return {
        "seen_age": pa.array(seconds, pa.list_(pa.int64())),
        "last": pa.array([None, *(n * SECOND for n in range(5))]),
        "price": pa.array([float(n) for n in range(6)]),
    }


def test_places_are_ages_and_missing_beyond_the_end_of_a_list():
    numbers = encode_numbers((PRICE, AGES, LAST), columns(), size=6)
    found = numbers.at(np.array([10 * SECOND]))
    np.testing.assert_array_equal(found[:, 1:4], EXPECTED)
    np.testing.assert_array_equal(found[:, 0], np.arange(6, dtype=np.float32))
    np.testing.assert_array_equal(found[:, 4], np.array([NAN, 10, 9, 8, 7, 6], dtype=np.float32))
    each = numbers.at(SECOND * np.arange(10, 16))
    np.testing.assert_array_equal(each[:, 1:4], EXPECTED + np.arange(6)[:, None])
    assert (numbers.at(np.array([0]))[0, 1:4] == 0).all()


def test_rows_that_are_taken_joined_and_sliced_keep_their_ages():
    whole = encode_numbers((AGES, PRICE), columns(), size=6)
    at = np.array([10 * SECOND])
    order = np.array([5, 0, 2])
    np.testing.assert_array_equal(whole.take(order).at(at), whole.at(at)[order])
    parts = [
        encode_numbers((AGES, PRICE), {n: v.slice(*part) for n, v in columns().items()}, size=3)
        for part in ((0, 3), (3, 3))
    ]
    np.testing.assert_array_equal(Numbers.joined(parts).at(at), whole.at(at))


def test_a_schema_has_an_input_for_each_place_and_a_request_none():
    base = schema_of("synthetic")
    *others, attributes = base.tables
    wider = dataclasses.replace(attributes, columns=(*attributes.columns, AGES))
    schema = dataclasses.replace(base, tables=(*others, wider))
    place = schema.dense_inputs().index("seen_age_0")
    assert schema.dense_inputs()[place + 2] == "seen_age_2"
    assert schema.dense_kinds()[place : place + 3] == (Kind.AGE,) * 3
    with pytest.raises(DeclarationError, match="column seen_age: list<int64> in context; a requ"):
        dataclasses.replace(base, context=(*base.context, AGES))
