"""Great Expectations: the suite that the schema's rules become, its run, and what follows from it.

Severity decides. A broken critical rule stops the day and nothing is written; rows that break a
warning move to a quarantine partition with the rule and the reason; information is reported. A day
as a whole is judged by the rows that would be published, and by how many would not.
Great Expectations is imported here only.
"""

import concurrent.futures
import contextlib
import dataclasses
import datetime
import functools
import json
import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import great_expectations as gx
import great_expectations.expectations as gxe
from great_expectations.core import config_provider
from great_expectations.core.yaml_handler import YAMLHandler
from great_expectations.execution_engine import SparkDFExecutionEngine
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from features.pipeline.aggregates import is_positive
from features.pipeline.jobs import Workspace, publish_impressions
from features.schema import DAY, LABEL, FeatureTable, Schema, Severity, TableKind
from features.spark.lake import IMPRESSIONS, IMPRESSIONS_RAW, ONE_DAY, QUARANTINE
from features.spark.session import feature_struct, impressions_struct
from features.validation.row_counts import judge
from features.validation.row_rules import Check, Rule, feature_rules, impression_rules

logger = logging.getLogger(__name__)

_RULES, _REASONS = "rules", "reasons"
_PUBLISHED, _QUARANTINED_SHARE = "published", "quarantined_share"
_CHECKS_AT_ONCE = 2
_BROKEN_VALUES = 20
"""That the Data Docs show of each rule."""
_SMALLEST_DAY_FOR_LABEL_RATE = 500
"""Below it a label rate outside the limits is chance, and only reported."""
_FEW_QUARANTINED = 5
"""So many rows of a day may go to quarantine whatever their share: a small day has such."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What checking one table found."""

    table: str
    rows: int
    quarantined: int
    critical: list[str]
    """Broken critical rules, with what was seen; empty when the day may go on."""
    reported: list[str]
    """Broken information rules, with what was seen."""
    broken_rules: dict[str, int]
    """Rows that each broken row rule found."""
    data_docs: str
    """Path of the Data Docs below the reports folder."""


def check_impressions(work: Workspace, days: Sequence[datetime.date], reports: Path) -> Outcome:
    """Check raw impressions; publish the good rows, quarantine the rest, or stop on a critical."""
    rules = impression_rules(work.schema)
    frame = _routed(work.impressions(days, IMPRESSIONS_RAW), rules)
    published = F.col(_PUBLISHED) == 1
    labelled = frame.withColumn(LABEL, F.when(published, is_positive(work.schema.label)))
    suite = _Suite(work.schema, IMPRESSIONS, impressions_struct(work.schema), reports)
    with _cached(labelled):
        sums = labelled.groupBy(DAY).agg(F.sum(_PUBLISHED)).collect()
        rows_of: dict[datetime.date, int] = dict(sums)
        suite.define(rules, _day_expectations(work.schema, rows_of))
        outcome = suite.run(labelled)
        counts = {day: rows_of.get(day, 0) for day in days}
        too_few, unusual = judge(work.schema.limits, counts, _trailing_rows(work, days))
        outcome.critical.extend(too_few)
        outcome.reported.extend(unusual)
        _update_docs([suite])
        if not outcome.critical:
            names = [*impressions_struct(work.schema).names, DAY]
            keys = _quarantine(work, labelled, IMPRESSIONS, days, names=names)
            good = labelled.where(published).select(*names)
            publish_impressions(work, good, days, keys=keys)
    return outcome


def check_features(work: Workspace, days: Sequence[datetime.date], reports: Path) -> list[Outcome]:
    """Check every feature table; its bad rows move to quarantine, or a critical stops the day."""
    checks = [_table_check(work, table, days, reports) for table in work.schema.tables]
    # Python and the JVM take turns in one check: two at once keep both busy.
    with (
        contextlib.ExitStack() as caches,
        concurrent.futures.ThreadPoolExecutor(_CHECKS_AT_ONCE) as pool,
    ):
        for check in checks:
            caches.enter_context(_cached(check.frame))
        outcomes = list(pool.map(lambda check: check.suite.run(check.frame), checks))
        _update_docs([check.suite for check in checks])
        for check, outcome in zip(checks, outcomes, strict=True):
            if outcome.quarantined and not outcome.critical:
                table = check.suite.table
                keys = _quarantine(work, check.frame, table, check.days, names=check.names)
                good = check.frame.where(F.col(_PUBLISHED) == 1).select(*check.names)
                work.replace(good, table, check.days, keys=keys)
    return outcomes


