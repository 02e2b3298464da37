"""An embedding of an item is a list of numbers of one length, and an input for each place in it."""

import dataclasses
import datetime

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql.types import ArrayType, DoubleType, StructField, StructType

from features.datasets.catalog import schema_of
from features.encoding.encode import InfiniteError, encode
from features.encoding.primitives import encode_numbers
from features.schema import Column, DeclarationError, Dtype, Kind, Severity
from features.spark.row_rules import _rules_of
from features.validation.expectations import _sql

VECTOR = Column(
    name="item_vector",
    dtype=Dtype.FLOAT64_LIST,
    kind=Kind.DENSE,
    doc="An embedding.",
    max_length=3,
    minimum=-10,
    maximum=10,
)
BASE = schema_of("synthetic")


def with_vector(vector=VECTOR):
    *others, attributes = BASE.tables
    wider = dataclasses.replace(attributes, columns=(*attributes.columns, vector))
    return dataclasses.replace(BASE, tables=(*others, wider))


def test_there_is_an_input_for_each_place():
    schema = with_vector()
    added = [name for name in schema.dense_inputs() if name not in BASE.dense_inputs()]
    assert added == ["item_vector_0", "item_vector_1", "item_vector_2"]
    assert len(schema.dense_kinds()) == len(schema.dense_inputs())
    place = schema.dense_inputs().index("item_vector_0")
    assert schema.dense_inputs()[place - 1] == "item_price"


def test_a_name_of_a_place_that_a_column_has_is_an_error():
    context = dataclasses.replace(VECTOR, name="item_vector_1", dtype=Dtype.FLOAT64, max_length=0)
    with pytest.raises(DeclarationError, match=r"\['item_vector_1'\] are declared twice"):
        dataclasses.replace(with_vector(), context=(*BASE.context, context))


def test_a_request_has_none():
    context = dataclasses.replace(VECTOR, name="looks")
    with pytest.raises(DeclarationError, match="column looks: list<float64> in context; a request"):
        dataclasses.replace(BASE, context=(*BASE.context, context))


@pytest.mark.parametrize("kind", [Kind.SPARSE, Kind.RATE, Kind.COUNT, Kind.AGE])
def test_a_list_of_numbers_is_dense_or_stored(kind):
    with pytest.raises(DeclarationError, match=r"of type list<float64>; one of|exactly one"):
        dataclasses.replace(VECTOR, kind=kind)
    assert dataclasses.replace(VECTOR, kind=Kind.STORED).num_rows == 1


def test_a_list_is_a_row_of_inputs_and_missing_where_it_has_another_length():
    price = next(column for column in BASE.columns() if column.name == "item_price")
    lists = [[1, 2, 3], None, [4, None, 6], [7, 8], [], [0.1, 0.2, 0.3]]
    columns = {
        "item_vector": pa.array(lists, pa.list_(pa.float64())),
        "item_price": pa.array([float(n) for n in range(6)]),
    }
    found = encode_numbers((price, VECTOR, price), columns, size=6).values
    nan = np.nan
    expected = [[1, 2, 3], [nan] * 3, [4, nan, 6], [nan] * 3, [nan] * 3, [0.1, 0.2, 0.3]]
    np.testing.assert_array_equal(found[:, 1:4], np.array(expected, dtype=np.float32))
    np.testing.assert_array_equal(found[:, 0], found[:, 4])
    sliced = {name: values.slice(2, 3) for name, values in columns.items()}
    np.testing.assert_array_equal(encode_numbers((VECTOR,), sliced, size=3).values, found[2:5, 1:4])


def test_an_infinite_number_is_named_with_its_place():
    schema = with_vector()
    now = pa.array([datetime.datetime(2025, 1, 5, tzinfo=datetime.UTC)])
    columns = {column.name: pa.nulls(1, kind_of(column)) for column in schema.columns()}
    columns |= {table.timestamp_column: now for table in schema.tables} | {"timestamp": now}
    columns["item_vector"] = pa.array([[0.0, float("inf"), 0.0]])
    with pytest.raises(InfiniteError, match="column item_vector_1: inf"):
        encode(schema, columns)


def kind_of(column):
    kinds = {Dtype.INT64: pa.int64(), Dtype.FLOAT64: pa.float64(), Dtype.STRING: pa.string()}
    element = kinds.get(column.dtype.element, pa.timestamp("us", tz="UTC"))
    return pa.list_(element) if column.dtype.is_list else element


@pytest.mark.spark
@pytest.mark.parametrize("limits", [{}, {"minimum": None, "maximum": None}])
def test_rows_of_another_length_or_without_a_number_break_a_rule(spark, limits):
    """As a warning, and as the SQL of what stops a day."""
    nan, infinite = float("nan"), float("inf")
    lists = [[1.0, 2.0, 3.0], [1.0, 2.0], [1.0] * 4, [], None, [1.0, None, 2.0]]
    lists += [[1.0, nan, 2.0], [1.0, -infinite, 2.0], [1.0, 11.0, 2.0]]
    frame = spark.createDataFrame(
        [(one,) for one in lists], StructType([StructField("item_vector", ArrayType(DoubleType()))])
    )
    column = dataclasses.replace(VECTOR, severity=Severity.CRITICAL, **limits)
    rules = {rule.check: rule for rule in _rules_of(column)}
    assert set(rules) == {"present", "length", "numbers"}
    broken = {
        "length": [[1.0, 2.0], [1.0] * 4, []],
        "numbers": [lists[5], lists[6], lists[7], *([] if limits else [lists[8]])],
    }
    for check, expected in broken.items():
        for found in (frame.where(rules[check].broken()), frame.where(_sql(rules[check]))):
            assert repr([row[0] for row in found.collect()]) == repr(expected), check
