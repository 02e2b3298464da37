"""Great Expectations: the suite that the schema's rules become, and its run.

Great Expectations is imported here only. ``features.validation.checks`` acts on what a run finds.
"""

import dataclasses
import datetime
import functools
import json
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import great_expectations as gx
import great_expectations.expectations as gxe
from great_expectations.core import config_provider
from great_expectations.core.yaml_handler import YAMLHandler
from great_expectations.execution_engine import SparkDFExecutionEngine
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from features.places import Place, get_folder, is_local, local_root, put_changed, uri
from features.schema import DAY, LABEL, Schema, Severity
from features.validation.row_rules import PUBLISHED, QUARANTINED_SHARE, RULES, Check, Rule

_DOCS = "gx/uncommitted/data_docs/local_site/index.html"
_CLOCK_SECONDS = 1.0
"""By which a file's time may be behind the clock."""
_BROKEN_VALUES = 20
"""That the Data Docs show of each rule."""
_SMALLEST_DAY_FOR_LABEL_RATE = 500
"""Below it a label rate outside the limits is chance, and only reported."""


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


class Suite:
    """The Great Expectations side of one table's check: define, then run.

    Only ``run`` may be called while other suites run.
    """

    def __init__(self, schema: Schema, table: str, struct: Any, reports: Place) -> None:
        self.name = f"{schema.name}-{table}"
        self.table = table
        self.struct = struct
        self.published = reports / schema.name / "expectations"
        self.root = _project(self.published, schema.name)
        self.since = time.time() - _CLOCK_SECONDS
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
        """Validate rows as ``row_rules.mark_broken_rules`` marks them; the caller caches them."""
        rows = frame.count()
        result = self._validate(frame)
        if any((found["result"] or {}).get("unexpected_count") for found in result["results"]):
            self._forget_results()
            self.checkpoint.result_format = _counts_and(_BROKEN_VALUES)
            self.checkpoint.save()
            result = self._validate(frame)
        counts = frame.select(F.explode(RULES).alias("rule")).groupBy("rule").count()
        broken: dict[str, int] = dict(counts.collect())
        quarantined = frame.where(F.col(PUBLISHED) == 0).count() if broken else 0
        failed = [r for r in result["results"] if not r["success"]]
        return Outcome(
            table=self.table,
            rows=rows,
            quarantined=quarantined,
            critical=[_sentence(r) for r in failed if _severity(r) == Severity.CRITICAL],
            reported=[_sentence(r) for r in failed if _severity(r) == Severity.INFO],
            broken_rules=broken,
            data_docs=f"{self.published.parent.name}/{self.published.name}/{_DOCS}",
        )

    def _validate(self, frame: DataFrame) -> dict[str, Any]:
        results = self.checkpoint.run(batch_parameters={"dataframe": frame}).run_results
        self.result_ids = list(results)
        found: dict[str, Any] = next(iter(results.values())).to_json_dict()
        return found

    def _forget_results(self) -> None:
        """Remove the results of the last run, which another run replaces."""
        for result in self.result_ids:
            _context(self.root).validation_results_store.remove_key(result)


def _project(published: Place, dataset: str) -> Path:
    """The folder of a data set's project: Great Expectations writes to a disk alone.

    Of a project in an object store this machine has a copy, taken before its first check.
    """
    if is_local(published):
        return Path(uri(published))
    folder = local_root() / "expectations" / dataset
    if not folder.exists():
        get_folder(published, folder)
    return folder


def _counts_and(values: int) -> dict[str, Any]:
    """Results with the numbers of rows, and so many of the values that break a rule.

    BASIC: SUMMARY adds another query for each expectation, and COMPLETE all broken rows.
    """
    return {"result_format": "BASIC", "partial_unexpected_count": values}


def update_docs(suites: Sequence[Suite]) -> None:
    """Write the Data Docs pages of what the suites last found."""
    results = [result for suite in suites for result in suite.result_ids]
    named = [result.expectation_suite_identifier for result in results]
    suite = suites[0]
    _context(suite.root).build_data_docs(resource_identifiers=[*named, *results])
    if not is_local(suite.published):
        put_changed(suite.root, suite.published, since=suite.since)


