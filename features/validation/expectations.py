"""Great Expectations: the suites that the schema's rules become, and their run.

One suite judges the rows that would be published: their types, and the rules that are no warnings.
The other judges the days by their numbers: the share in quarantine, and what the warnings sent
there. ``features.validation.checks`` acts on what is found.
"""

import time
from collections.abc import Sequence
from typing import Any

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd
from pyspark.sql import DataFrame

from features.places import Place, is_local, put_changed
from features.schema import DAY, LABEL, Schema, Severity
from features.spark.row_rules import Check, Routing, Rule, warnings
from features.validation.gx_project import project, project_folder
from features.validation.outcome import Outcome, sentence, severity

_DOCS = "gx/uncommitted/data_docs/local_site/index.html"
_CLOCK_SECONDS = 1.0
"""By which a file's time may be behind the clock."""
_QUARANTINED_SHARE = "quarantined_share"
_BROKEN_VALUES = 20
"""That the Data Docs show of each rule."""
SMALLEST_DAY_FOR_LABEL_RATE = 500
"""Below it a label rate outside the limits is chance, and only reported."""


class Suite:
    """The Great Expectations side of one table's check: define, then run.

    Only ``run`` may be called while other suites run.
    """

    def __init__(self, schema: Schema, table: str, struct: Any, reports: Place) -> None:
        self.name = f"{schema.name}-{table}"
        self.schema = schema
        self.table = table
        self.struct = struct
        self.published = reports / schema.name / "expectations"
        self.root = project_folder(self.published, schema.name)
        self.since = time.time() - _CLOCK_SECONDS
        self.routed = Routing({}, {}, {}, {})
        self.checkpoint: Any = None
        self.of_days: Any = None
        self.result_ids: list[Any] = []

    def define(
        self, rules: Sequence[Rule], routed: Routing, whole: Sequence[gxe.Expectation] = ()
    ) -> None:
        """Write both suites.

        Args:
            rules: Rules of the rows.
            routed: Where the rows went that came in.
            whole: Expectations of all rows together that would be published.
        """
        self.routed = routed
        typed = [
            gxe.ExpectColumnValuesToBeOfType(
                column=field.name, type_=type(field.dataType).__name__, severity="critical"
            )
            for field in self.struct.fields
        ]
        sources = project(self.root).data_sources
        others = [rule for rule in rules if rule.severity is not Severity.WARNING]
        self.checkpoint = self._checkpoint(
            sources.add_or_update_spark(name=self.name),
            self.name,
            [*typed, *map(_expectation, others), *whole],
        )
        name = f"{self.name}-days"
        self.of_days = self._checkpoint(
            sources.add_or_update_pandas(name=name),
            name,
            [
                _largest_share(self.schema),
                *(_routed(rule, routed.values.get(rule.name, ())) for rule in warnings(rules)),
            ],
        )

    def _checkpoint(self, source: Any, name: str, expectations: Sequence[Any]) -> Any:
        batch = source.add_dataframe_asset(name=self.table).add_batch_definition_whole_dataframe(
            "rows"
        )
        suite = gx.ExpectationSuite(name=name, expectations=list(expectations))
        definition = gx.ValidationDefinition(name=name, data=batch, suite=suite)
        # It adds or updates what it consists of, and each time all are compared with each other.
        return project(self.root).checkpoints.add_or_update(
            gx.Checkpoint(
                name=name, validation_definitions=[definition], result_format=_counts_and(0)
            )
        )

    def run(self, frame: DataFrame) -> Outcome:
        """Judge the rows that would be published, which the caller caches, and the days."""
        routed = self.routed
        result = self._validate(self.checkpoint, frame)
        if any((found["result"] or {}).get("unexpected_count") for found in result["results"]):
            self._forget_results()
            self.checkpoint.result_format = _counts_and(_BROKEN_VALUES)
            self.checkpoint.save()
            result = self._validate(self.checkpoint, frame)
        of_days = self._validate(self.of_days, _numbers(routed))
        results = [*result["results"], *of_days["results"]]
        failed = [found for found in results if not found["success"]]
        broken = {name: sum(of_day.values()) for name, of_day in routed.broken.items()}
        return Outcome(
            table=self.table,
            rows=sum(routed.rows.values()),
            quarantined=sum(routed.quarantined.values()),
            critical=[sentence(found) for found in failed if severity(found) == Severity.CRITICAL],
            reported=[sentence(found) for found in failed if severity(found) == Severity.INFO],
            broken_rules={name: rows for name, rows in broken.items() if rows},
            data_docs=f"{self.published.parent.name}/{self.published.name}/{_DOCS}",
        )

    def _validate(self, checkpoint: Any, frame: Any) -> dict[str, Any]:
        results = checkpoint.run(batch_parameters={"dataframe": frame}).run_results
        self.result_ids += results
        found: dict[str, Any] = next(iter(results.values())).to_json_dict()
        return found

    def _forget_results(self) -> None:
        """Remove the results of the last run, which another run replaces."""
        for result in self.result_ids:
            project(self.root).validation_results_store.remove_key(result)
        self.result_ids = []


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
    project(suite.root).build_data_docs(resource_identifiers=[*named, *results])
    if not is_local(suite.published):
        put_changed(suite.root, suite.published, since=suite.since)


