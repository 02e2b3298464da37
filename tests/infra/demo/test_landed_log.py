"""Which log a demo takes, which of its days, and what is said where it is not there."""

import dataclasses
import datetime
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.shop.land_shop import land_shop
from upath import UPath

from features.datasets.catalog import schema_of
from features.places import place
from infra.demo import landed_log
from infra.demo.demo import DemoRequest, is_fetched, prepared
from infra.local.settings import Settings

SHOP = Path(__file__).resolve().parents[2] / "support" / "shop" / "shop.yaml"
FIRST = datetime.date(2025, 3, 1)


@pytest.fixture
def shop(monkeypatch):
    """The shop's schema, in an environment that goes away again."""
    for name in ("RANKING_DATASETS", "RANKING_SCHEMAS"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("RANKING_SCHEMAS", str(SHOP))
    return schema_of("shop")


@pytest.fixture
def log(tmp_path):
    """Five days of it, in a folder of their own."""
    land_shop(tmp_path / "log", days=5, rows_a_day=3)
    return tmp_path / "log"


def days(*numbers: int) -> list[datetime.date]:
    return [FIRST + datetime.timedelta(days=n) for n in numbers]


def test_a_log_is_copied_from_where_it_lies_and_its_days_are_found(shop, log, tmp_path):
    landing = tmp_path / "landing" / "shop"
    (landing / "impressions").mkdir(parents=True)
    (landing / "impressions" / "2025-03-09.csv").write_text("of an earlier demo\n")
    (log / "var").mkdir()
    (log / ".part").write_text("")
    landed_log.bring(log, landing)
    assert sorted(path.name for path in landing.iterdir()) == ["impressions", "items.csv"]
    assert landed_log.landed_days(shop, landing) == days(0, 1, 2, 3, 4)
    landed_log.bring(landing, landing)
    assert landed_log.landed_days(shop, landing) == days(0, 1, 2, 3, 4)


def test_a_log_is_copied_to_and_from_another_store(shop, log):
    landing = UPath("memory://bucket/landing/shop")
    landed_log.bring(log, landing)
    assert landed_log.landed_days(shop, landing) == days(0, 1, 2, 3, 4)


def test_where_there_is_no_log_the_place_and_the_flag_are_named(shop, tmp_path):
    landing = tmp_path / "landing" / "shop"
    with pytest.raises(ValueError, match=r"no day has .*shop/impressions/2025-03-01.csv.*--landi"):
        landed_log.landed_days(shop, landing)
    with pytest.raises(ValueError, match=r"--landing /nowhere: has no folder impressions"):
        landed_log.require_log(place("/nowhere"))


def test_a_missing_day_is_named_before_anything_is_built(shop, log):
    (log / "impressions" / "2025-03-03.csv").unlink()
    with pytest.raises(ValueError, match=r"1 of the 5 days .* first is 2025-03-03 .*03-03.csv"):
        landed_log.landed_days(shop, log)


def test_what_is_cut_off_or_outside_the_log_is_no_day_of_it(shop, log):
    (log / "impressions" / "2025-03-05.csv").write_text("cut")
    (log / "impressions" / "2025-02-28.csv").write_text("too early\n")
    (log / "impressions" / "notes.csv").write_text("no day\n")
    assert landed_log.landed_days(shop, log) == days(0, 1, 2, 3)
    ends = dataclasses.replace(shop, last_day=days(2)[0])
    assert landed_log.landed_days(ends, log) == days(0, 1, 2)


@pytest.mark.parametrize(
    ("landed", "daily", "history", "by_airflow"),
    [
        (12, None, (0, 8), (9, 10, 11)),
        (8, None, (0, 5), (6, 7)),
        (3, None, (0, 1), (2,)),
        (4, 2, (0, 1), (2, 3)),
    ],
)
def test_airflow_runs_the_last_days_and_fewer_of_a_short_log(
    shop, landed, daily, history, by_airflow
):
    """A day to train on and one to judge on are left to the history."""
    found = landed_log.span_of(shop, days(*range(landed)), daily)
    assert found == (tuple(days(*history)), days(*by_airflow))


@pytest.mark.parametrize(("landed", "daily"), [(2, None), (4, 3), (4, 0)])
def test_a_log_with_too_few_days_is_an_error_with_the_numbers(shop, landed, daily):
    with pytest.raises(ValueError, match=rf"shop: {landed} days have .* 1 to judge on .* --daily"):
        landed_log.span_of(shop, days(*range(landed)), daily)


def test_a_label_that_comes_later_needs_more_days():
    """The newest days of the history have no final label yet."""
    orders = SimpleNamespace(name="orders", holdout_days=1, maturity_days=2)
    assert landed_log.span_of(orders, days(*range(5)), None).days == days(4)
    with pytest.raises(ValueError, match=r"orders: 4 days have .* 3 to judge on and to wait for"):
        landed_log.span_of(orders, days(*range(4)), None)


def test_a_schema_file_is_the_data_set_of_all_that_the_demo_starts(shop, log, monkeypatch):
    monkeypatch.setenv("RANKING_VAR", str(log.parent / "var"))
    monkeypatch.setenv("RANKING_SCHEMAS", "")
    monkeypatch.setenv("RANKING_DATASETS", "movielens-100k")
    settings = prepared(DemoRequest(schema=SHOP, landing=log))
    assert settings.dataset == os.environ["RANKING_DATASETS"] == "shop"
    assert os.environ["RANKING_SCHEMAS"] == str(SHOP)
    assert (log.parent / "var" / "landing" / "shop" / "items.csv").exists()
    # A second demo takes what the first has landed.
    assert prepared(DemoRequest(dataset="shop")).dataset == "shop"
    assert (log.parent / "var" / "landing" / "shop" / "items.csv").exists()


def test_a_log_that_something_fetches_is_fetched_unless_it_is_given(shop):
    settings = Settings(datasets="movielens-100k")
    assert is_fetched(DemoRequest(), settings)
    assert not is_fetched(DemoRequest(landing=place("log")), settings)
    assert not is_fetched(DemoRequest(), Settings(datasets="shop"))


def test_a_data_set_is_named_once():
    with pytest.raises(ValueError, match=r"--schema shop.yaml: not with --dataset synthetic"):
        DemoRequest(schema=Path("shop.yaml"), dataset="synthetic")
