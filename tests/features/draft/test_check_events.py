"""Each fault in the events of a later label is found and named; good ones have no findings."""

import datetime
import json

import pytest
from support.labels import orders_log
from support.logs import order_log
from support.logs.order_log import DAYS, FIRST_DAY, ONE_DAY

from features import __main__ as features_main
from features.datasets.catalog import data_set_at
from features.draft.checks.check import check
from features.draft.checks.events import with_events
from features.draft.checks.landed import read
from features.draft.checks.later_labels import longer_window
from features.draft.log.sample import connect

HOUR = datetime.timedelta(hours=1)
MINUTE = datetime.timedelta(minutes=1)


def run(folder, *days):
    """What was found, as ``check`` says it."""
    data_set = data_set_at(folder / "orders.yaml")
    return check(data_set, folder / "landing", days).findings


def found(folder, *days):
    """What was found, as (level, topic, key)."""
    return [(str(one.level), one.topic, one.key) for one in run(folder, *days)]


def test_good_events_have_no_findings(tmp_path):
    schema = order_log.land(tmp_path)
    checked = check(data_set_at(schema), tmp_path / "landing")
    assert checked.findings == ()
    # The orders of the fourth day's impressions are there, of the fifth's they are not.
    events = order_log.ordered(order_log.shown())
    final = [one for one in events if one["shown_at"].date() < FIRST_DAY + (DAYS - 1) * ONE_DAY]
    assert (
        f"  label    order {len(final) / 1200:.2%} of 1,200 rows (prior_rate 0.2)" in checked.page
    )


def each(column, value, every=1):
    """Sets a column in each so many-th event; ``value`` is a function of the event."""

    def spoil(events):
        for event in events[::every]:
            event[column] = value(event)

    return spoil


def without(column):
    def spoil(events):
        for event in events:
            del event[column]

    return spoil


def soon(hours):
    """All events are some minutes after their impression, and so many hours."""

    def spoil(events):
        for n, event in enumerate(events):
            event["at"] = event["shown_at"] + (n % 20) * MINUTE + hours * HOUR

    return spoil


def keep(every):
    def spoil(events):
        events[:] = events[::every]

    return spoil


def doubled(every):
    def spoil(events):
        events += [dict(event) for event in events[::every]]

    return spoil


FAULTS = [
    # what is spoilt, level, topic, key, what is said
    (without("item"), "error", "unreadable-file", "source", "column item, which is read as"),
    (each("page", lambda event: f"x{event['page']}"), "error", "unknown-key", "join",
     "(100.00%) have a key that no impression has, such as page 'xp"),
    (each("page", lambda event: f"x{event['page']}"), "error", "constant-label", "",
     "all 1,200 rows are negative (order of 1 or more"),
    (each("page", lambda event: f"x{event['page']}", 8), "warning", "unknown-key", "join", "(12."),
    (each("page", lambda event: f"x{event['page']}", 100), "info", "unknown-key", "join", "(0."),
    (each("at", lambda event: event["shown_at"] - 90 * MINUTE, 8), "warning", "early-event",
     "source.time", "before the impression with their key, up to 1.5 hours"),
    (each("at", lambda event: event["shown_at"] + 30 * HOUR, 8), "warning", "short-window",
     "window", "come later than 1d after their impression and are lost; a window of 2d would c"),
    (each("at", lambda event: event["shown_at"] + 30 * HOUR, 100), "info", "short-window",
     "window", "would catch 1."),
    (soon(2), "warning", "time-zone", "source.time", "are 2 hours after their impression"),
    (soon(-3), "warning", "time-zone", "source.time", "are 3 hours before their impression"),
    (soon(-3), "warning", "early-event", "source.time", "up to 3.0 hours"),
    (doubled(1), "warning", "repeated-event", "source", "repeat another with the same page, art"),
    (doubled(50), "info", "repeated-event", "source", "was a file exported twice"),
    (keep(20), "warning", "label-rate", "prior_rate", "0.2, and 1."),
    (each("item", lambda _: "a lamp", 40), "warning", "missing-value", "source",
     "%) have no value, or one that cannot be read as int64, such as 'a lamp' (order/2025-"),
    (each("item", lambda _: -1, 40), "warning", "out-of-range", "source", "events, item.minimum: "),
    (each("item", lambda _: "a lamp", 4), "error", "quarantine", "source",
     "%) would go to quarantine; at most 5%"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "level", "topic", "field", "said"), FAULTS)
def test_a_fault_is_found_and_named(tmp_path, spoil, level, topic, field, said):
    order_log.land(tmp_path, spoil=spoil)
    key = ".".join(filter(None, ("labels", "order", field)))
    findings = run(tmp_path)
    matching = [one for one in findings if (one.level, one.topic, one.key) == (level, topic, key)]
    assert matching, findings
    assert said in matching[0].said


def test_the_rate_of_the_target_is_judged_by_day(tmp_path):
    order_log.land(tmp_path, spoil=keep(20))
    (said, *_) = [one.said for one in run(tmp_path) if one.key == "limits.min_positive_rate"]
    assert "of the rows of 2025-03-01 are positive; at least 5.00%" in said


def test_events_that_fit_several_impressions_are_counted(tmp_path):
    def one_page(rows, _):
        for row in rows:
            row["page"] = "p"

    order_log.land(tmp_path, spoil_shown=one_page, spoil=each("page", lambda _: "p"))
    (one,) = [one for one in run(tmp_path) if one.topic == "several-impressions"]
    assert (one.level, one.key) == ("warning", "labels.order.join")
    assert "fit several impressions within 1d; the newest has each" in one.said


