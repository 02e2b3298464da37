"""The jobs on a small generated log: repetition, corrections, checks, quarantine, retention."""

import dataclasses
import datetime
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from pyspark.sql import functions as F

from features.lake.lake import EXAMPLES, IMPRESSIONS, IMPRESSIONS_RAW
from features.pipeline import jobs
from features.pipeline.ingestion.ingest import ingest
from features.pipeline.retention import prune
from features.schema import CREATED, Severity, TableKind
from features.spark.row_rules import impression_rules
from features.spark.session import landed_struct
from features.validation import checks, gx_project
from features.validation.quality_page import write_quality_page

pytestmark = pytest.mark.spark

DAY = datetime.timedelta(days=1)


def hashes(work, days):
    tables = ["user_state", "item_daily", EXAMPLES, IMPRESSIONS_RAW]
    return {(t, d): work.lake.manifest(t, d).content_hash for t in tables for d in days}


def test_the_bootstrap_and_single_days_write_the_same_rows(work, built, builds):
    before = hashes(work, built.days)
    for day in built.days[-2:]:
        ingest(work, built.landing, [day])
        builds.publish(day)
        jobs.examples(work, [day])
    assert hashes(work, built.days) == before


def test_a_correction_keeps_what_was_published_and_counts_from_its_moment(
    work, built, builds, build_alone
):
    day = built.days[-1]
    build_alone(TableKind.STATE)
    table = work.schema.table("user_state")
    published = work.features(table, [day]).count()
    moment = datetime.datetime(2025, 3, 1, tzinfo=datetime.UTC)
    for _ in range(2):  # a correction that is repeated is the same correction
        builds.publish(day, available_at=moment)
        rows = work.features(table, [day])
        assert rows.where(F.col(CREATED) == F.lit(moment)).count() == published
        assert rows.count() == 2 * published
    builds.publish(day)
    assert work.features(table, [day]).count() == 2 * published


def raw_with(work, spark, day, **changes):
    """The raw partition of a day with some values of its first rows changed."""
    ordered = work.impressions([day], IMPRESSIONS_RAW).orderBy("example_id").collect()
    rows = [row.asDict() for row in ordered]
    for column, values in changes.items():
        for row, value in zip(rows, values, strict=False):
            row[column] = value
    frame = spark.createDataFrame(rows, landed_struct(work.schema))
    work.replace(frame.withColumn("day", F.lit(day)), IMPRESSIONS_RAW, [day], keys=["example_id"])


def test_rows_that_break_a_warning_are_quarantined_with_rule_and_reason(
    work, spark, built, tmp_path
):
    day = built.days[0]
    raw_with(work, spark, day, device=["fridge", "phone", None], click=[1, 7, 0])
    outcome = checks.check_impressions(work, [day], tmp_path / "reports")
    assert outcome.critical == []
    assert outcome.quarantined == 3
    assert outcome.broken_rules == {"device:vocabulary": 1, "device:present": 1, "click:range": 1}
    rows = work.lake.manifest(IMPRESSIONS_RAW, day).rows
    assert work.lake.manifest(IMPRESSIONS, day).rows == rows - 3
    files = work.lake.snapshot("quarantine_impressions").files(day)
    moved = spark.read.parquet(*map(str, files)).collect()
    assert {tuple(row["rules"]): tuple(row["reasons"]) for row in moved} == {
        ("device:vocabulary",): ("not one of the 3 known values",),
        ("device:present",): ("missing, or it could not be read as its type",),
        ("click:range",): ("outside 0 to 1",),
    }
    landed = {(row["source_file"], row["source_line"] > 0) for row in moved}
    assert landed == {(f"impressions/{day}.parquet", True)}
    assert (tmp_path / "reports" / outcome.data_docs).exists()


