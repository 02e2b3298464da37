"""Labels: their rates by day, and columns that know them already."""

from collections.abc import Iterator

from features.draft.checks.findings import Finding, Level
from features.draft.checks.landed import Landed
from features.draft.checks.reading import DAY_OF_FILE
from features.draft.checks.rules import key_of
from features.draft.log.leaks import MOST_LIKELY_AUC, label_sql, single_column_auc
from features.draft.log.sample import quoted
from features.schema import Dtype, Kind, Label

_NUMBERS = {Dtype.INT64, Dtype.FLOAT64}
_FAR = 3.0
"""How many times the prior may be from the rate that was seen."""


def rates_in_words(landed: Landed) -> Iterator[str]:
    """The rate of each label, next to the declared one; of labels that are final."""
    for label in landed.schema.labels:
        if label.column in landed.columns:
            positive = _positive(label)
            rows, rate = landed.row(
                f"SELECT count({positive}), avg({positive}) FROM {landed.table}"
            )
            found = (
                "no row has its final label" if rate is None else f"{rate:.2%} of {rows:,.0f} rows"
            )
            yield f"{label.name} {found} (prior_rate {label.prior_rate:g})"


def label_rates(landed: Landed) -> Iterator[Finding]:
    """Labels that are always the same, days with implausible rates, a prior that is far away."""
    for label in landed.schema.labels:
        if label.column not in landed.columns:
            continue
        key, positive = f"labels.{label.name}", _positive(label)
        rows, rate = landed.row(f"SELECT count({positive}), avg({positive}) FROM {landed.table}")
        if rate is None:
            continue
        if rate in {0.0, 1.0}:
            said = (
                f"all {rows:,.0f} rows are {'positive' if rate else 'negative'} ({label.column} of "
                f"{label.positive_from:g} or more is positive): there is nothing to learn"
            )
            yield Finding(Level.ERROR, key, "constant-label", said)
            continue
        if not label.prior_rate / _FAR <= rate <= 1 - (1 - label.prior_rate) / _FAR:
            said = f"{label.prior_rate:g}, and {rate:.2%} of the rows are positive"
            yield Finding(Level.WARNING, f"{key}.prior_rate", "label-rate", said)
        if label.name == landed.schema.target:
            yield from _days_outside(landed, positive)


def _days_outside(landed: Landed, positive: str) -> Iterator[Finding]:
    limits = landed.schema.limits
    found = landed.connection.execute(
        f"SELECT {DAY_OF_FILE}, avg({positive}) AS rate FROM {landed.table} GROUP BY 1 ORDER BY 1"
    ).fetchall()
    for day, rate in found:
        if rate is None:
            continue
        if not limits.min_positive_rate <= rate <= limits.max_positive_rate:
            side = "min" if rate < limits.min_positive_rate else "max"
            limit = getattr(limits, f"{side}_positive_rate")
            said = (
                f"{rate:.2%} of the rows of {day} are positive; at "
                f"{'least' if side == 'min' else 'most'} {limit:.2%}: the day stops"
            )
            yield Finding(Level.ERROR, f"limits.{side}_positive_rate", "label-rate", said)


def leaks(landed: Landed) -> Iterator[Finding]:
    """Columns of which one alone tells the target: known only after the impression."""
    schema = landed.schema
    label = schema.label
    if label.column not in landed.columns:
        return
    of_labels = {one.column for one in schema.labels}
    for column in (*schema.context, *schema.stored):
        skipped = column.name in of_labels or column.name not in landed.columns
        if skipped or column.dtype.is_list or column.dtype is Dtype.TIMESTAMP:
            continue
        name = quoted(column.name)
        auc = single_column_auc(
            landed.connection,
            landed.table,
            name if column.dtype in _NUMBERS else f"nullif({name}, '')",
            _positive(label),
            is_number=column.dtype in _NUMBERS,
        )
        if auc is None or auc <= MOST_LIKELY_AUC:
            continue
        key, known = (
            key_of(schema, column.name),
            f"tells the label {label.name} by itself (AUC {auc:.3f})",
        )
        if column.kind is Kind.STORED:
            said = f"{known}; it is stored and no input: let it stay so"
            yield Finding(Level.INFO, key, "leak", said)
        else:
            said = (
                f"{known}: it is known only after the impression, no request has it; move it to "
                "stored"
            )
            yield Finding(Level.ERROR, key, "leak", said)


def _positive(label: Label) -> str:
    return label_sql(quoted(label.column), label.positive_from)