@contextlib.contextmanager
def _cached(frame: DataFrame) -> Iterator[None]:
    """Keep a frame's rows in memory for the block; other sessions may have caches of their own."""
    frame.cache()
    try:
        yield
    finally:
        frame.unpersist()


@dataclasses.dataclass(frozen=True)
class _TableCheck:
    """What the check of one feature table needs."""

    suite: "_Suite"
    frame: DataFrame
    days: Sequence[datetime.date]
    names: Sequence[str]


def _table_check(
    work: Workspace, table: FeatureTable, days: Sequence[datetime.date], reports: Path
) -> _TableCheck:
    table_days = [work.schema.epoch] if table.kind is TableKind.ATTRIBUTES else days
    struct = feature_struct(work.schema, table)
    rules = feature_rules(work.schema, table)
    frame = _routed(work.features(table, table_days), rules)
    suite = _Suite(work.schema, table.name, struct, reports)
    has_rows = any(work.lake.manifest(table.name, day).rows for day in table_days)
    suite.define(rules, [_quarantine_expectation(work.schema)] if has_rows else [])
    return _TableCheck(suite, frame, table_days, names=[*struct.names, DAY])


def _quarantine(
    work: Workspace,
    frame: DataFrame,
    table: str,
    days: Sequence[datetime.date],
    *,
    names: Sequence[str],
) -> list[str]:
    """Move bad rows before the good ones are published; returns the keys by which both are sorted.

    A job that is killed in between is run again and finds the same bad rows.
    """
    quarantine = f"{QUARANTINE}_{table}"
    keys = [name for name in names if name != DAY][:3]
    bad = frame.where(F.col(_PUBLISHED) == 0)
    if work.lake.days_between(quarantine, days[0], days[-1]) or not bad.isEmpty():
        work.replace(bad.select(*names, _RULES, _REASONS), quarantine, days, keys=keys)
    return keys


class _Suite:
    """The Great Expectations side of one table's check: define, then run.

    Only ``run`` may be called beside other suites' runs.
    """

    def __init__(self, schema: Schema, table: str, struct: Any, reports: Path) -> None:
        self.name = f"{schema.name}-{table}"
        self.table = table
        self.struct = struct
        self.root = reports / schema.name / "expectations"
        self.reports = reports
        self.rules: Sequence[Rule] = ()
        self.checkpoint: Any = None
        self.result_ids: list[Any] = []

    def define(self, rules: Sequence[Rule], whole: Sequence[gxe.Expectation]) -> None:
        """Write the suite: the types of the columns, the rules of rows, and those of the whole."""
        self.rules = rules
        typed = [
            gxe.ExpectColumnValuesToBeOfType(
                column=field.name, type_=type(field.dataType).__name__, severity="critical"
            )
            for field in self.struct.fields
        ]
        context = _context(self.root)
        source = context.data_sources.add_or_update_spark(name=self.name)
        batch = source.add_dataframe_asset(name=self.table).add_batch_definition_whole_dataframe(
            "rows"
        )
        expectations = [*typed, *map(_expectation, rules), *whole]
        suite = gx.ExpectationSuite(name=self.name, expectations=expectations)
        definition = gx.ValidationDefinition(name=self.name, data=batch, suite=suite)
        # It adds or updates what it consists of, and each time all are compared with each other.
        self.checkpoint = context.checkpoints.add_or_update(
            gx.Checkpoint(
                name=self.name,
                validation_definitions=[definition],
                result_format=_counts_and(0),
            )
        )

    def run(self, frame: DataFrame) -> Outcome:
        """Validate rows as ``_routed`` marks them; the caller caches them."""
        rows = frame.count()
        result = self._validate(frame)
        if any((found["result"] or {}).get("unexpected_count") for found in result["results"]):
            self._forget_results()
            self.checkpoint.result_format = _counts_and(_BROKEN_VALUES)
            self.checkpoint.save()
            result = self._validate(frame)
        counts = frame.select(F.explode(_RULES).alias("rule")).groupBy("rule").count()
        broken: dict[str, int] = dict(counts.collect())
        quarantined = frame.where(F.col(_PUBLISHED) == 0).count() if broken else 0
        failed = [r for r in result["results"] if not r["success"]]
        return Outcome(
            table=self.table,
            rows=rows,
            quarantined=quarantined,
            critical=[_sentence(r) for r in failed if _severity(r) == Severity.CRITICAL],
            reported=[_sentence(r) for r in failed if _severity(r) == Severity.INFO],
            broken_rules=broken,
            data_docs=str(self._docs().relative_to(self.reports)),
        )

    def _validate(self, frame: DataFrame) -> dict[str, Any]:
        results = self.checkpoint.run(batch_parameters={"dataframe": frame}).run_results
        self.result_ids = list(results)
        found: dict[str, Any] = next(iter(results.values())).to_json_dict()
        return found

    def _forget_results(self) -> None:
        """The last run's, which another takes the place of."""
        for result in self.result_ids:
            _context(self.root).validation_results_store.remove_key(result)

    def _docs(self) -> Path:
        return self.root / "gx" / "uncommitted" / "data_docs" / "local_site" / "index.html"


