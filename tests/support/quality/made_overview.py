"""Three weeks of results, as parity, quality, drift, gate, policy and alerts write them."""

import datetime
import json

from features.pages import site
from features.parity.results import write_result
from features.places import put_whole
from serving.policy.decision import Decision, Finding, State
from serving.policy.journal import Journal
from serving.policy.table import Action
from training.monitoring.overview.days import days_until, newest_alerts
from training.monitoring.overview.page import Freshness, overview_page, overview_path
from training.monitoring.quality.results import FORMAT_VERSION, write_day

DATASET = "movielens-100k"
LAST = datetime.date(1998, 4, 20)
NOON = datetime.datetime(1998, 4, 21, 12, tzinfo=datetime.UTC)
"""Of the day after the last: its daily run may still be under way."""
VERSION = "1998-04-19-0123abcd"
FEATURES = ("user_positive_rate_last_20", "item_impressions_7d", "user_occupation_of_the_log")


def write_results(reports, *, number=21, is_decided=True):
    """One feature differs more each day; the newest three days drift; a roll-back in the end."""
    for back in range(number):
        day = LAST - datetime.timedelta(days=back)
        _parity(reports, day, worst=max(0.0, 0.06 - 0.005 * back))
        _quality(reports, day, calibration=1.0 + max(0, 5 - back) * 0.12, back=back)
        _drift(reports, day, is_drifted=back < 3)
        decision = {"decision": "promote" if back % 3 else "hold"}
        put_whole(
            reports / DATASET / "gate" / str(day) / "decision.json", json.dumps(decision).encode()
        )
        put_whole(reports / DATASET / "gate" / str(day) / "index.html", b"<h1>gate")
    if is_decided:
        _decide(reports)


def _decide(reports):
    journal = Journal(reports, DATASET)
    found = {
        "parity": Finding(State.KEPT, "0.01 % differ"),
        "freshness": Finding(State.KEPT, "new"),
    }
    rolled_back = Decision("version-broken", Action.ROLL_BACK, "calibration 1.6", VERSION)
    journal.note(
        LAST - datetime.timedelta(days=1), Decision("nothing", Action.NOTHING, "nothing"), found, {}
    )
    journal.note(LAST, rolled_back, found, {"to": "1998-04-18-4567cdef"})
    alert = {"alert": "rolled-back", "run": "scheduled__1998-04-21", "what": "calibration 1.6"}
    put_whole(reports / DATASET / "alerts" / "run-rolled-back.json", json.dumps(alert).encode())


def write_overview(reports, *, members=(), number=21):
    """The page of all that; returns its path below ``reports``."""
    page = overview_page(
        DATASET,
        days_until(LAST, number, dataset=DATASET, reports=reports),
        tables=[
            Freshness.of("impressions", LAST, NOON),
            Freshness.of("item_daily", LAST - datetime.timedelta(days=1), NOON),
            Freshness.of("user_state", LAST - datetime.timedelta(days=2), NOON),
            Freshness.of("examples", None, NOON),
        ],
        members=members,
        alerts=newest_alerts(DATASET, reports),
    )
    return site.write(page, reports, overview_path(DATASET))


def _parity(reports, day, *, worst):
    shares = {FEATURES[0]: worst, FEATURES[1]: worst / 50, FEATURES[2]: 0.0}
    content = {
        "window": str(day),
        "ends_at": f"{day + datetime.timedelta(days=1)}T00:00:00+00:00",
        "made_at": f"{day + datetime.timedelta(days=1)}T01:00:00+00:00",
        "compared": 12_000.0,
        "unexplained_share": worst / 10,
        "max_unexplained": 0.001,
        "features": [{"table": "t", "feature": f, "share": s} for f, s in shares.items()],
    }
    write_result(reports, DATASET, str(day), content)
    put_whole(reports / DATASET / "parity" / f"{day}.html", b"<h1>parity")


def _quality(reports, day, *, calibration, back):
    def figure(value):
        return {"value": value, "low": value * 0.95, "high": value * 1.05}

    measured = {"ne": figure(0.85 + 0.002 * back), "calibration": figure(calibration)}
    is_final = back > 0
    version = {
        "version": VERSION,
        "role": "champion",
        "requests": 4_321,
        "is_broken": calibration > 1.25 if is_final else None,
        "reason": f"calibration: {calibration:.2f}",
        "measured": measured if is_final else None,
    }
    result = {
        "format_version": FORMAT_VERSION,
        "dataset": DATASET,
        "day": str(day),
        "state": "measured" if is_final else "estimated",
        "versions": [version],
    }
    write_day(reports, result, [])
    put_whole(reports / DATASET / "quality" / str(day) / "index.html", b"<h1>quality")


def _drift(reports, day, *, is_drifted):
    one = {
        "feature": "price",
        "statistic": "PSI",
        "slice": "device = phone",
        "reason": "price: PSI 0.31",
    }
    found = {
        "judged": True,
        "why_not_judged": None,
        "drifted": [one] if is_drifted else [],
        "statistics": 96,
    }
    folder = reports / DATASET / "drift" / "log" / str(day)
    put_whole(folder / "drift.json", json.dumps(found).encode())
    put_whole(folder / "index.html", b"<h1>drift")
