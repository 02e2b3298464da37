"""A push with a label that comes later: rows as the daily build has them, or none at all."""

import dataclasses
import datetime
import json

import pytest
from support.labels.orders_log import DAYS, Shop

from features import __main__ as features_main
from features.datasets.catalog import deployed
from features.push.push_day import LandedUsers

UTC = datetime.UTC


def delayed(shop: Shop, hours: int) -> Shop:
    """The same shop, whose orders are known so many hours after their window."""
    click, order = shop.schema.labels
    late = dataclasses.replace(order, delay=datetime.timedelta(hours=hours))
    shop.schema = dataclasses.replace(shop.schema, labels=(click, late))
    shop.work = dataclasses.replace(shop.work, schema=shop.schema)
    return shop


def test_what_lands_a_file_a_day_cannot_be_known_within_the_day(monkeypatch, capsys):
    from support.labels.orders_log import FILE

    monkeypatch.setenv("RANKING_SCHEMAS", str(FILE))
    assert features_main.main(["push", "--dataset=orders"]) == 99
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "label order: delay 2:00:00; at least 1 day" in said["skipped"]
    from features.datasets.catalog import schema_of

    schema = schema_of("orders")
    assert schema.table("user_state").counts_from_day_end
    late = dataclasses.replace(schema.label, delay=datetime.timedelta(days=1))
    assert dataclasses.replace(schema, labels=(schema.labels[0], late)).can_push
    assert not deployed(schema, {}).can_push


@pytest.mark.spark
def test_a_push_offers_the_rows_of_the_daily_build_and_stops_where_events_are_missing(shop):
    shop = delayed(shop, hours=30)
    shop.land(DAYS[:4])
    shop.take(DAYS[:3])
    shop.build(DAYS[:3])
    noon = datetime.datetime.combine(DAYS[3], datetime.time(12), UTC)
    users = LandedUsers(shop.work, shop.landing)
    pushed = users.poll(lambda _newest: noon)
    later = users.poll(lambda _newest: noon + datetime.timedelta(days=5))
    shop.take(DAYS[3:4])
    shop.build(DAYS[3:4])
    table = shop.schema.table("user_state")
    built = shop.work.features(table, DAYS[3:4]).toPandas()
    names = [column.name for column in table.columns if not column.dtype.is_list]
    keys = ["user_id", "event_timestamp"]
    for batch in (pushed, later):
        rows = batch.rows
        rows["event_timestamp"] = rows["event_timestamp"].dt.tz_localize(None)
        rows = rows[rows["event_timestamp"] < str(DAYS[4])]
        both = rows.merge(built, on=keys, suffixes=("", "_built"))
        assert len(both) == len(rows) > 3
        for name in names:
            assert both[name].tolist() == both[f"{name}_built"].tolist(), name
    assert pushed.rows["user_positives_all"].sum() > 0
    # Of the fourth day's orders nobody knows yet; the label of one at its end counts then.
    assert later.until == noon + datetime.timedelta(hours=18) - datetime.timedelta(microseconds=1)
