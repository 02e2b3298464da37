"""Labels that come later: whose they are, when they count, and what waits for them."""

import dataclasses
import datetime
import json
import statistics
from collections import defaultdict

import pytest
from support.labels.orders_log import DAYS, HOUR

from features import __main__ as features_main
from features.lake.lake import EXAMPLES, IMPRESSIONS
from features.pipeline import jobs
from features.provenance.known import KnownLake
from features.provenance.staleness import stale_days
from features.runbooks import RunbookError
from features.schema import EXAMPLE_ID
from features.validation.log_checks import check_mature_rates

pytestmark = pytest.mark.spark
DAY = datetime.timedelta(days=1)
TABLES = ("user_state", "item_daily", EXAMPLES)
MATURE = DAYS[:-2]
"""36 hours and 2 more after the last impression of a day, two other days are over."""


def stale_of(shop) -> dict[str, list]:
    found = defaultdict(list)
    for one in stale_days(shop.schema, KnownLake(shop.work.lake)):
        found[one.table].append(one.day)
    return found


def labels_of(shop) -> dict[int, int]:
    found = shop.work.lake.snapshot(EXAMPLES)
    tables = [found.read(day, ["example_id", "label"]).to_pylist() for day in found.days]
    return {row["example_id"]: row["label"] for table in tables for row in table}


def test_an_order_belongs_to_the_newest_impression_before_it_within_the_window(finished):
    shop = finished
    mature = {n for n, *_, at in shop.shown if at < shop.midnight(MATURE[-1] + DAY)}
    positives = shop.positives() & mature
    assert 15 < len(positives) < len(mature) - 15
    labels = labels_of(shop)
    assert labels.keys() == mature
    assert {n for n, label in labels.items() if label} == positives
    # Columns of labels that are not final yet are no part of an example.
    assert "order" not in shop.work.lake.snapshot(EXAMPLES).schema_json


def test_a_label_counts_when_its_window_and_delay_are_over_a_negative_as_a_positive_one(finished):
    shop = finished
    positives, of_user = shop.positives(), defaultdict(list)
    for n, user, _, at in shop.shown:
        of_user[user].append((at + 38 * HOUR, n in positives))
    rows = shop.work.features(shop.schema.table("user_state"), DAYS).collect()
    assert len(rows) > 50
    for row in rows:
        at = row.event_timestamp.replace(tzinfo=datetime.UTC).timestamp()
        known = [is_positive for when, is_positive in of_user[row.user_id] if when <= at]
        assert (row.user_labelled_all, row.user_positives_all) == (len(known), sum(known))


def test_rows_depend_on_their_days_alone_whatever_has_landed_since(finished):
    shop = finished
    day_by_day = shop.hashes(*TABLES)
    # All days are there now: events and impressions after each of these.
    for day in DAYS[1:3]:
        shop.build([day])
        jobs.examples(shop.work, [day])
    assert shop.hashes(*TABLES) == day_by_day
    shop.build(DAYS[1:])
    jobs.examples(shop.work, MATURE)
    assert shop.hashes(*TABLES) == day_by_day


def test_what_lacks_events_waits_for_them(shop):
    shop.land(DAYS[:3])
    shop.run(DAYS[:2])
    with pytest.raises(RunbookError, match=r"impressions: day 2025-03-03 is missing.*ingest"):
        jobs.examples(shop.work, DAYS[:1])
    events = shop.landing / "orders" / "labels" / "order" / f"{DAYS[2]}.csv"
    events.rename(events.with_suffix(".late"))
    with pytest.raises(RunbookError, match=r"labels/order/2025-03-03.csv: has not landed"):
        shop.take(DAYS[2:3])
    events.with_suffix(".late").rename(events)
    shop.take(DAYS[2:3])
    shop.work.lake.remove(shop.events, DAYS[2:3])
    with pytest.raises(RunbookError, match=r"labels_order: day 2025-03-03 is missing"):
        shop.build(DAYS[2:3])


def test_before_any_label_is_mature_there_is_nothing_to_learn(shop, capsys):
    shop.land(DAYS[:1])
    shop.run(DAYS[:1])
    lake = f"--lake={shop.work.lake.root.parent}"
    code = features_main.main(["examples", "--dataset=orders", "--date=2025-02-28", lake])
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == 99
    assert "the lake begins with 2025-03-01, whose labels are known 2 days later" in said["skipped"]