def test_a_column_that_knows_the_later_target_is_a_leak(tmp_path):
    def knows(rows, events):
        bought = {(event["page"], event["item"]) for event in events}
        for row in rows:
            row["position"] = int((row["page"], row["article"]) in bought)

    order_log.land(tmp_path, spoil_shown=knows)
    assert ("error", "leak", "context.position") in found(tmp_path)


def test_events_on_another_day_than_their_file_are_named(tmp_path):
    order_log.land(tmp_path, file_of=lambda event: (event["at"] + 5 * HOUR).date())
    (one,) = [one for one in run(tmp_path) if one.topic == "time-zone"]
    assert (one.level, one.key) == ("error", "labels.order.source.time")
    assert "events: " in one.said
    assert "are on another day (UTC) than their file, up to 4.6 hours before its day" in one.said


def test_days_without_a_file_of_events_are_missed(tmp_path, capsys):
    order_log.land(tmp_path)
    third = FIRST_DAY + 2 * ONE_DAY
    order_log.events_file(tmp_path, third).unlink()
    newest = order_log.events_file(tmp_path, FIRST_DAY + (DAYS - 1) * ONE_DAY)
    (one,) = run(tmp_path)
    assert (one.level, one.topic, one.key) == ("error", "missing-day", "labels.order.source")
    whole, _ = newest.read_bytes(), newest.unlink()
    assert run(tmp_path) == (one,), "of the newest day, events may come yet"
    newest.write_bytes(whole)
    assert one.said.startswith(f"the events of 1 days have not landed: {third}; ")
    for day in range(DAYS):
        order_log.events_file(tmp_path, FIRST_DAY + day * ONE_DAY).unlink(missing_ok=True)
    (one,) = run(tmp_path)
    assert "the events of 5 days have not landed: 2025-03-01, 2025-03-02, " in one.said
    assert str(order_log.events_file(tmp_path, FIRST_DAY)) in one.said
    flags = [f"--schema={tmp_path / 'orders.yaml'}", f"--landing={tmp_path / 'landing'}"]
    assert features_main.main(["check", *flags]) == 1
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["error"].startswith("labels.order.source: the events of 5 days have not landed")


def test_a_file_of_events_that_is_cut_off_is_named(tmp_path):
    order_log.land(tmp_path)
    file = order_log.events_file(tmp_path, FIRST_DAY)
    file.write_text(file.read_text()[:-2])
    (one,) = run(tmp_path)
    assert (one.topic, one.key) == ("unreadable-file", "labels.order.source")
    assert f"{file} is cut off" in one.said


def test_a_line_of_events_that_fits_no_header_is_named(tmp_path):
    order_log.land(tmp_path)
    file = order_log.events_file(tmp_path, FIRST_DAY)
    file.write_text(file.read_text() + "a,b,c,d\n")
    assert ("error", "broken-line", str(file)) in found(tmp_path)


def test_a_label_that_is_not_final_yet_has_no_rate(tmp_path):
    """Only the newest day is read: its window is not over, and too few orders are no fault."""
    schema = order_log.land(tmp_path)
    newest = FIRST_DAY + (DAYS - 1) * ONE_DAY
    (one,) = run(tmp_path, newest)
    assert (one.level, one.topic, one.key) == ("info", "young-label", "labels.order")
    assert f"events have landed until {newest}" in one.said
    assert f"check {newest - ONE_DAY} or an earlier day" in one.said
    page = check(data_set_at(schema), tmp_path / "landing", [newest]).page
    assert "order no row has its final label (prior_rate 0.2)" in page


def test_of_one_day_the_impressions_before_it_are_known_too(tmp_path):
    """Events of a day are mostly of the day before; they have impressions, and are no fault."""
    order_log.land(tmp_path)
    third = FIRST_DAY + 2 * ONE_DAY
    assert found(tmp_path, third) == []

    def late_or_unknown(events):
        each("at", lambda event: event["shown_at"] + 26 * HOUR, 4)(events)
        each("page", lambda event: f"x{event['page']}", 5)(events)

    order_log.land(tmp_path, spoil=late_or_unknown)
    topics = {one.topic for one in run(tmp_path, third) if one.level == "warning"}
    assert topics >= {"short-window", "unknown-key"}


def test_impressions_are_positive_as_defined(tmp_path, monkeypatch):
    """Several orders of one impression, repeated impressions, moments at the window's end."""
    monkeypatch.setenv("RANKING_SCHEMAS", str(orders_log.FILE))
    shop = orders_log.Shop(None, tmp_path)
    shop.land(orders_log.DAYS)
    with connect() as connection:
        data_set = data_set_at(orders_log.FILE)
        landed, _ = read(connection, data_set, shop.landing / "orders", ())
        landed, (events,) = with_events(data_set, shop.landing / "orders", landed)
        labelled = connection.execute(
            'SELECT example_id, "order" FROM impressions WHERE "order" IS NOT NULL'
        ).fetchall()
    assert list(events.final) == orders_log.DAYS[:-2]
    ids = {n for n, *_, at in shop.shown if at < shop.midnight(orders_log.DAYS[-2])}
    assert {n for n, _ in labelled} == ids
    assert {n for n, positive in labelled if positive} == shop.positives() & ids


@pytest.mark.parametrize(
    ("window", "age", "longer"),
    [
        ({"days": 3}, {"days": 3, "seconds": 1}, {"days": 4}),
        ({"hours": 36}, {"hours": 40}, {"hours": 40}),
        ({"minutes": 30}, {"hours": 2, "seconds": 1}, {"minutes": 121}),
        ({"seconds": 90}, {"seconds": 100, "microseconds": 1}, {"seconds": 101}),
    ],
)
def test_a_longer_window_is_whole_in_the_windows_own_unit(window, age, longer):
    window, age, longer = (datetime.timedelta(**one) for one in (window, age, longer))
    assert longer_window(window, age) == longer