def _numbers(routed: Routing) -> pd.DataFrame:
    """One row a day: rows that came in, the share in quarantine, and the rows by warning."""
    days = sorted(routed.rows)
    columns: dict[str, list[object]] = {
        DAY: [str(day) for day in days],
        "rows": [routed.rows[day] for day in days],
        _QUARANTINED_SHARE: [routed.quarantined_share(day) for day in days],
    }
    for name, of_day in routed.broken.items():
        columns[name] = [of_day.get(day, 0) for day in days]
    return pd.DataFrame(columns)


def _largest_share(schema: Schema) -> gxe.Expectation:
    """The largest share of a day's rows that may go to quarantine."""
    return gxe.ExpectColumnMaxToBeBetween(
        column=_QUARANTINED_SHARE,
        max_value=schema.limits.max_quarantined_share,
        severity=Severity.CRITICAL.value,
        meta={"rule": "largest share of a day's rows in quarantine"},
    )


def _routed(rule: Rule, values: Sequence[object]) -> gxe.Expectation:
    """How many rows a warning sent to quarantine, with some of their values."""
    shown = f"; such as {', '.join(map(str, values))}" if values else ""
    return gxe.ExpectColumnSumToBeBetween(
        column=rule.name,
        max_value=0,
        severity=Severity.WARNING.value,
        meta={"rule": rule.name, "notes": f"rows in quarantine: {rule.reason}{shown}"},
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
        is_short = "" if rule.minimum is None else f" OR size({column}) < {rule.minimum:g}"
        return f"size({column}) > {rule.maximum:g}{is_short}"
    if rule.check is Check.NUMBERS:
        return f"exists({column}, value -> {_no_number(rule)})"
    if rule.check is Check.DAY:
        return f"to_date({column}) != {DAY}"
    values = ", ".join("'" + value.replace("'", "\\'") + "'" for value in rule.values)
    return f"exists({column}, value -> value IS NULL OR value NOT IN ({values}))"


def _no_number(rule: Rule) -> str:
    limits = [(">", rule.maximum), ("<", rule.minimum)]
    outside = [f"value {sign} {limit:g}" for sign, limit in limits if limit is not None]
    infinite = "abs(value) = double('infinity')"
    return " OR ".join(["value IS NULL", "isnan(value)", infinite, *outside])


def label_expectations(schema: Schema, rows: int) -> list[gxe.Expectation]:
    """Expectations of the labels of so many rows together."""
    if not rows:
        return []
    severity = Severity.CRITICAL if rows >= SMALLEST_DAY_FOR_LABEL_RATE else Severity.INFO
    return [
        gxe.ExpectColumnMeanToBeBetween(
            column=LABEL,
            min_value=schema.limits.min_positive_rate,
            max_value=schema.limits.max_positive_rate,
            severity=severity.value,
            meta={"rule": "label rate"},
        )
    ]
