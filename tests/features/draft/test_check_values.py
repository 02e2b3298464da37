"""Values of landed impressions that a check finds: neutral ones, lists, ids of requests."""

import pytest
from support.logs import click_log, order_log

from features.datasets.catalog import data_set_at
from features.draft.checks.check import check


def run(schema):
    """What was found of the log next to a schema file."""
    return check(data_set_at(schema), schema.parent / "landing").findings


def test_requests_that_several_users_share_are_named(tmp_path):
    def shared(rows, _):
        rows[1]["visitor"] += 1

    (one,) = run(order_log.land(tmp_path, spoil_shown=shared))
    assert (one.level, one.topic, one.key) == ("warning", "shared-request", "request")
    assert one.said.startswith("3 of 1,500 rows (0.20%) are of requests with rows of several users")


def test_a_neutral_value_that_no_row_has_is_named(tmp_path):
    def from_one(rows, _):
        for row in rows:
            row["position"] += 1

    schema = order_log.land(tmp_path, spoil_shown=from_one)
    (one,) = run(schema)
    assert (one.level, one.topic, one.key) == ("warning", "neutral", "context.position.neutral")
    assert (
        "no row has 0, which every served request has; the values are 1 (500), 2 (500)" in one.said
    )
    schema.write_text(schema.read_text().replace("neutral: 0", "neutral: 1"))
    assert run(schema) == ()


@pytest.mark.parametrize(
    ("vector", "said"),
    [
        ("0.5|1|2", None),
        ("0.5|1", "have not 3 values"),
        ("0.5|1|2|3", "have not 3 values"),
        ("0.5|1|-2", "have a number that is missing, infinite or out of its limits"),
        ("0.5|1|inf", "have a number that is missing, infinite or out of its limits"),
        ("0.5|1|two", "have a number that is missing, infinite or out of its limits"),
    ],
)
def test_lists_of_numbers_are_checked(tmp_path, vector, said):
    def with_vector(_, rows):
        for row in rows:
            row["vector"] = vector

    schema = click_log.land(tmp_path, spoil=with_vector)
    vectors = "  vector: {type: list<float64>, minimum: 0, max_length: 3, doc: An embedding.}\n"
    schema.write_text(schema.read_text().replace("stored:\n", f"stored:\n{vectors}"))
    of_vector = [one.said for one in run(schema) if "vector" in one.key]
    assert [said in one for one in of_vector] == ([True] if said else [])