def test_bad_events_go_to_quarantine_with_their_line_and_many_stop_the_day(shop):
    day = DAYS[0]
    shop.land([day])
    path = shop.landing / "orders" / "labels" / "order" / f"{day}.csv"
    good = len(path.read_text().splitlines()) - 1
    tomorrow = shop.midnight(day + DAY)
    with path.open("a") as file:
        file.write(
            f"u1,2,{tomorrow}\nu1,many,{tomorrow - 1}\n,2,{tomorrow - 1}\nu1,99,{tomorrow - 1}\n"
        )
    events, impressions = shop.check([day])
    assert (events.rows, events.quarantined, events.critical) == (good + 4, 4, [])
    assert impressions.critical == []
    found = shop.work.lake.snapshot(f"quarantine_{shop.events}").read(day).to_pylist()
    by_line = {row["source_line"] - good - 1: row["rules"] for row in found}
    assert by_line == {
        1: ["timestamp:day"],
        2: ["item_id:present"],
        3: ["user_id:present"],
        4: ["item_id:range"],
    }
    assert {row["source_file"] for row in found} == {f"labels/order/{day}.csv"}
    before = shop.work.lake.snapshot(shop.events).version
    path.write_text("user_id,article,at\n" + "u1,2,never\n" * 40)
    (events,) = shop.check([day])
    assert "quarantine" in events.critical[0]
    shop.work.lake.refresh()
    assert shop.work.lake.snapshot(shop.events).version == before


def test_a_corrected_file_of_events_names_the_days_that_it_touches(finished):
    shop = finished
    assert stale_of(shop) == {}
    before = shop.hashes(*TABLES)
    corrected = DAYS[2]
    fewer = [event for event in shop.orders if event[2] % (2 * HOUR)]
    shop.land([corrected], orders=fewer)
    shop.take([corrected])
    # 36 hours before an order of the day somebody may have seen the article.
    touched = {"user_state": DAYS[2:], "item_daily": DAYS[2:], EXAMPLES: MATURE}
    assert stale_of(shop) == touched
    shop.build(DAYS[2:])
    jobs.examples(shop.work, MATURE)
    assert stale_of(shop) == {}
    again = shop.hashes(*TABLES)
    assert again != before
    shop.build(DAYS[1:])
    jobs.examples(shop.work, MATURE)
    assert shop.hashes(*TABLES) == again


def test_impressions_that_land_again_may_be_nearer_to_an_event_of_an_earlier_one(finished):
    shop, read = finished, finished.work.impressions
    replaced = DAYS[2]
    rows = read([replaced]).drop(shop.schema.label.column).where("example_id % 2 = 0")
    shop.work.replace(rows, IMPRESSIONS, [replaced], keys=["timestamp", EXAMPLE_ID])
    touched = {"user_state": DAYS[2:], "item_daily": DAYS[2:], EXAMPLES: MATURE}
    assert stale_of(shop) == touched
    shop.build(DAYS[2:])
    jobs.examples(shop.work, MATURE)
    assert stale_of(shop) == {}


def test_the_rate_of_a_later_label_is_judged_by_day(finished):
    """A day that is out of line is not hidden by the others of a range."""
    shop, positives = finished, finished.positives()
    rates = {
        day: statistics.mean(
            n in positives for n, *_, at in shop.shown if 0 <= at - shop.midnight(day) < 24 * HOUR
        )
        for day in MATURE
    }
    limit = (min(rates.values()) + max(rates.values())) / 2
    low = [day for day in MATURE if rates[day] < limit]
    assert 0 < len(low) < len(MATURE)
    limits = dataclasses.replace(shop.schema.limits, min_positive_rate=limit)
    schema = dataclasses.replace(shop.schema, limits=limits)
    work = dataclasses.replace(shop.work, schema=schema)
    critical, reported = check_mature_rates(work, DAYS)
    assert critical == []  # days of 27 rows say little
    begins = [f"label order of {day}: share of positives {rates[day]:.4g} of 27" for day in low]
    assert [said.partition(" rows;")[0] for said in reported] == begins


def test_a_request_of_two_users_goes_to_quarantine_and_one_of_two_days_is_named(shop):
    shop.land(DAYS[:2])
    shop.take(DAYS[:1])
    path = shop.landing / "orders" / "impressions" / f"{DAYS[1]}.csv"
    header, first, second, *others = path.read_text().splitlines()
    # Request 0 began the day before; the second row of request 9 is another user's.
    shown = [first.replace(",r9,", ",r0,"), second.replace(",u", ",other-u"), *others]
    path.write_text("\n".join([header, *shown, ""]))
    _, impressions = shop.check(DAYS[1:2])
    assert impressions.critical == []
    assert impressions.broken_rules == {"user_id+request_id:one_user": 2}
    (said,) = [one for one in impressions.reported if one.startswith("request_id")]
    assert said == "request_id: 1 requests have rows on two days, as r0"
