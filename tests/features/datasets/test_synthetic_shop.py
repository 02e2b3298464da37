"""The generated shop: what its log claims about itself is so."""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from features.datasets.catalog import schema_of
from features.datasets.fetch.synthetic_shop import PAGE, fetch
from features.places import place

SCHEMA = schema_of("synthetic-shop")
SIZES = {"rows": 40_000, "users": 300, "items": 200, "days": 8, "seed": 3}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The folder, and what the fetch said."""
    landing = tmp_path_factory.mktemp("landing")
    return landing, fetch(SCHEMA, place(landing), **SIZES)


def table(landing, folder):
    """All rows of a folder, with the day of their file."""
    files = sorted((landing / folder).glob("*.parquet"))
    assert len(files) == SIZES["days"]
    return pa.concat_tables(
        pq.read_table(file).append_column(
            "day", pa.array([file.stem] * pq.read_metadata(file).num_rows)
        )
        for file in files
    )


def test_a_request_is_a_page_of_different_items_for_one_user_at_one_moment(shop):
    landing, found = shop
    rows = table(landing, "impressions")
    assert (len(rows), found["rows"], found["requests"]) == (40_000, 40_000, 2_000)
    pages = rows.group_by("request_id").aggregate(
        [
            ("item_id", "count_distinct"),
            ("user_id", "count_distinct"),
            ("timestamp", "min"),
            ("timestamp", "max"),
        ]
    )
    assert len(pages) == 2_000
    assert pc.unique(pages["item_id_count_distinct"]).to_pylist() == [PAGE]
    assert pc.unique(pages["user_id_count_distinct"]).to_pylist() == [1]
    assert pages["timestamp_min"] == pages["timestamp_max"]


def test_events_are_of_impressions_land_on_their_own_day_and_come_within_the_window(shop):
    landing, found = shop
    rows = table(landing, "impressions")
    for label in SCHEMA.labels:
        events = table(landing, f"labels/{label.name}")
        days = pc.strftime(events["timestamp"], "%Y-%m-%d")
        assert days.to_pylist() == events["day"].to_pylist()
        joined = events.join(
            rows.select(["request_id", "item_id", "timestamp"]), ["request_id", "item_id"],
            right_suffix="_shown", join_type="inner",
        )  # fmt: skip
        assert len(joined) == len(events) > 0
        after = pc.subtract(
            joined["timestamp"].cast("int64"), joined["timestamp_shown"].cast("int64")
        )
        assert pc.min(after).as_py() > 0
        assert pc.max(after).as_py() < label.window.total_seconds() * 1e6
        # Events after the last day have not landed.
        assert len(events) <= found[f"{label.name}s"]


def test_clicks_are_as_frequent_as_their_probabilities_say_and_rarer_down_the_page(shop):
    landing, found = shop
    rows = table(landing, "impressions")
    assert pc.mean(rows["click_probability"]).as_py() == pytest.approx(0.02, rel=1e-3)
    # A binomial's standard deviation of 40,000 times 0.02 is 28.
    assert abs(found["clicks"] - 800) < 4 * 28
    assert 0.06 < found["best_log_loss"] < 0.098  # the entropy of 0.02
    by_position = (
        rows.group_by("position").aggregate([("click_probability", "mean")]).sort_by("position")
    )
    means = by_position["click_probability_mean"].to_pylist()
    assert means[0] > 2 * means[-1]


def test_users_and_items_come_and_go_and_prices_change(shop):
    landing, _ = shop
    rows = table(landing, "impressions")
    for column in ("user_id", "item_id"):
        days = rows.group_by(column).aggregate([("day", "min"), ("day", "max")])
        first, last = pc.min(rows["day"]), pc.max(rows["day"])
        assert pc.sum(pc.not_equal(days["day_min"], first)).as_py() > 10
        assert pc.sum(pc.not_equal(days["day_max"], last)).as_py() > 10
    prices = rows.group_by("item_id").aggregate([("price", "count_distinct")])
    assert pc.mean(prices["price_count_distinct"]).as_py() > 1.1
    by_day = rows.group_by(["item_id", "day"]).aggregate([("price", "count_distinct")])
    assert pc.max(by_day["price_count_distinct"]).as_py() == 1


def test_the_same_seed_gives_the_same_files(shop, tmp_path):
    landing, found = shop
    assert fetch(SCHEMA, place(tmp_path), **SIZES) == found
    for folder in ("impressions", "labels/click", "labels/order"):
        assert table(tmp_path, folder).equals(table(landing, folder))
    assert fetch(SCHEMA, place(tmp_path), **{**SIZES, "seed": 4}) != found


@pytest.mark.parametrize(
    ("sizes", "says"),
    [({"items": 39}, "items: 39; at least 40"), ({"rows": 100}, "rows: 100; at least 160")],
)
def test_a_log_that_is_too_small_for_its_pages_is_an_error(sizes, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        fetch(SCHEMA, place(tmp_path), **{**SIZES, **sizes})