def test_a_user_with_more_rows_than_a_day_may_have_is_quarantined(work, spark, built, tmp_path):
    """A program, or an id that many share: its rows would be one task of every job."""
    day, user = built.days[0], 7
    raw_with(work, spark, day, user_id=[user] * 150)
    limits = dataclasses.replace(
        work.schema.limits, max_rows_of_user=100, max_quarantined_share=0.5
    )
    strict = dataclasses.replace(work, schema=dataclasses.replace(work.schema, limits=limits))
    outcome = checks.check_impressions(strict, [day], tmp_path)
    assert outcome.critical == []
    of_user = outcome.broken_rules.pop("user_id:frequency")
    assert (outcome.broken_rules, outcome.quarantined) == ({}, of_user)
    assert of_user >= 150
    assert work.impressions([day]).where(F.col("user_id") == user).count() == 0
    largest = work.impressions([day]).groupBy("user_id").count().agg(F.max("count")).first()[0]
    assert 0 < largest <= 100


def test_pages_and_data_docs_are_published_wherever_reports_lie(
    work, built, anywhere, tmp_path, monkeypatch
):
    """And a machine that has checked nothing yet goes on from what others have published."""
    index = (
        anywhere / "reports/synthetic/expectations/gx/uncommitted/data_docs/local_site/index.html"
    )
    for day, name in zip(built.days[:2], "ab", strict=True):
        monkeypatch.setenv("RANKING_VAR", str(tmp_path / name))
        outcome = checks.check_impressions(work, [day], anywhere / "reports")
        page = write_quality_page(
            anywhere / "reports", work.schema, "impressions", [day], [outcome]
        )
        assert "passed" in (anywhere / "reports" / page).read_text()
        assert anywhere / "reports" / outcome.data_docs == index
        gx_project.project.cache_clear()
    checked = list((index.parent / "validations").rglob("*.html"))
    # The folder of a page is named by the moment of the check.
    # Of the rows, and of the days.
    assert len({page.parent.name for page in checked}) == 2 * 2
    assert all(page.parent.name in index.read_text() for page in checked)


def results_of(reports, schema, suite):
    """What the newest run of a suite found, by rule."""
    folder = reports / schema.name / "expectations" / "gx" / "uncommitted" / "validations"
    newest = max((folder / suite).rglob("*.json"), key=lambda path: path.stat().st_mtime)
    results = json.loads(newest.read_text())["results"]
    metas = [found["expectation_config"].get("meta") or {} for found in results]
    return {
        meta["rule"]: {**found["result"], "notes": meta.get("notes", "")}
        for meta, found in zip(metas, results, strict=True)
        if "rule" in meta
    }


def test_great_expectations_shows_the_rows_that_the_warnings_route(work, spark, built, tmp_path):
    """Each rule is evaluated once: warnings where they route, all others over what is good."""
    day = built.days[0]
    raw_with(work, spark, day, device=["fridge", "toaster"], click=[9])
    raw = work.impressions([day], IMPRESSIONS_RAW)
    checks.check_impressions(work, [day], tmp_path)
    routed = results_of(tmp_path, work.schema, "synthetic-impressions-days")
    rules = impression_rules(work.schema)
    warnings = [rule for rule in rules if rule.severity is Severity.WARNING]
    expected = {rule.name: raw.where(rule.broken()).count() for rule in warnings}
    assert {name: routed[name]["observed_value"] for name in expected} == expected
    assert expected["device:vocabulary"] == 2
    assert routed["device:vocabulary"]["notes"].endswith("known values; such as fridge, toaster")
    assert routed["click:range"]["notes"].endswith("; such as 9")
    judged = results_of(tmp_path, work.schema, "synthetic-impressions")
    others = {rule.name for rule in rules if rule not in warnings}
    assert set(judged) == {*others, "label rate"}
    assert {judged[name]["element_count"] for name in others} == {
        work.lake.manifest(IMPRESSIONS, day).rows
    }