def _counts_and(values: int) -> dict[str, Any]:
    """Results with the numbers of rows, and so many of the values that break a rule.

    BASIC: SUMMARY adds another query for each expectation, and COMPLETE all broken rows.
    """
    return {"result_format": "BASIC", "partial_unexpected_count": values}


def _update_docs(suites: Sequence[_Suite]) -> None:
    """Write the Data Docs pages of what the suites last found."""
    results = [result for suite in suites for result in suite.result_ids]
    named = [result.expectation_suite_identifier for result in results]
    _context(suites[0].root).build_data_docs(resource_identifiers=[*named, *results])


class _SharedYaml(YAMLHandler):
    """Great Expectations reads its settings with one parser for all threads; this one is for that.

    Two checks at once came upon each other's documents ("found another document").
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def load(self, stream: Any) -> Any:
        """One at a time."""
        with self._lock:
            return super().load(stream)


def _spared(resolve: Callable[..., dict[Any, Any]]) -> Callable[..., dict[Any, Any]]:
    """``resolve_metrics`` of the Spark engine, without its queries for no values.

    Great Expectations asks Spark for the broken values of each expectation, also where it is to
    keep none of them: on a day without any, half of its queries.
    """

    def resolve_metrics(
        engine: Any, metrics_to_resolve: Collection[Any], *arguments: Any, **options: Any
    ) -> dict[Any, Any]:
        spared = {metric.id for metric in metrics_to_resolve if _asks_for_no_values(metric)}
        asked = {metric for metric in metrics_to_resolve if metric.id not in spared}
        found = resolve(engine, asked, *arguments, **options) if asked else {}
        return {**found, **{metric: [] for metric in spared}}

    return resolve_metrics


def _asks_for_no_values(metric: Any) -> bool:
    limits = metric.metric_value_kwargs.get("result_format")
    is_none = isinstance(limits, dict) and limits.get("partial_unexpected_count") == 0
    return is_none and str(metric.metric_name).endswith(".unexpected_values")


@functools.cache
def _adapt_library() -> None:
    """Once for the process."""
    config_provider.yaml = _SharedYaml()
    engine: Any = SparkDFExecutionEngine
    engine.resolve_metrics = _spared(engine.resolve_metrics)


@functools.cache
def _context(root: Path) -> Any:
    """The Great Expectations project of one data set, opened once."""
    _adapt_library()
    root.mkdir(parents=True, exist_ok=True)
    context = gx.get_context(mode="file", project_root_dir=str(root))
    context.variables.progress_bars = {"globally": False}
    context.variables.analytics_enabled = False
    return context


def _routed(frame: DataFrame, rules: Sequence[Rule]) -> DataFrame:
    """The rows with the warnings that each breaks, and what would become of them.

    ``published`` is 1 for a row that breaks no warning and 0 for one that goes to quarantine;
    ``quarantined_share`` is that of the row's day, 0 where only a few rows of it are bad.
    """
    warnings = [rule for rule in rules if rule.severity is Severity.WARNING]

    def broken(value_of: Any) -> Any:
        found = [F.when(rule.broken(), F.lit(value_of(rule))) for rule in warnings]
        return F.array_compact(F.array(*found)) if found else F.array().cast("array<string>")

    marked = frame.withColumns(
        {_RULES: broken(lambda rule: rule.name), _REASONS: broken(lambda rule: rule.reason)}
    ).withColumn(_PUBLISHED, (F.size(_RULES) == 0).cast("bigint"))
    of_day = Window.partitionBy(DAY)
    bad = F.sum(1 - F.col(_PUBLISHED)).over(of_day)
    share = F.when(bad > _FEW_QUARANTINED, bad / F.count("*").over(of_day)).otherwise(0.0)
    return marked.withColumn(_QUARANTINED_SHARE, share)


def _quarantine_expectation(schema: Schema) -> gxe.Expectation:
    return gxe.ExpectColumnMaxToBeBetween(
        column=_QUARANTINED_SHARE,
        max_value=schema.limits.max_quarantined_share,
        severity=Severity.CRITICAL.value,
        meta={"rule": "largest share of a day's rows in quarantine"},
    )


def _expectation(rule: Rule) -> gxe.Expectation:
    column, severity = rule.columns[0], rule.severity.value
    meta = {"rule": rule.name}
    if rule.check is Check.PRESENT:
        return gxe.ExpectColumnValuesToNotBeNull(column=column, severity=severity, meta=meta)
    if rule.check is Check.RANGE:
        return gxe.ExpectColumnValuesToBeBetween(
            column=column,
            min_value=rule.minimum,
            max_value=rule.maximum,
            severity=severity,
            meta=meta,
        )
    if rule.check is Check.VOCABULARY:
        return gxe.ExpectColumnValuesToBeInSet(
            column=column, value_set=list(rule.values), severity=severity, meta=meta
        )
    if rule.check is Check.UNIQUE:
        return _unique_expectation(rule, meta)
    query = f"SELECT * FROM {{batch}} WHERE {_sql(rule)}"
    return gxe.UnexpectedRowsExpectation(
        unexpected_rows_query=query, severity=severity, meta=meta, description=rule.reason
    )


def _unique_expectation(rule: Rule, meta: dict[str, str]) -> gxe.Expectation:
    severity = rule.severity.value
    if len(rule.columns) == 1:
        return gxe.ExpectColumnValuesToBeUnique(
            column=rule.columns[0], severity=severity, meta=meta
        )
    return gxe.ExpectCompoundColumnsToBeUnique(
        column_list=list(rule.columns), severity=severity, meta=meta
    )


def _sql(rule: Rule) -> str:
    """The rules that Great Expectations has no expectation for, as Spark SQL."""
    column = f"`{rule.columns[0]}`"
    if rule.check is Check.LENGTH:
        return f"size({column}) > {rule.maximum:g}"
    if rule.check is Check.DAY:
        return f"to_date({column}) != {DAY}"
    values = ", ".join("'" + value.replace("'", "\\'") + "'" for value in rule.values)
    return f"exists({column}, value -> value IS NULL OR value NOT IN ({values}))"


def _day_expectations(
    schema: Schema, published: Mapping[datetime.date, int]
) -> list[gxe.Expectation]:
    """What days must look like as a whole; of their numbers of rows see ``row_counts``."""
    limits, rows = schema.limits, sum(published.values())
    expectations = [_quarantine_expectation(schema)] if published else []
    if rows:
        severity = Severity.CRITICAL if rows >= _SMALLEST_DAY_FOR_LABEL_RATE else Severity.INFO
        label_rate = gxe.ExpectColumnMeanToBeBetween(
            column=LABEL,
            min_value=limits.min_positive_rate,
            max_value=limits.max_positive_rate,
            severity=severity.value,
            meta={"rule": "label rate"},
        )
        expectations.append(label_rate)
    return expectations


def _trailing_rows(work: Workspace, days: Sequence[datetime.date]) -> list[int]:
    """Published rows of the days before a single day; a range is not compared with others."""
    if len(days) > 1:
        return []
    first = days[0] - work.schema.limits.trailing_days * ONE_DAY
    trailing = work.lake.days_between(IMPRESSIONS, first, days[0] - ONE_DAY)
    return [work.lake.manifest(IMPRESSIONS, day).rows for day in trailing]


def _severity(result: dict[str, Any]) -> str:
    return str(result["expectation_config"].get("severity") or Severity.CRITICAL.value)


def _sentence(result: dict[str, Any]) -> str:
    """One broken rule: its name, what was seen, what was asked for."""
    config, seen = result["expectation_config"], result.get("result") or {}
    rule = (config.get("meta") or {}).get("rule") or config["kwargs"].get("column", "table")
    error = (result.get("exception_info") or {}).get("exception_message")
    if error:
        return f"{rule}: could not be checked: {str(error).splitlines()[0][:200]}"
    asked = {k: v for k, v in config["kwargs"].items() if k.endswith("_value") or k == "type_"}
    numbers = {k: seen[k] for k in ("observed_value", "unexpected_count") if k in seen}
    return f"{rule}: {json.dumps(numbers, default=str)}; expected {json.dumps(asked, default=str)}"
