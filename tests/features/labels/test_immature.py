"""Rows whose label is not final: which are learnt, what is known of them, and by which delays."""

import dataclasses
import datetime
from fractions import Fraction

import pytest
from support.labels.orders_log import DAYS, HOUR

from features.labels import immature
from features.labels.events import events_table
from features.labels.judged import is_judged_key, judged_rows
from features.lake.lake import EXAMPLES, IMMATURE_EXAMPLES, IMPRESSIONS
from features.pipeline import jobs
from features.pipeline.retention import needed_days, prune
from features.schema import Correction, Immature, TableKind

DAY = datetime.timedelta(days=1)
LEARNT = DAYS[-3]
"""Two days before the last: its labels are final."""
DECLARED = Immature(correction=Correction.INVERSE_PROBABILITY, min_known_share=0.3, delay_days=9)
WINDOW = 36 * HOUR


@pytest.fixture
def declared(finished, monkeypatch):
    """The shop of the tests, whose orders are few, learnt before they are final."""
    monkeypatch.setattr(immature, "FEWEST_DELAYS", 20)
    schema = finished.schema
    labels = tuple(
        dataclasses.replace(label, immature=DECLARED) if label is schema.label else label
        for label in schema.labels
    )
    finished.schema = dataclasses.replace(schema, labels=labels)
    finished.work = dataclasses.replace(finished.work, schema=finished.schema)
    return finished


def delays(shop) -> dict[int, int]:
    """By the definition: seconds until the first order of each positive impression."""
    found: dict[int, int] = {}
    for user, item, at in shop.orders:
        before = [
            (when, n)
            for n, who, what, when in shop.shown
            if (who, what) == (user, item) and when <= at
        ]
        if before and at - max(before)[0] <= WINDOW:
            when, n = max(before)
            found[n] = min(at - when, found.get(n, WINDOW))
    return found


def expected(shop) -> dict[int, tuple[int, float]]:
    """By the definition: label and known share of each row that is learnt."""
    late, end = delays(shop), shop.midnight(DAYS[-1] + DAY) - 2 * HOUR
    mature = [late[n] for n, *_, at in shop.shown if n in late and at < shop.midnight(LEARNT + DAY)]
    rows = {}
    for n, _, _, at in shop.shown:
        if at < shop.midnight(LEARNT) or at > end or is_judged_key(f"r{n // 3}"):
            continue
        known_for = Fraction(min(end - at, WINDOW) * 100 // WINDOW * WINDOW, 100)
        share = sum(delay <= known_for for delay in mature) / len(mature)
        if share >= DECLARED.min_known_share:
            rows[n] = (int(late.get(n, WINDOW + 1) <= known_for), share)
    return rows


@pytest.mark.spark
def test_rows_are_learnt_as_they_are_known_and_mature_examples_stay_as_they_are(declared):
    shop, columns = declared, ["example_id", "label", "_known_share"]
    mature = shop.hashes(EXAMPLES)
    made = jobs.immature_examples(shop.work, LEARNT)
    rows = shop.work.lake.snapshot(IMMATURE_EXAMPLES).read(LEARNT, columns).to_pylist()
    found = {row["example_id"]: (row["label"], row["_known_share"]) for row in rows}
    wanted = expected(shop)
    assert found == {n: (label, pytest.approx(share)) for n, (label, share) in wanted.items()}
    labels, shares = zip(*found.values(), strict=True)
    assert 3 < sum(labels) < len(labels) - 3
    assert min(shares) < 0.8
    assert max(shares) == 1
    # They are read and encoded as the others are, and are those of this day's run alone.
    own = shop.work.lake.snapshot(EXAMPLES).read(LEARNT)
    read = shop.work.lake.snapshot(IMMATURE_EXAMPLES).read(LEARNT)
    assert set(read.column_names) == {*own.column_names, "_known_share"}
    assert made.to_dict()["rows"] == len(found)
    jobs.examples(shop.work, [LEARNT])
    assert shop.hashes(EXAMPLES) == mature
    # Of the run before nothing is needed: the next one has its rows again.
    jobs.immature_examples(shop.work, LEARNT - DAY)
    prune(shop.schema, shop.work.lake.root.parent, today=DAYS[-1], keep_days=9, grace_hours=0)
    shop.work.lake.refresh()
    assert shop.work.lake.days(IMMATURE_EXAMPLES) == [LEARNT]


@pytest.mark.spark
def test_of_too_few_delays_nothing_is_learnt(declared, monkeypatch):
    monkeypatch.setattr(immature, "FEWEST_DELAYS", 10_000)
    assert jobs.immature_examples(declared.work, LEARNT).to_dict()["rows"] == 0


@pytest.mark.spark
def test_the_requests_that_judge_are_those_that_were_not_learnt(declared):
    shop, rows = declared, declared.work.lake.snapshot(EXAMPLES).read(LEARNT)
    jobs.immature_examples(shop.work, LEARNT)
    learnt = shop.work.lake.snapshot(IMMATURE_EXAMPLES).read(LEARNT, ["request_id"])
    judged = judged_rows(shop.schema, rows)
    assert 0 < judged.num_rows < rows.num_rows
    assert not {*judged["request_id"].to_pylist()} & {*learnt["request_id"].to_pylist()}
    # Where only mature rows are learnt, all judge.
    label = dataclasses.replace(shop.schema.label, immature=None)
    labels = tuple(label if one.name == label.name else one for one in shop.schema.labels)
    assert judged_rows(dataclasses.replace(shop.schema, labels=labels), rows) is rows


def test_the_share_of_requests_that_judge_is_a_quarter():
    assert sum(is_judged_key(f"r{n}") for n in range(4_000)) == pytest.approx(1_000, abs=90)
    assert sum(is_judged_key(n) for n in range(4_000)) == pytest.approx(1_000, abs=90)


def test_retention_keeps_what_delays_and_the_holdout_are_read_from(declared):
    schema = declared.schema
    before = needed_days(dataclasses.replace(schema, labels=_mature(schema)))
    longer = dataclasses.replace(schema.label.immature, delay_days=60)
    label = dataclasses.replace(schema.label, immature=longer)
    labels = tuple(label if one.name == label.name else one for one in schema.labels)
    needed = needed_days(dataclasses.replace(schema, labels=labels, holdout_days=40))
    mature_after = schema.maturity_days * DAY
    for table in (IMPRESSIONS, events_table(label)):
        assert before[table] < needed[table] == 60 * DAY + mature_after
    for table in schema.tables:
        if table.kind is not TableKind.ATTRIBUTES:
            assert needed[table.name] >= 40 * DAY + mature_after


def _mature(schema):
    label = dataclasses.replace(schema.label, immature=None)
    return tuple(label if one.name == label.name else one for one in schema.labels)