def test_values_that_break_a_critical_rule_are_shown_once(work, spark, built, tmp_path):
    """And the run that only counted is gone."""
    day = built.days[0]
    raw_with(work, spark, day, example_id=[1, 1])
    for runs in (1, 2):
        checks.check_impressions(work, [day], tmp_path)
        judged = results_of(tmp_path, work.schema, "synthetic-impressions")
        assert judged["example_id:unique"]["partial_unexpected_list"] == [1, 1]
        kept = list((tmp_path / "synthetic").rglob("validations/synthetic-impressions/**/*.json"))
        assert len(kept) == runs


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"example_id": [1, 1]}, "example_id:unique"),
        ({"item_id": [None]}, "item_id:present"),
        ({"item_id": [-4]}, "item_id:range"),
    ],
)
def test_a_critical_rule_stops_the_day_and_nothing_is_published(
    work, spark, built, tmp_path, changes, rule
):
    day = built.days[0]
    raw_with(work, spark, day, **changes)
    before = work.lake.manifest(IMPRESSIONS, day)
    outcome = checks.check_impressions(work, [day], tmp_path / "reports")
    # Of ids that are there twice more sentences say which, and where they landed.
    assert outcome.critical[0].split(": ")[0] == rule
    assert len(outcome.critical) == (2 if rule == "example_id:unique" else 1)
    assert work.lake.manifest(IMPRESSIONS, day) == before


def test_a_strange_label_rate_or_number_of_rows_stops_the_day(work, spark, built, tmp_path):
    day = built.days[-1]
    rows = work.lake.manifest(IMPRESSIONS_RAW, day).rows
    raw_with(work, spark, day, click=[1] * rows)
    outcome = checks.check_impressions(work, [day], tmp_path / "reports")
    assert outcome.critical[0].startswith("label rate")
    few = work.impressions([day], IMPRESSIONS_RAW).limit(5)
    work.replace(few, IMPRESSIONS_RAW, [day], keys=["example_id"])
    outcome = checks.check_impressions(work, [day], tmp_path / "reports")
    assert outcome.critical == [
        "rows of 2025-01-06: 5 published; at least 200 (median of the 5 days before: 1000)"
    ]


def test_bad_feature_rows_leave_the_table(waiting, built, tmp_path, spoil):
    work, day = waiting, built.days[-1]
    before = work.lake.manifest("item_daily", day).rows
    spoil(day, "item_impressions_1d", -1)
    outcomes = {o.table: o for o in checks.check_features(work, [day], tmp_path / "reports")}
    assert outcomes["item_daily"].broken_rules == {"item_impressions_1d:range": 1}
    assert work.lake.manifest("item_daily", day).rows == before - 1
    assert work.lake.manifest("quarantine_item_daily", day).rows == 1
    assert outcomes["user_state"].quarantined == 0


def test_two_checks_at_once_do_not_come_upon_each_others_settings(tmp_path):
    context = gx_project.project(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda _: context.config_provider.get_values(), range(200)))
    assert all(values == read[0] for values in read)


def test_retention_keeps_what_later_jobs_read(work, built):
    today = built.days[-1] + 40 * DAY
    removed = prune(work.schema, work.lake.root.parent, today=today, keep_days=1)
    assert removed[EXAMPLES]["days"] == len(built.days) - 1
    assert work.lake.days("item_daily") == built.days[-1:]
    assert work.lake.days("user_attributes") == [work.schema.epoch]
    kept = prune(work.schema, work.lake.root.parent, today=built.days[-1], keep_days=1)
    assert kept == {}


def test_every_critical_rule_is_about_keys():
    from features.datasets.catalog import names, schema_of

    for schema in map(schema_of, names()):
        keys = {"example_id", "timestamp", *(column.name for _, column in schema.entities())}
        keys |= {schema.request.name} if schema.request else set()
        for rule in impression_rules(schema):
            if rule.severity is Severity.CRITICAL:
                assert set(rule.columns) <= keys
