"""The run of a command as OpenLineage sees it: it starts, and it ends in one of several ways."""

import dataclasses
import datetime
import logging
import os
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from features.lineage.observed import Observed, observing
from features.lineage.settings import has_receiver, is_disabled

if TYPE_CHECKING:
    from features.lineage.events import JobDescription
    from features.lineage.sender import Sender

logger = logging.getLogger(__name__)

JOBS: Mapping[str, frozenset[str]] = {
    "features": frozenset(
        {"ingest", "validate", "build", "materialize", "examples", "history", "quarantine readmit"}
    ),
    "training": frozenset({"train", "upscale", "export", "evaluate"}),
    "serving": frozenset({"canary", "promote", "rollback"}),
}
"""Commands by package that make one version of something from another."""
_SKIPPED = 99
_Ended = TypeVar("_Ended", bound=tuple[int, Mapping[str, object]])


def run_with_events(
    run: Callable[[], _Ended],
    asked: object,
    *,
    package: str,
    command: str,
    fingerprint: Callable[[str], str],
) -> _Ended:
    """Run a command, with an event at its start and one at its end.

    Args:
        run: Returns its exit code and summary.
        asked: Its request.
        package: Whose command it is.
        command: Its name.
        fingerprint: Of the schema of a data set, by the data set's name.

    Returns:
        What ``run`` returned.
    """
    if command not in JOBS.get(package, ()) or getattr(asked, "dataset", None) is None:
        return run()
    if is_disabled():
        return run()
    with observing() as observed:
        events = _started(asked, package, command, fingerprint)
        try:
            ended = run()
        except BaseException:  # such as Ctrl-C; no command's own error comes here
            _end(events, observed, "ABORT")
            raise
        _end_with(events, observed, *ended)
        return ended


_Events = tuple["JobDescription", "Sender"]


def _started(
    asked: object, package: str, command: str, fingerprint: Callable[[str], str]
) -> _Events | None:
    """Send the first event; None where that cannot be, and no other is sent either."""
    try:
        # A quarter of a second of a core, for jobs alone.
        from features.lineage.sender import Sender

        job = _description(asked, package, command, fingerprint)
        to = Sender(f"{job.name}.{job.run_id}", has_receiver=has_receiver())
    except Exception:
        logger.warning("events of lineage: none of this job", exc_info=True)
        return None
    events = (job, to)
    _emit(events, Observed(), "START")
    return events


def _description(
    asked: object, package: str, command: str, fingerprint: Callable[[str], str]
) -> "JobDescription":
    from openlineage.client.uuid import generate_new_uuid

    from features.lineage.events import JobDescription

    dataset = str(getattr(asked, "dataset", ""))
    days = getattr(asked, "days", None) or [getattr(asked, "date", None)]
    assert dataclasses.is_dataclass(asked)
    assert not isinstance(asked, type)
    fields = {one.name: getattr(asked, one.name) for one in dataclasses.fields(asked)}
    return JobDescription(
        run_id=str(generate_new_uuid()),
        package=package,
        command=command,
        dataset=dataset,
        fingerprint=fingerprint(dataset),
        parameters={
            # An address may have a password before its host.
            name: re.sub("//[^/]*@", "//", str(value))
            for name, value in fields.items()
            if value is not None
        },
        first_day=days[0],
        last_day=days[-1],
        environment=dict(os.environ),
    )


def _end_with(
    events: _Events | None, observed: Observed, code: int, summary: Mapping[str, object]
) -> None:
    if code in (0, _SKIPPED):
        _end(events, observed, "COMPLETE", skipped=str(summary.get("skipped", "")))
    else:
        _end(events, observed, "FAIL", error=str(summary.get("error") or f"exit code {code}"))


def _end(events: _Events | None, observed: Observed, state: str, **said: str) -> None:
    if events is not None:
        _emit(events, observed, state, **said)
        events[1].close()


def _emit(events: _Events, observed: Observed, state: str, **said: str) -> None:
    from openlineage.client.event_v2 import RunState

    from features.lineage.events import event

    job, to = events
    moment = datetime.datetime.now(datetime.UTC)
    try:
        to.send(event(job, RunState[state], observed, moment=moment, **said))
    except Exception:
        logger.warning("events of lineage: no %s", state, exc_info=True)