class _SharedYaml(YAMLHandler):
    """A parser of settings that threads may share, as Great Expectations does.

    Without the lock, two checks at once read each other's documents ("found another document").
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def load(self, stream: Any) -> Any:
        """Load in one thread at a time."""
        with self._lock:
            return super().load(stream)


def _without_empty_queries(resolve: Callable[..., dict[Any, Any]]) -> Callable[..., dict[Any, Any]]:
    """``resolve_metrics`` of the Spark engine, without its queries for no values.

    Great Expectations asks Spark for the broken values of each expectation, also where it is to
    keep none of them: on a day without any, half of its queries.
    """

    def resolve_metrics(
        engine: Any, metrics_to_resolve: Collection[Any], *arguments: Any, **options: Any
    ) -> dict[Any, Any]:
        skipped = {metric.id for metric in metrics_to_resolve if _asks_for_no_values(metric)}
        wanted = {metric for metric in metrics_to_resolve if metric.id not in skipped}
        found = resolve(engine, wanted, *arguments, **options) if wanted else {}
        return {**found, **{metric: [] for metric in skipped}}

    return resolve_metrics


def _asks_for_no_values(metric: Any) -> bool:
    limits = metric.metric_value_kwargs.get("result_format")
    is_none = isinstance(limits, dict) and limits.get("partial_unexpected_count") == 0
    return is_none and str(metric.metric_name).endswith(".unexpected_values")


@functools.cache
def _adapt_library() -> None:
    """Patch Great Expectations, once for the process."""
    config_provider.yaml = _SharedYaml()
    engine: Any = SparkDFExecutionEngine
    engine.resolve_metrics = _without_empty_queries(engine.resolve_metrics)


@functools.cache
def _context(root: Path) -> Any:
    """The Great Expectations project of one data set, opened once."""
    _adapt_library()
    root.mkdir(parents=True, exist_ok=True)
    context = gx.get_context(mode="file", project_root_dir=str(root))
    context.variables.progress_bars = {"globally": False}
    context.variables.analytics_enabled = False
    return context


def quarantine_expectation(schema: Schema) -> gxe.Expectation:
    """The largest share of a day's rows that may go to quarantine."""
    return gxe.ExpectColumnMaxToBeBetween(
        column=QUARANTINED_SHARE,
        max_value=schema.limits.max_quarantined_share,
        severity=Severity.CRITICAL.value,
        meta={"rule": "largest share of a day's rows in quarantine"},
    )


def _expectation(rule: Rule) -> gxe.Expectation:
    column, *others = rule.columns
    known: dict[str, Any] = {"severity": rule.severity.value, "meta": {"rule": rule.name}}
    match rule.check:
        case Check.PRESENT:
            return gxe.ExpectColumnValuesToNotBeNull(column=column, **known)
        case Check.RANGE:
            known |= {"min_value": rule.minimum, "max_value": rule.maximum}
            return gxe.ExpectColumnValuesToBeBetween(column=column, **known)
        case Check.VOCABULARY:
            values = list(rule.values)
            return gxe.ExpectColumnValuesToBeInSet(column=column, value_set=values, **known)
        case Check.UNIQUE if others:
            return gxe.ExpectCompoundColumnsToBeUnique(column_list=list(rule.columns), **known)
        case Check.UNIQUE:
            return gxe.ExpectColumnValuesToBeUnique(column=column, **known)
    query = f"SELECT * FROM {{batch}} WHERE {_sql(rule)}"
    return gxe.UnexpectedRowsExpectation(
        unexpected_rows_query=query, description=rule.reason, **known
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


def day_expectations(
    schema: Schema, published: Mapping[datetime.date, int]
) -> list[gxe.Expectation]:
    """Expectations of whole days; ``checks`` has their numbers of rows."""
    limits, rows = schema.limits, sum(published.values())
    expectations = [quarantine_expectation(schema)] if published else []
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


def _severity(result: dict[str, Any]) -> str:
    return str(result["expectation_config"].get("severity") or Severity.CRITICAL.value)


def _sentence(result: dict[str, Any]) -> str:
    """One broken rule: its name, the observed values, the expected ones."""
    config, seen = result["expectation_config"], result.get("result") or {}
    rule = (config.get("meta") or {}).get("rule") or config["kwargs"].get("column", "table")
    error = (result.get("exception_info") or {}).get("exception_message")
    if error:
        return f"{rule}: could not be checked: {str(error).splitlines()[0][:200]}"
    expected = {k: v for k, v in config["kwargs"].items() if k.endswith("_value") or k == "type_"}
    numbers = {k: seen[k] for k in ("observed_value", "unexpected_count") if k in seen}
    return (
        f"{rule}: {json.dumps(numbers, default=str)}; expected {json.dumps(expected, default=str)}"
    )
