"""What a declared table may be of and by; and keys that are not mistaken for each other."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.features.declared import ALL_KINDS, aggregate, declared, named, with_tables

from features.schema import DeclarationError
from features.schema.keys import keys_of

texts = st.text('a|\\"é\n', max_size=4)


@given(st.tuples(texts, texts), st.tuples(texts, texts))
@settings(deadline=None, derandomize=True, max_examples=300)
def test_different_pairs_have_different_keys(first, second):
    assert (keys_of([[v] for v in first]) == keys_of([[v] for v in second])) == (first == second)


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (aggregate("x", "clicks", "count"), r"of 'clicks'; a count is of one of \['click', "),
        (aggregate("x", "impressions", "rate"), r"of 'impressions'; a rate is of .*\['click'\]"),
        (aggregate("x", "device", "mean"), "of 'device'; a mean is of one of"),
        (aggregate("x", "true_probability", "mean"), "scale 0; a sum or a mean of a float64"),
        (aggregate("x", "click", "sum", scale=0.1), "scale 0.1; .* others have none"),
        (
            aggregate("x", "true_probability", "sum", scale=1e-15),
            "of .* minimum 0 and maximum 1; a sum needs both, of at most 1099511627776 times",
        ),
        (aggregate("x", "click", "distinct"), "kind distinct with distinct_of ''"),
        (aggregate("x", "click", "count", distinct_of="user_id"), "kind count with distinct_of"),
        (
            aggregate("x", "click", "distinct", distinct_of="click"),
            r"distinct_of 'click'; one of \['device', 'item_id', 'user_id'\]",
        ),
    ],
)
def test_an_aggregate_of_what_it_cannot_be_of_is_an_error(one, said):
    with pytest.raises(DeclarationError, match=f"table t, column x: {said}") as caught:
        declared("t", ("device",), (one,))
    assert caught.value.field.startswith("columns.x.")


def test_there_is_no_number_of_different_values_of_all_time():
    one = aggregate("x", "click", "distinct", distinct_of="user_id")
    with pytest.raises(DeclarationError, match="of all time there is no such column"):
        declared("t", ("device",), (one,), windows_days=())


@pytest.mark.parametrize(
    ("by", "said"),
    [
        (("click",), "by 'click', which is known only after the request"),
        (("device", "device"), "one column, or two different ones"),
        (("device", "item_id", "user_id"), "one column, or two different ones"),
        (("colour",), r"by 'colour'; one of \['device', 'item_category', "),
        (("item_price",), "by 'item_price' of type float64; a key has one value"),
    ],
)
def test_a_key_that_a_request_could_not_make_is_an_error(by, said):
    with pytest.raises(DeclarationError, match=f"table t: .*{said}") as caught:
        with_tables(declared("t", by, named("t", ALL_KINDS)))
    assert (caught.value.table, caught.value.field) == ("t", "by")
