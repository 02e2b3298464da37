"""The rules that rows must keep, counted over landed files before any of them is ingested."""

import dataclasses
from collections.abc import Iterator, Sequence

from features.draft.checks.findings import LEVEL_OF, Finding, Level
from features.draft.checks.landed import Landed
from features.draft.checks.reading import DAY_OF_FILE
from features.draft.log.sample import quoted, text
from features.schema import EXAMPLE_ID, EXAMPLE_KEY, REQUEST_TIME, Schema, Severity
from features.spark.row_rules import Check, Rule, impression_rules

_SHOWN = 3
_FEW_QUARANTINED = 5


def broken_rules(landed: Landed, of_rows: Sequence[Rule] | None = None) -> Iterator[Finding]:
    """Rows that break a rule of the schema: what is missing, out of its limits, or not known.

    ``of_rows`` are the rules; None: those of impressions.
    """
    of_rows = impression_rules(landed.schema) if of_rows is None else of_rows
    rules = [rule for rule in of_rows if _is_counted(rule, landed)]
    if not rules:
        return
    counted = ", ".join(f"count(*) FILTER ({broken(rule)})" for rule in rules)
    rows, *counts = landed.row(f"SELECT count(*), {counted} FROM {landed.table}")
    for rule, count in zip(rules, counts, strict=True):
        if count:
            yield _finding(landed, rule, int(count), int(rows))
    yield from _quarantined(landed, [r for r in rules if r.severity is Severity.WARNING])


def shared_requests(landed: Landed) -> Iterator[Finding]:
    """Requests whose id several users have."""
    request, user = landed.schema.request, landed.schema.user
    if request is None or user is None:
        return
    name = quoted(request.name)
    shared = (
        f"SELECT {name} FROM {landed.table} GROUP BY {name} "
        f"HAVING count(DISTINCT {quoted(user.name)}) > 1"
    )
    rows, found, example = landed.row(
        f"SELECT count(*), count(*) FILTER ({name} IN ({shared})), "
        f"min({name}) FILTER ({name} IN ({shared})) FROM {landed.table}"
    )
    if found:
        said = (
            f"{found:,.0f} of {rows:,.0f} rows ({found / rows:.2%}) are of requests with rows of "
            f"several users, such as {example}: they go to quarantine. Is it the id of a session, "
            "or is it unique within a day alone?"
        )
        yield Finding(Level.WARNING, "request", "shared-request", said)


def broken(rule: Rule) -> str:
    """True for rows that break a rule, in SQL."""
    value = quoted(rule.columns[0])
    words = ", ".join(map(text, rule.values)) or "NULL"
    match rule.check:
        case Check.PRESENT:
            return f"{value} IS NULL"
        case Check.RANGE:
            low = "false" if rule.minimum is None else f"{value} < {rule.minimum}"
            high = "false" if rule.maximum is None else f"{value} > {rule.maximum}"
            return f"coalesce({low} OR {high} OR isnan({value}::DOUBLE), false)"
        case Check.VOCABULARY:
            return f"coalesce({value} NOT IN ({words}), false)"
        case Check.LENGTH:
            short = "" if rule.minimum is None else f" OR len({value}) < {rule.minimum}"
            return f"coalesce(len({value}) > {rule.maximum}{short}, false)"
        case Check.NUMBERS:
            outside = broken(dataclasses.replace(rule, check=Check.RANGE, columns=("x",)))
            bad = f"list_filter({value}, x -> x IS NULL OR isinf(x) OR {outside})"
            return f"coalesce(len({bad}) > 0, false)"
        case Check.ELEMENTS:
            unknown = f"list_filter({value}, x -> x IS NULL OR x NOT IN ({words}))"
            return f"coalesce(len({unknown}) > 0, false)"
        case Check.DAY:
            return f"coalesce({value}::DATE <> {DAY_OF_FILE}, false)"
        case _:
            raise ValueError(f"rule {rule.name}: check {rule.check} is none of a single row")


def _is_counted(rule: Rule, landed: Landed) -> bool:
    """Rules of single rows; moments on other days and ids that are there twice are others'."""
    others = {Check.UNIQUE, Check.FREQUENCY, Check.DAY, Check.ONE_USER}
    return rule.check not in others and rule.columns[0] in landed.columns


