"""The two versions of a rollout on the cluster, and the command that tries the second one."""

from collections.abc import Callable
from typing import Any

CONTROL, CANDIDATE = "2025-06-01-aaaa", "2025-06-02-bbbb"
CANDIDATE_MODEL = ["--version", CANDIDATE, "--storage-uri", "s3://models/new"]
BRIEF = ["--min-requests", "200", "--max-error-rate-increase", "0.05"]
"""Few requests cannot show that errors are few."""
PATIENT = ["--ready-timeout-seconds", "20"]
"""Far longer than it takes on a busy machine."""
NEVER_READY = ["--ready-timeout-seconds", "1"]
"""For what is never ready."""
STANDARD, KNATIVE = [], ["--mode", "Knative"]


def try_canary(call: Callable[..., Any], *arguments: str) -> Any:
    """Try the candidate; the exit code and the JSON object."""
    return call("canary", *CANDIDATE_MODEL, *PATIENT, *arguments)


def promote(call: Callable[..., Any], *arguments: str) -> Any:
    """Promote the candidate; the exit code and the JSON object."""
    return call("promote", "--version", CANDIDATE, *PATIENT, *arguments)
