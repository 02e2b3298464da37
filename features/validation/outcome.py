"""What a check found, in numbers, and in sentences for people."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from features.schema import Severity


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What checking one table found."""

    table: str
    rows: int
    """That came in."""
    quarantined: int
    critical: list[str]
    """Broken critical rules, with what was seen; empty when the day may go on."""
    reported: list[str]
    """Broken information rules, with what was seen."""
    broken_rules: dict[str, int]
    """Rows that each broken warning sent to quarantine."""
    data_docs: str
    """Path of the Data Docs below the reports folder."""
    candidate: str = ""
    """Where the candidate that was judged is listed."""
    files: Sequence[str] = ()
    """What would be published, below the table's folder."""


def severity(result: dict[str, Any]) -> str:
    """That of an expectation's result."""
    return str(result["expectation_config"].get("severity") or Severity.CRITICAL.value)


def sentence(result: dict[str, Any]) -> str:
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