def _finding(landed: Landed, rule: Rule, count: int, rows: int) -> Finding:
    column, level = rule.columns[0], LEVEL_OF[rule.severity]
    key, what = key_of(landed.schema, column), f"{count:,} of {rows:,} rows ({count / rows:.2%})"
    effect = {
        Level.ERROR: "the day stops",
        Level.WARNING: "they go to quarantine",
        Level.INFO: "they are reported",
    }[level]
    if rule.check is Check.PRESENT:
        return Finding(level, key, "missing-value", f"{what} {_missing(landed, column)}: {effect}")
    if rule.check in {Check.VOCABULARY, Check.ELEMENTS}:
        said = f"{what} have {_unseen(landed, rule)}, which the vocabulary lacks: {effect}"
        return Finding(level, f"{key}.vocabulary", "unseen-value", said)
    if rule.check is Check.NUMBERS:
        said = f"{what} have a number that is missing, infinite or out of its limits: {effect}"
        return Finding(level, key, "out-of-range", said)
    if rule.check is Check.LENGTH:
        most = "more than" if rule.minimum is None else "not"
        said = f"{what} have {most} {rule.maximum:g} values: {effect}"
        return Finding(level, f"{key}.max_length", "long-list", said)
    low, high = landed.row(
        f"SELECT min({quoted(column)}), max({quoted(column)}) FROM {landed.table}"
    )
    side = "minimum" if rule.minimum is not None and low < rule.minimum else "maximum"
    said = f"{what} are outside {rule.minimum} to {rule.maximum}; values are {low:g} to {high:g}: "
    return Finding(level, f"{key}.{side}", "out-of-range", said + effect)


def _missing(landed: Landed, column: str) -> str:
    """What is wrong where a value is missing: it is not there, or cannot be read."""
    unread = landed.unreadable(column)
    if unread is None:
        return "have no value"
    return (
        f"have no value, or one that cannot be read as {unread.dtype}, such as {unread.value!r} "
        f"({unread.where})"
    )


def _unseen(landed: Landed, rule: Rule) -> str:
    column = quoted(rule.columns[0])
    words = ", ".join(map(text, rule.values)) or "NULL"
    value = f"unnest({column})" if rule.check is Check.ELEMENTS else column
    found = landed.connection.execute(
        f"SELECT v, count(*) AS n FROM (SELECT {value} AS v FROM {landed.table}) "
        f"WHERE v NOT IN ({words}) GROUP BY v ORDER BY n DESC, v LIMIT {_SHOWN + 1}"
    ).fetchall()
    shown = ", ".join(f"{value!r} ({rows:,})" for value, rows in found[:_SHOWN])
    return shown + (" and others" if len(found) > _SHOWN else "")


def _quarantined(landed: Landed, rules: list[Rule]) -> Iterator[Finding]:
    """Days of which too large a share would go to quarantine."""
    most = landed.schema.limits.max_quarantined_share
    if not rules:
        return
    any_broken = " OR ".join(f"({broken(rule)})" for rule in rules)
    found = landed.connection.execute(
        f"SELECT {DAY_OF_FILE}, count(*), count(*) FILTER ({any_broken}) FROM {landed.table} "
        f"GROUP BY {DAY_OF_FILE} ORDER BY {DAY_OF_FILE}"
    ).fetchall()
    for day, rows, bad in found:
        if bad > _FEW_QUARANTINED and bad / rows > most:
            yield Finding(
                Level.ERROR,
                str(day),
                "quarantine",
                f"{bad:,} of {rows:,} rows ({bad / rows:.2%}) would go to quarantine; at most "
                f"{most:.0%} (limits.max_quarantined_share): the day stops",
            )


def key_of(schema: Schema, column: str) -> str:
    """The key of the schema file that declares a column of impressions."""
    if column in {EXAMPLE_ID, EXAMPLE_KEY}:
        return EXAMPLE_ID
    for name, columns in (("context", schema.context), ("stored", schema.stored)):
        if any(one.name == column for one in columns):
            return f"{name}.{column}"
    if schema.user is not None and schema.user.name == column:
        return "user"
    if schema.item.name == column:
        return "item"
    return "source.time" if column == REQUEST_TIME.name else "request"
